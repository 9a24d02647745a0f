"""What every loader is: a map-style PyTorch dataset over showers, with splits and targets by name."""

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
"""A normalisation is fitted on every n-th training shower, so that there are at most so many."""

_LOGARITHM = frozenset({"energy", "energy_fraction"})


class ShowerDataset(Dataset[Item]):
    """Showers as items of a PyTorch dataset; each kind of loader says what an item is.

    It may be pickled into, or inherited by, the workers of a ``torch.utils.data.DataLoader``, which takes whole batches
    at once. Give that DataLoader ``collate_fn=dataset.collate``.

    Args:
        showers: Showers, a ShowerFile, a path, or a list of these.
        split: ``"train"``, ``"validation"``, ``"test"`` or ``"all"``; the shower's index decides.
        fractions: name and fraction of each split.
        targets: names of targets; see ``TARGETS``.
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
            raise TypeError(f"An item is asked for by a whole number, not {number!r}; for several use a DataLoader.")
        if not -len(self) <= number < len(self):
            raise IndexError(f"Item {number} was asked for, but there are only {len(self)}.")
        return self.__getitems__([number])[0]

    def __getitems__(self, numbers: Sequence[int]) -> Sequence[Any]:
        """Return some items, read at once; a DataLoader calls this."""
        return self._column_batch(self.source.take(self.numbers[np.asarray(numbers, dtype=np.int64)]))

    def _column_batch(self, sample: Sample) -> ColumnBatch:
        raise NotImplementedError

    @property
    def num_points(self) -> IntArray:
        """(items,) number of points of each item."""
        return self._sizes()[self.numbers]

    def _sizes(self) -> IntArray:
        """Return the number of points of every shower of the source."""
        return self.source.num_hits

    def batches(
        self, batch_size: int | None = None, *, max_points: int | None = None, shuffle: bool = False, seed: int = 0
    ) -> BucketSampler:
        """Make a batch sampler that puts showers of like size together: ``DataLoader(..., batch_sampler=...)``.

        Args:
            batch_size: showers of a batch; this or ``max_points`` is needed, and both may be given.
            max_points: the most points of a batch, padding included.
            shuffle: a new order in each epoch.
            seed: names the orders.

        Returns:
            The sampler.

        Raises:
            ValueError: neither limit was given, or a shower is larger than a batch may be.
        """
        return BucketSampler(self.num_points, batch_size, max_points=max_points, shuffle=shuffle, seed=seed)

    def _training(self, fractions: Mapping[str, float]) -> IntArray:
        """Number the showers that a normalisation is fitted on."""
        if "train" not in fractions:
            raise ValueError(
                f"normalisation: 'fit' needs a split named train, but the splits are {', '.join(fractions)}; give a "
                "Normalisation."
            )
        training = np.flatnonzero(in_split(self.source.index, "train", fractions))
        if not len(training):
            raise ValueError("normalisation: 'fit' was given, but there is no training shower to fit it on.")
        # Evenly over all parts of the source.
        return training[:: -(-len(training) // FITTED_SHOWERS)]

    def _target_columns(self, sample: Sample, points: Ragged) -> tuple[dict[str, Any], dict[str, RaggedColumn]]:
        """Compute the targets: those with one value a shower, and those with one value a point."""
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
    """A loader whose points are made of features, normalised if so wished.

    Args:
        showers: Showers, a ShowerFile, a path, or a list of these.
        features: what a point is made of: x, y, z, slice, layer, energy, energy_fraction.
        normalisation: a Normalisation; ``"fit"`` to fit one on up to 10,000 showers of the split ``train``, with
            the logarithm of energies; None to leave the features as they are.
        split: ``"train"``, ``"validation"``, ``"test"`` or ``"all"``; the shower's index decides.
        fractions: name and fraction of each split.
        targets: names of targets; see ``TARGETS``.
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
                f"normalisation: one of {', '.join(self.normalisation.features)} was given, but the features are "
                f"{', '.join(self.features)}."
            )

    def _fitted(self, fractions: Mapping[str, float]) -> Normalisation:
        sample = self.source.take(self._training(fractions))
        values = feature_matrix(self.features, sample.showers, self._points(sample))
        return Normalisation.fit(self.features, values, logarithm=tuple(f in _LOGARITHM for f in self.features))

    def _points(self, sample: Sample) -> Ragged:
        """Return the points of some showers."""
        return sample.showers.hits

    def _features(self, sample: Sample, points: Ragged) -> Any:
        """Compute the (normalised) features of points: (points, features) float32."""
        values = feature_matrix(self.features, sample.showers, points)
        return torch.from_numpy(values if self.normalisation is None else self.normalisation.apply(values))
