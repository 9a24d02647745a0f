"""What an answer is worth that looks at no hit, or only counts them: what a model must beat."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from supa.arrays import FloatArray, IntArray
from supa.serialise import Config
from supa_mamba.showers import PackedShowers, Reading

_BINS = 40
"""Bins of the number of hits, with about equally many training showers each."""


@dataclass(frozen=True)
class Rivals(Config):
    """Answers learnt from the training showers without looking at where the hits are.

    Args:
        constant: the most frequent class, or the mean value.
        edges: inner edges of the bins of the number of hits; none where each hit is asked for.
        by_count: the most frequent class, or the mean value, in each bin.
    """

    constant: float
    edges: tuple[float, ...]
    by_count: tuple[float, ...]

    @classmethod
    def fit(cls, train: PackedShowers, reading: Reading) -> "Rivals":
        """Learn the answers.

        Args:
            train: the showers to train on.
            reading: what the numbers mean.

        Returns:
            The answers.
        """
        target = train.target.cpu().numpy()
        if not reading.classes:
            target = target.astype(np.float64) * reading.spread + reading.mean

        def answer(values: Any) -> float:
            return float(np.bincount(values).argmax() if reading.classes else values.mean())

        constant = answer(target)
        if reading.about.level == "hit":
            return cls(constant, (), (constant,))
        edges = np.unique(np.quantile(train.counts, np.linspace(0, 1, _BINS + 1)[1:-1]))
        place = np.searchsorted(edges, train.counts, side="right")
        by_count = [answer(target[place == k]) if (place == k).any() else constant for k in range(len(edges) + 1)]
        return cls(constant, tuple(edges.tolist()), tuple(by_count))

    def of_counts(self, counts: IntArray) -> FloatArray:
        """Answer from the number of hits.

        Args:
            counts: (showers,) number of hits.

        Returns:
            (showers,) class, or value.
        """
        place = np.searchsorted(np.array(self.edges), counts, side="right")
        return np.asarray(np.array(self.by_count)[place])
