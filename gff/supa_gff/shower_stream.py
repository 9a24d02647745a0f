"""Graphs of showers that are simulated during the training."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from supa.checks import check_int
from supa.presets import ConfigLike
from supa_datasets import Nearest, ShowerStream, Within
from supa_datasets.loaders.dataset import FITTED_SHOWERS
from supa_gff.batch import Batch
from supa_gff.shower_encoding import graph_targets, node_columns
from supa_gff.showers import encoded_showers, fitted_encoding


class ShowerGraphStream:
    """Graphs of showers that are simulated during the training, with a prediction target.

    The first indices of the seed belong to the validation showers, which are simulated once. The following ones belong
    to the training showers. The encoding is fitted to the first 10,000 training showers, of which it uses the training
    split.

    Args:
        configs: Name of a preset, a `supa.ShowerConfig`, or a list of these, which are mixed at random with equal
            frequencies.
        task: Name of the task, one of ``SHOWER_TASKS``; see `shower_graphs`.
        edges: Rule for the edges between hits: ``Nearest(k)`` or ``Within(radius)``.
        seed: Random seed of the showers.
        batches_per_epoch: Number of training batches from one epoch to the next.
        validation_showers: Number of validation showers.
        device: Device of the training.

    Raises:
        ValueError: If the task does not exist, or the showers do not support it.

    Example:
        >>> from supa_gff import Network, ShowerGraphStream, preset, train
        >>> graphs = ShowerGraphStream("critical", "num_primaries", batches_per_epoch=3, validation_showers=20)
        >>> method = preset("best").replace(layers=2, epochs=2, batch_size=16)
        >>> network = Network.for_graphs(method, graphs.validation)
        >>> trainer = train(network, graphs)
        >>> trainer.task.units  # per epoch
        48
    """

    def __init__(
        self,
        configs: ConfigLike | Sequence[ConfigLike],
        task: str,
        *,
        edges: Nearest | Within = Nearest(8),  # noqa: B008  (frozen)
        seed: int = 0,
        batches_per_epoch: int = 400,
        validation_showers: int = 10_000,
        device: str | torch.device = "cpu",
    ) -> None:
        check_int(1, 10**9, "validation_showers", validation_showers)
        self._configs, self._seed, self._first = configs, seed, validation_showers
        self.batches_per_epoch, self.device = batches_per_epoch, torch.device(device)
        self.encoding = fitted_encoding(self._stream(1, validation_showers).showers(FITTED_SHOWERS), task, edges)
        """Conversion of hits into node features and targets."""
        self.validation = encoded_showers(self._stream(1, 0).showers(validation_showers), self.encoding).to(device)
        """The validation graphs, on the device."""

    @property
    def validation_indices(self) -> Tensor:
        """(graphs,) int64 indices of all validation graphs."""
        return torch.arange(len(self.validation), device=self.device)

    def stream(self, batch_size: int) -> ShowerStream:
        """Return the stream of the training showers.

        Args:
            batch_size: Number of showers per batch.

        Returns:
            The stream; `convert` turns its batches into those of a network.
        """
        definition = self.encoding.definition
        return self._stream(
            batch_size,
            self._first,
            edges=self.encoding.edges,
            features=definition.features,
            normalisation=self.encoding.normalisation,
            targets=graph_targets(definition),
        )

    def convert(self, batch: Any) -> Batch:
        """Convert a batch of the stream.

        Args:
            batch: Batch of PyTorch Geometric.

        Returns:
            The batch with encoded features and targets, on the CPU.

        Raises:
            ValueError: If it is a batch of another stream.
        """
        targets = graph_targets(self.encoding.definition)
        missing = [name for name in ("x", "pos", "edge_index", *targets) if name not in batch]
        if missing:
            raise ValueError(
                f"The batch has no {', '.join(missing)}; convert batches of the stream of the same graphs, from "
                "ShowerGraphStream.stream."
            )
        x, target = self.encoding.apply(node_columns(batch, targets))
        return Batch(x, batch.edge_index, batch.batch, batch.num_graphs, target)

    def _stream(self, batch_size: int, first: int, **options: Any) -> ShowerStream:
        return ShowerStream(self._configs, batch_size, seed=self._seed, first=first, form="graphs", **options)
