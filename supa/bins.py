"""Bins that contain about equal numbers of values."""

from typing import Any

import numpy as np
import numpy.typing as npt

from supa.arrays import IntArray

MOST_SEPARATE = 20
"""Largest number of distinct energies that count as discrete; each of them has its own bin."""


def distinct_bins(values: npt.NDArray[Any], most: int, *, least: int = 1, separate: int = 0) -> list[IntArray]:
    """Sort values into bins from low to high, with equal values in the same bin.

    Args:
        values: (n,) numbers, at least one.
        most: Maximum number of bins of about equal size.
        least: Minimum number of values in such a bin.
        separate: Each distinct value has its own bin if there are at most this many distinct values, which occur at
            least twice on average.

    Returns:
        Indices of the values in each bin.
    """
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    n = len(ordered)
    changes = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))  # where a new value begins
    if len(changes) <= separate and 2 * len(changes) <= n:
        return np.split(order, changes[1:])
    sizes = [len(part) for part in np.array_split(order, max(1, min(most, n // least)))]
    starts: list[int] = []
    for ideal in np.cumsum([0, *sizes[:-1]]):
        start = int(changes[np.abs(changes - ideal).argmin()])
        if not starts or (start - starts[-1] >= least and n - start >= least):
            starts.append(start)
    return np.split(order, starts[1:])
