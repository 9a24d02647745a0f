"""Showers as sequences: ordered hits, or the paths from the primary to each hit."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import torch

from supa import Ragged
from supa.arrays import IntArray
from supa.checks import did_you_mean
from supa_datasets.loaders.column_batch import ColumnBatch, Item, RaggedColumn
from supa_datasets.loaders.dataset import NormalisedDataset
from supa_datasets.loaders.normalisation import Normalisation
from supa_datasets.loaders.ordering import along_tree, by_depth
from supa_datasets.loaders.source import Sample, SourceLike
from supa_datasets.loaders.splits import SPLITS
from supa_datasets.offsets import counts_to_offsets

Order = Literal["depth", "tree", "trajectories"]


class SequenceDataset(NormalisedDataset):
    """Showers as sequences of points in packed batches.

    An item is a dictionary with ``points`` (points, features) float32 and one entry per target. With the orders
    ``"depth"`` and ``"tree"``, an item is one sequence of hits. With ``"trajectories"``, an item contains one sequence
    per hit: the path of particles from the primary to the hit. The paths are concatenated in the order of the hits,
    ``lengths`` (hits,) int64 are their lengths, and targets of hits have one value per path.

    A batch has

    - ``points`` (all points, features): the concatenated sequences;
    - ``cu_seqlens`` (sequences + 1,) int32: the offset of each sequence;
    - ``max_seqlen``: the length of the longest sequence, an integer;
    - the targets: those of showers are stacked, those of hits are concatenated;
    - with ``"trajectories"`` also ``offset`` (showers + 1,) int64: the paths of shower k are ``offset[k]`` to
      ``offset[k + 1]``.

    Args:
        showers: A `supa.Showers` object, a `ShowerFile`, a path, or a list of these.
        order: ``"depth"`` for hits by slice and descending energy, ``"tree"`` for hits in the order of a depth-first
            walk through the tree, or ``"trajectories"`` for paths. The last two need recorded particles.
        features: Features of a point, out of ``"x"``, ``"y"``, ``"z"`` (length unit), ``"slice"``,
            ``"layer"``, ``"energy"`` (GeV) and ``"energy_fraction"`` (fraction of the incident energy);
            paths have no layer.
        normalisation: A `Normalisation`; ``"fit"`` to fit one to up to 10,000 showers of the split ``"train"``, using
            the logarithm of energies; None for unchanged features.
        split: Name of a split in ``fractions``, or ``"all"``. The index of a shower selects its split, see `in_split`.
        fractions: Fraction of each split by name; the default is 0.8 for ``"train"``, 0.1 for ``"validation"`` and 0.1
            for ``"test"``.
        targets: Names of targets out of ``TARGETS``. Their tensors are float32, or int64 for whole numbers.

    Raises:
        FileNotFoundError: If a file does not exist.
        ValueError: If a name is unknown, the normalisation is for other features, the tree was not recorded, or a file
            is damaged.

    Example:
        >>> import supa
        >>> from supa_datasets import SequenceDataset
        >>> showers = supa.simulate(20, "standard", seed=1)
        >>> dataset = SequenceDataset(showers, order="depth", features=("energy", "slice"))
        >>> batch = dataset.collate([dataset[0], dataset[1], dataset[2]])
        >>> batch["points"].shape, batch["cu_seqlens"].tolist(), batch["max_seqlen"]
        (torch.Size([216, 2]), [0, 57, 188, 216], 131)
    """

    def __init__(
        self,
        showers: SourceLike,
        *,
        order: Order = "depth",
        features: Iterable[str] = ("x", "y", "z", "energy"),
        normalisation: Normalisation | Literal["fit"] | None = None,
        split: str = "all",
        fractions: Mapping[str, float] = SPLITS,
        targets: Iterable[str] = (),
    ) -> None:
        if order not in ("depth", "tree", "trajectories"):
            raise ValueError(
                f"order: {order!r} was given, but it must be 'depth', 'tree' or 'trajectories'."
                f"{did_you_mean(order, ('depth', 'tree', 'trajectories'))}"
            )
        self.order = order
        super().__init__(
            showers, features=features, normalisation=normalisation, split=split, fractions=fractions, targets=targets
        )
        if order == "trajectories" and "layer" in self.features:
            raise ValueError("features: 'layer' was given, but the particles on a path have no layer; use slice.")
        if order != "depth" and not self.source.has_particles:
            raise ValueError(f"order: {order!r} needs recorded particles; simulate with record='particles'.")

    def _sizes(self) -> IntArray:
        return self.source.path_lengths if self.order == "trajectories" else self.source.num_hits

    def _points(self, sample: Sample) -> Ragged:
        """Return the points with one group per shower; paths are concatenated."""
        showers = sample.showers
        if self.order == "trajectories":
            paths = showers.trajectories()
            return Ragged(paths.columns, paths.offset[showers.offset])
        rows = by_depth(showers) if self.order == "depth" else along_tree(showers)
        return Ragged({name: column[rows] for name, column in showers.hits.columns.items()}, showers.offset)

    def _column_batch(self, sample: Sample) -> ColumnBatch:
        points, hits = self._points(sample), sample.showers.hits
        paths = self.order == "trajectories"
        each, rows = self._target_columns(sample, hits if paths else points)
        if paths:
            rows["lengths"] = RaggedColumn(torch.from_numpy(hits["slice"].astype(np.int64) + 1), hits.offset)
        return ColumnBatch(
            len(hits), each, {"points": RaggedColumn(self._features(sample, points), points.offset)} | rows
        )

    def collate(self, items: Sequence[Item]) -> dict[str, Any]:
        """Combine items into a packed batch, as the argument ``collate_fn`` of a ``DataLoader``.

        Args:
            items: Items of this dataset.

        Returns:
            The batch.
        """
        paths = self.order == "trajectories"
        columns = ColumnBatch.of(items, ["points", *self._hit_targets, *(["lengths"] if paths else [])])
        batch = columns.each | {name: rows.values for name, rows in columns.rows.items()}
        begins = torch.as_tensor(columns.rows["points"].offset)
        if paths:
            batch["offset"] = torch.from_numpy(columns.rows["lengths"].offset)
            begins = counts_to_offsets(batch.pop("lengths"))
        batch["cu_seqlens"] = begins.to(torch.int32)
        batch["max_seqlen"] = int(begins.diff().max()) if len(begins) > 1 else 0
        return batch
