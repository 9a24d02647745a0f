"""Showers as sets of points."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import torch

from supa.checks import did_you_mean
from supa_datasets.loaders.column_batch import ColumnBatch, Item, RaggedColumn, padded
from supa_datasets.loaders.dataset import NormalisedDataset
from supa_datasets.loaders.normalisation import Normalisation
from supa_datasets.loaders.source import Sample, SourceLike
from supa_datasets.loaders.splits import SPLITS

Form = Literal["packed", "padded", "reference"]


class PointDataset(NormalisedDataset):
    """Showers as sets of points, one for each hit.

    An item is a dictionary: ``points`` (hits, features) float32, and each target by its name. A batch depends on
    ``form``:

    - ``"packed"``: ``points`` of all showers behind each other, ``offset`` (batch + 1,) int64;
    - ``"padded"``: ``points`` (batch, most hits, features), zero behind the last hit, ``valid`` (batch, most hits),
      True for hits;
    - ``"reference"``: ``set``, ``mask`` and ``cardinality``, as the public SUPA loader has them: padded points, a mask
      that is True for padding, and the numbers of hits.

    Targets with one value a shower are stacked, those with one value a hit are packed or padded like the points.

    Args:
        showers: Showers, a ShowerFile, a path, or a list of these.
        features: what a point is made of: x, y, z, slice, layer, energy, energy_fraction.
        normalisation: a Normalisation; ``"fit"`` to fit one on up to 10,000 showers of the split ``train``, with
            the logarithm of energies; None to leave the features as they are.
        split: ``"train"``, ``"validation"``, ``"test"`` or ``"all"``; the shower's index decides.
        fractions: name and fraction of each split.
        targets: names of targets; see ``TARGETS``.
        form: of a batch.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a name is unknown, the normalisation is for other features, or a file is damaged.
    """

    def __init__(
        self,
        showers: SourceLike,
        *,
        features: Iterable[str] = ("x", "y", "z", "energy"),
        normalisation: Normalisation | Literal["fit"] | None = None,
        split: str = "all",
        fractions: Mapping[str, float] = SPLITS,
        targets: Iterable[str] = (),
        form: Form = "packed",
    ) -> None:
        super().__init__(
            showers, features=features, normalisation=normalisation, split=split, fractions=fractions, targets=targets
        )
        if form not in ("packed", "padded", "reference"):
            raise ValueError(
                f"form: {form!r} was given, but it must be 'packed', 'padded' or 'reference'."
                f"{did_you_mean(form, ('packed', 'padded', 'reference'))}"
            )
        self.form = form

    def _column_batch(self, sample: Sample) -> ColumnBatch:
        hits = sample.showers.hits
        each, rows = self._target_columns(sample, hits)
        return ColumnBatch(len(hits), each, {"points": RaggedColumn(self._features(sample, hits), hits.offset)} | rows)

    def collate(self, items: Sequence[Item]) -> dict[str, Any]:
        """Make a batch.

        Args:
            items: some items.

        Returns:
            The batch, in this dataset's form.
        """
        columns = ColumnBatch.of(items, ["points", *self._hit_targets])
        if self.form == "packed":
            offset = torch.from_numpy(columns.rows["points"].offset)
            return columns.each | {name: rows.values for name, rows in columns.rows.items()} | {"offset": offset}
        points, valid = padded(columns.rows["points"])
        batch = columns.each | {name: padded(columns.rows[name])[0] for name in self._hit_targets}
        if self.form == "padded":
            return batch | {"points": points, "valid": valid}
        return batch | {"set": points, "mask": ~valid, "cardinality": valid.sum(dim=1)}
