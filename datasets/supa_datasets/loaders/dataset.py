"""Base classes of the loaders: map-style PyTorch datasets of showers with splits and targets."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import torch
from torch.utils.data import Dataset

from supa import Ragged
from supa.arrays import IntArray
from supa.checks import counted
from supa_datasets.loaders.batches import BucketSampler
from supa_datasets.loaders.column_batch import ColumnBatch, Item, RaggedColumn
from supa_datasets.loaders.normalisation import Normalisation, resolve_normalisation
from supa_datasets.loaders.source import Sample, ShowerSource, SourceLike
from supa_datasets.loaders.splits import SPLITS, in_split
from supa_datasets.loaders.targets import feature_matrix, features_of, target_values, targets_of

FITTED_SHOWERS = 10_000
"""Maximum number of training showers to which a normalisation is fitted; they are spread evenly over the source."""

_LOGARITHM = frozenset({"energy", "energy_fraction"})


class ShowerDataset(Dataset[Item]):
    """A map-style PyTorch dataset of showers; subclasses define the items.

    The dataset can be pickled or inherited by the workers of a ``torch.utils.data.DataLoader``, which requests a
    complete batch at once. Pass ``collate_fn=dataset.collate`` to the ``DataLoader``.

    Args:
        showers: A `supa.Showers` object, a `ShowerFile`, a path, or a list of these.
        split: Name of a split in ``fractions``, or ``"all"``. The index of a shower selects its split, see `in_split`.
        fractions: Fraction of each split by name; the default is 0.8 for ``"train"``, 0.1 for ``"validation"`` and 0.1
            for ``"test"``.
        targets: Names of targets out of ``TARGETS``.
        columns: Columns of the points, which limit the targets.
    """

    def __init__(
        self,
        showers: SourceLike,
        *,
        split: str = "all",
        fractions: Mapping[str, float] = SPLITS,
        targets: Iterable[str] = (),
        columns: Iterable[str] = ("x", "y", "energy", "slice", "layer", "primary"),
    ) -> None:
        self.source = ShowerSource(showers)
        self.numbers: IntArray = np.flatnonzero(in_split(self.source.index, split, fractions))
        self.targets = targets_of(targets, self.source.runs, columns=columns)

    def __len__(self) -> int:
        return len(self.numbers)

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {len(self):,} of {counted(len(self.source), 'shower')}>"

    def __getitem__(self, number: int) -> Any:
        """Return one item."""
        if isinstance(number, bool) or not isinstance(number, int | np.integer):
            raise TypeError(
                f"The index of an item must be an integer, got {number!r}; use a DataLoader for several items."
            )
        if not -len(self) <= number < len(self):
            raise IndexError(f"Item {number} is out of range for a dataset of size {len(self)}.")
        return self.__getitems__([number])[0]

    def __getitems__(self, numbers: Sequence[int]) -> Sequence[Any]:
        """Return several items, which are read at once; called by a ``DataLoader``."""
        return self.items_of(self.source.take(self.numbers[np.asarray(numbers, dtype=np.int64)]))

    def items_of(self, sample: Sample) -> Sequence[Any]:
        """Return the items of showers, which need not belong to the source.

        Args:
            sample: Showers of the same configs as those of the source.

        Returns:
            The items, which ``collate`` combines into a batch.
        """
        return self._column_batch(sample)

    def _column_batch(self, sample: Sample) -> ColumnBatch:
        raise NotImplementedError

    @property
    def num_points(self) -> IntArray:
        """Number of points of each item, (items,) int64."""
        return self._sizes()[self.numbers]

    def _sizes(self) -> IntArray:
        """Return the number of points of every shower of the source."""
        return self.source.num_hits

    def batches(
        self, batch_size: int | None = None, *, max_points: int | None = None, shuffle: bool = False, seed: int = 0
    ) -> BucketSampler:
        """Create a batch sampler that groups showers of similar size, for ``DataLoader(..., batch_sampler=...)``.

        Args:
            batch_size: Maximum number of showers per batch; None for no limit.
            max_points: Maximum number of points per batch including padding; None for no limit. Give at least one of
                the two limits.
            shuffle: Whether to draw a new order in each epoch.
            seed: Random seed of the orders.

        Returns:
            The sampler.

        Raises:
            ValueError: If no limit was given, or a shower exceeds ``max_points``.
        """
        return BucketSampler(self.num_points, batch_size, max_points=max_points, shuffle=shuffle, seed=seed)

    def _training(self, fractions: Mapping[str, float]) -> IntArray:
        """Return the positions of the showers to which a normalisation is fitted."""
        if "train" not in fractions:
            raise ValueError(
                f"normalisation='fit' needs a split named train, but the splits are {', '.join(fractions)}; pass a "
                "Normalisation instead."
            )
        training = np.flatnonzero(in_split(self.source.index, "train", fractions))
        if not len(training):
            raise ValueError("normalisation='fit' needs training showers, but the split train is empty.")
        # Evenly spaced over all parts of the source.
        return training[:: -(-len(training) // FITTED_SHOWERS)]

    def _target_columns(self, sample: Sample, points: Ragged) -> tuple[dict[str, Any], dict[str, RaggedColumn]]:
        """Compute the targets: those with one value per shower, and those with one value per point."""
        values = {
            target: torch.from_numpy(target_values(target, sample, points, self.source.runs)) for target in self.targets
        }
        each = {target.name: v for target, v in values.items() if target.level == "shower"}
        return each, {
            target.name: RaggedColumn(v, points.offset) for target, v in values.items() if target.level == "hit"
        }

    @property
    def _hit_targets(self) -> list[str]:
        return [target.name for target in self.targets if target.level == "hit"]


class NormalisedDataset(ShowerDataset):
    """A dataset whose points have features, which can be normalised.

    Args:
        showers: A `supa.Showers` object, a `ShowerFile`, a path, or a list of these.
        features: Features of a point, out of x, y, z, slice, layer, energy and energy_fraction.
        normalisation: A `Normalisation`; ``"fit"`` to fit one to up to 10,000 showers of the split ``"train"``, using
            the logarithm of energies; None for unchanged features.
        split: Name of a split in ``fractions``, or ``"all"``. The index of a shower selects its split, see `in_split`.
        fractions: Fraction of each split by name; the default is 0.8 for ``"train"``, 0.1 for ``"validation"`` and 0.1
            for ``"test"``.
        targets: Names of targets out of ``TARGETS``.
        columns: Columns of the points, which limit the targets.
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
        columns: Iterable[str] = ("x", "y", "energy", "slice", "layer", "primary"),
    ) -> None:
        super().__init__(showers, split=split, fractions=fractions, targets=targets, columns=columns)
        self.features = features_of(features, columns=columns)
        self.normalisation = resolve_normalisation(normalisation, lambda: self._fitted(fractions))
        if self.normalisation is not None and self.normalisation.features != self.features:
            raise ValueError(
                f"The normalisation is for the features {', '.join(self.normalisation.features)}, but the dataset has "
                f"{', '.join(self.features)}."
            )

    def _fitted(self, fractions: Mapping[str, float]) -> Normalisation:
        sample = self.source.take(self._training(fractions))
        values = feature_matrix(self.features, sample.showers, self._points(sample))
        return Normalisation.fit(self.features, values, logarithm=tuple(f in _LOGARITHM for f in self.features))

    def _points(self, sample: Sample) -> Ragged:
        """Return the points of the showers."""
        return sample.showers.hits

    def _features(self, sample: Sample, points: Ragged) -> Any:
        """Compute the features of points, normalised if requested: (points, features) float32."""
        values = feature_matrix(self.features, sample.showers, points)
        return torch.from_numpy(values if self.normalisation is None else self.normalisation.apply(values))
