"""Showers as sequences: hits in an order, or the paths from the primary to each hit."""

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
    """Showers as sequences, in packed batches.

    An item is a dictionary with ``points`` (points, features) float32 and each target by its name. In the orders
    ``"depth"`` and ``"tree"`` it is one sequence of hits. With ``"trajectories"`` it holds one sequence for each hit,
    in the order of the hits: the path of particles from the primary to the hit, behind each other; ``lengths``
    (hits,) tells how long each is, and targets of hits have one value a path.

    A batch has ``points`` of all sequences behind each other, ``cu_seqlens`` (sequences + 1,) int32, at which each
    sequence begins, ``max_seqlen``, the length of the longest, and the targets: those of showers stacked, those of hits
    behind each other. With ``"trajectories"`` also ``offset`` (showers + 1,) int64: the paths of shower k are offset[k]
    to offset[k + 1].

    Args:
        showers: Showers, a ShowerFile, a path, or a list of these.
        order: ``"depth"``: by slice, then falling energy; ``"tree"``: as a depth-first walk along the tree meets the
            hits; ``"trajectories"``: the paths. The latter two need recorded particles.
        features: what a point is made of: x, y, z, slice, layer, energy, energy_fraction; paths have no layer.
        normalisation: a Normalisation; ``"fit"`` to fit one on up to 10,000 showers of the split ``train``, with
            the logarithm of energies; None to leave the features as they are.
        split: ``"train"``, ``"validation"``, ``"test"`` or ``"all"``; the shower's index decides.
        fractions: name and fraction of each split.
        targets: names of targets; see ``TARGETS``.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a name is unknown, the normalisation is for other features, the tree was not recorded, or a file is
            damaged.
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
            raise ValueError(f"order: {order!r} needs the recorded particles; generate with --record particles.")

    def _sizes(self) -> IntArray:
        return self.source.path_lengths if self.order == "trajectories" else self.source.num_hits

    def _points(self, sample: Sample) -> Ragged:
        """Return the points, one group a shower; those of paths behind each other."""
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
        """Make a packed batch.

        Args:
            items: some items.

        Returns:
            The batch.
        """
        paths = self.order == "trajectories"
        columns = ColumnBatch.of(items, ["points", *self._hit_targets, *(["lengths"] if paths else [])])
        batch = columns.each | {name: rows.values for name, rows in columns.rows.items()}
        begins = torch.from_numpy(columns.rows["points"].offset)
        if paths:
            batch["offset"] = torch.from_numpy(columns.rows["lengths"].offset)
            begins = counts_to_offsets(batch.pop("lengths"))
        batch["cu_seqlens"] = begins.to(torch.int32)
        batch["max_seqlen"] = int(begins.diff().max()) if len(begins) > 1 else 0
        return batch
