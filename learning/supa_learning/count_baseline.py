"""Baselines that use only the number of points of an item."""

from dataclasses import dataclass
from typing import Self

import numpy as np

from supa.arrays import Array, FloatArray, IntArray
from supa.serialise import Config

_BINS = 40
"""Number of bins of the number of points; each bin has about the same number of training items."""


@dataclass(frozen=True)
class CountBaseline(Config):
    """A baseline that predicts from the number of points of an item, such as the number of hits of a shower.

    A model that does not beat it has learnt nothing beyond the number of points.

    Args:
        constant: The most frequent class or the mean value of all training items.
        edges: Inner edges of the bins of the number of points.
        by_count: The most frequent class or the mean value of each bin; one more than ``edges``.

    Example:
        >>> import supa
        >>> from supa_learning import CountBaseline
        >>> showers = supa.simulate(1000, "standard", energy="log:1:100", seed=1)
        >>> train, test = showers[:800], showers[800:]
        >>> baseline = CountBaseline.fit(train.incident_energy, train.num_hits, classes=False)
        >>> baseline.predict(test.num_hits).shape
        (200,)
    """

    constant: float
    edges: tuple[float, ...]
    by_count: tuple[float, ...]

    @classmethod
    def fit(cls, target: Array, counts: IntArray | None, *, classes: bool) -> Self:
        """Fit the baseline on the training items.

        Args:
            target: (items,) int64 classes, or float64 values.
            counts: (items,) int64 number of points of each item; None to fit only the constant.
            classes: Whether the targets are classes (True) or values (False).

        Returns:
            The baseline.
        """

        def answer(values: Array) -> float:
            return float(np.bincount(values).argmax() if classes else values.mean())

        constant = answer(target)
        if counts is None:
            return cls(constant, (), (constant,))
        edges = np.unique(np.quantile(counts, np.linspace(0, 1, _BINS + 1)[1:-1]))
        place = np.searchsorted(edges, counts, side="right")
        by_count = [answer(target[place == k]) if (place == k).any() else constant for k in range(len(edges) + 1)]
        return cls(constant, tuple(edges.tolist()), tuple(by_count))

    def predict(self, counts: IntArray) -> FloatArray:
        """Predict from the number of points.

        Args:
            counts: (items,) int64 number of points of each item.

        Returns:
            (items,) float64 class or value of each item.
        """
        place = np.searchsorted(np.array(self.edges), counts, side="right")
        return np.asarray(np.array(self.by_count)[place])
