"""The batches of a training: graphs, the nodes of one graph, or pairs of its nodes."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from supa_gff.data import Batch, GraphSet
from supa_learning.randomness import epoch_order

_VALIDATION_FACTOR = 4
"""Validation needs no backward pass, so its batches may be larger."""


@dataclass(frozen=True, eq=False)
class Pairs:
    """Training and validation pairs of nodes of one graph, for link prediction.

    Args:
        train: batch at link level: linked pairs, and as many others or a multiple.
        valid: batch at link level, with the same nodes and edges.
    """

    train: Batch
    valid: Batch


class TrainingData:
    """Batches of a graph set, or of pairs of nodes.

    Args:
        graphs: the set, or the pairs.
        train: (count,) int64 indices to train on: graphs, or nodes of a single graph; None for pairs.
        valid: indices to validate on; None for pairs.
        batch_size: number of graphs of a training batch.

    Raises:
        ValueError: indices are missing, are not integers, or are out of range.
    """

    def __init__(self, graphs: GraphSet | Pairs, train: Tensor | None, valid: Tensor | None, batch_size: int) -> None:
        self.graphs, self._size = graphs, batch_size
        self._train_batch: Batch | None = None
        if isinstance(graphs, Pairs):
            self.device = graphs.train.x.device
            return
        if graphs.level == "link":
            raise ValueError("Links are trained on Pairs(train, valid); split_links makes their batches.")
        if train is None or valid is None or len(train) == 0 or len(valid) == 0:
            raise ValueError("There must be indices to train on and indices to validate on; give both.")
        for name, indices in (("train", train), ("valid", valid)):
            _check_indices(name, indices, graphs)
        self.device = graphs.device
        self.train, self.valid = train.to(graphs.device), valid.to(graphs.device)

    @property
    def is_single_batch(self) -> bool:
        """Whether each epoch consists of the same single batch."""
        return isinstance(self.graphs, Pairs) or self.graphs.transductive

    @property
    def units(self) -> int:
        """Number of training graphs, nodes or pairs."""
        return self.graphs.train.num_units if isinstance(self.graphs, Pairs) else len(self.train)

    @property
    def num_batches(self) -> int:
        """Number of training batches of an epoch."""
        return 1 if self.is_single_batch else len(self._sizes)

    def batches(self, first: int, *key: int) -> Iterator[Batch]:
        """Return the training batches of an epoch.

        Args:
            first: the batch to begin with.
            *key: names the order of the graphs.

        Returns:
            The batches.
        """
        if self.is_single_batch:
            yield from [self.train_batch()][first:]
            return
        assert isinstance(self.graphs, GraphSet)
        order = torch.from_numpy(epoch_order(len(self.train), *key)).to(self.device)
        for indices in torch.split(self.train[order], self._sizes)[first:]:
            yield self.graphs.batch(indices)

    def validation_batches(self) -> Iterator[Batch]:
        """Return the validation batches."""
        if isinstance(self.graphs, Pairs):
            yield self.graphs.valid
        else:
            yield from self.graphs.batches(self.valid, _VALIDATION_FACTOR * self._size, known=self.train)

    def train_batch(self) -> Batch:
        """Return the training batch of nodes or pairs of one graph; the same object each time."""
        if isinstance(self.graphs, Pairs):
            return self.graphs.train
        if self._train_batch is None:
            self._train_batch = self.graphs.batch(self.train, self.train)
        return self._train_batch

    @property
    def _sizes(self) -> list[int]:
        full, rest = divmod(len(self.train), self._size)
        if rest == 1 and full:
            return [*[self._size] * (full - 1), self._size + 1]  # batch normalisation needs two graphs
        return [*[self._size] * full, *([rest] if rest else [])]


def _check_indices(name: str, indices: Tensor, graphs: GraphSet) -> None:
    if indices.dtype != torch.int64 or indices.dim() != 1:
        raise ValueError(f"{name} must be int64 indices; of a mask, take mask.nonzero().view(-1).")
    if int(indices.min()) < 0 or int(indices.max()) >= graphs.num_items:
        raise ValueError(
            f"{name} has indices from {int(indices.min())} to {int(indices.max())}, but the set has "
            f"{graphs.num_items} items, counted from 0."
        )
