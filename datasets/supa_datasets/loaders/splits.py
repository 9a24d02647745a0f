"""Named splits of showers: each shower belongs to one of them by its index alone, however many showers there are."""

from collections.abc import Mapping

import numpy as np

from supa.arrays import BoolArray, FloatArray, IntArray
from supa.checks import did_you_mean, format_value

SPLITS: Mapping[str, float] = {"train": 0.8, "validation": 0.1, "test": 0.1}
"""The default splits and their fractions."""


def in_split(index: IntArray, split: str, fractions: Mapping[str, float] = SPLITS) -> BoolArray:
    """Return which showers belong to a split.

    A shower's index, scrambled to a number from 0 to 1, decides. So a split stays what it was when a file grows, and
    showers of the same index are in the same split in every file.

    Args:
        index: (n,) int64, the attempt that became each shower.
        split: name of a split, or ``"all"``.
        fractions: name and fraction of each split; the fractions add up to 1.

    Returns:
        (n,) whether each shower belongs to the split.

    Raises:
        ValueError: there is no such split, or the fractions do not add up to 1.
    """
    try:
        values = np.array(list(fractions.values()), dtype=np.float64)
    except (AttributeError, TypeError, ValueError):
        values = np.array([np.nan])
    if not (values >= 0).all() or abs(values.sum() - 1) > 1e-9:
        raise ValueError(f"fractions: {format_value(fractions)} was given, but fractions are at least 0 and sum to 1.")
    if split == "all":
        return np.ones(len(index), dtype=np.bool_)
    if split not in fractions:
        raise ValueError(
            f"split: {format_value(split)} was given, but it must be one of {', '.join(fractions)} or all."
            f"{did_you_mean(split, [*fractions, 'all'])}"
        )
    number = list(fractions).index(split)
    edges = np.append(np.concatenate([[0.0], np.cumsum(values)])[:-1], 1.0)
    place = _scrambled(index)
    return np.asarray((place >= edges[number]) & (place < edges[number + 1]))


def _scrambled(index: IntArray) -> FloatArray:
    """Map whole numbers to [0, 1): SplitMix64's finaliser (Steele, Lea and Flood 2014, OOPSLA, figure 15)."""
    z = index.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    z = z ^ (z >> np.uint64(31))
    return (z >> np.uint64(11)).astype(np.float64) * 2.0**-53
