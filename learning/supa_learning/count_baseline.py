"""Baselines that use no more than the number of points: what a model must beat."""

from dataclasses import dataclass
from typing import Self

import numpy as np

from supa.arrays import Array, FloatArray, IntArray
from supa.serialise import Config

_BINS = 40
"""Bins of the number of points, with about equally many training items each."""


@dataclass(frozen=True)
class CountBaseline(Config):
    """Predictions from the number of points of an item, such as the hits of a shower.

    Args:
        constant: the most frequent class, or the mean value, of all training items.
        edges: inner edges of the bins of the number of points.
        by_count: the most frequent class, or the mean value, in each bin.
    """

    constant: float
    edges: tuple[float, ...]
    by_count: tuple[float, ...]

    @classmethod
    def fit(cls, target: Array, counts: IntArray | None, *, classes: bool) -> Self:
        """Fit the baseline on the training items.

        Args:
            target: (items,) int64 classes, or float64 values.
            counts: (items,) int64 number of points of each item; None: the constant alone is fitted.
            classes: whether the targets are classes.

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
            (items,) float64 class, or value.
        """
        place = np.searchsorted(np.array(self.edges), counts, side="right")
        return np.asarray(np.array(self.by_count)[place])
