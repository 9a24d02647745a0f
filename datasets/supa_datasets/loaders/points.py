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
    """Showers as sets of points, with one point per hit.

    An item is a dictionary with ``points`` (hits, features) float32 and one entry per target. The contents of a batch
    depend on ``form``:

    - ``"packed"``: ``points`` (all hits, features), and ``offset`` (batch + 1,) int64. The hits of shower k are
      ``points[offset[k]:offset[k + 1]]``.
    - ``"padded"``: ``points`` (batch, longest, features), padded with zeros, and ``valid`` (batch, longest) bool, True
      for hits.
    - ``"reference"``: ``set``, ``mask`` and ``cardinality`` as in the public SUPA loader: padded points, a mask that
      is True for padding, and the number of hits.

    Targets with one value per shower are stacked. Targets with one value per hit are packed or padded like the points.

    Args:
        showers: A `supa.Showers` object, a `ShowerFile`, a path, or a list of these.
        features: Features of a point, out of ``"x"``, ``"y"``, ``"z"`` (length unit), ``"slice"``,
            ``"layer"``, ``"energy"`` (GeV) and ``"energy_fraction"`` (fraction of the incident energy).
        normalisation: A `Normalisation`; ``"fit"`` to fit one to up to 10,000 showers of the split ``"train"``, using
            the logarithm of energies; None for unchanged features.
        split: Name of a split in ``fractions``, or ``"all"``. The index of a shower selects its split, see `in_split`.
        fractions: Fraction of each split by name; the default is 0.8 for ``"train"``, 0.1 for ``"validation"`` and 0.1
            for ``"test"``.
        targets: Names of targets out of ``TARGETS``. Their tensors are float32, or int64 for whole numbers.
        form: Layout of a batch: ``"packed"``, ``"padded"`` or ``"reference"``.

    Raises:
        FileNotFoundError: If a file does not exist.
        ValueError: If a name is unknown, the normalisation is for other features, or a file is damaged.

    Example:
        >>> import supa
        >>> from supa_datasets import PointDataset
        >>> from torch.utils.data import DataLoader
        >>> showers = supa.simulate(20, "standard", seed=1)
        >>> dataset = PointDataset(showers, targets=["incident_energy"])
        >>> batch = next(iter(DataLoader(dataset, batch_size=2, collate_fn=dataset.collate)))
        >>> batch["points"].shape, batch["offset"].tolist()
        (torch.Size([188, 4]), [0, 57, 188])
        >>> batch["incident_energy"]
        tensor([65., 65.])
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
        """Combine items into a batch, as the argument ``collate_fn`` of a ``DataLoader``.

        Args:
            items: Items of this dataset.

        Returns:
            The batch in the form of this dataset.
        """
        columns = ColumnBatch.of(items, ["points", *self._hit_targets])
        if self.form == "packed":
            offset = torch.as_tensor(columns.rows["points"].offset)
            return columns.each | {name: rows.values for name, rows in columns.rows.items()} | {"offset": offset}
        points, valid = padded(columns.rows["points"])
        batch = columns.each | {name: padded(columns.rows[name])[0] for name in self._hit_targets}
        if self.form == "padded":
            return batch | {"points": points, "valid": valid}
        return batch | {"set": points, "mask": ~valid, "cardinality": valid.sum(dim=1)}
