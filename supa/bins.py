"""Bins of about equal numbers of values."""

from typing import Any

import numpy as np
import numpy.typing as npt

from supa.arrays import IntArray

MOST_SEPARATE = 20
"""So many different energies, or fewer, count as discrete and get a bin each."""


def distinct_bins(values: npt.NDArray[Any], most: int, *, least: int = 1, separate: int = 0) -> list[IntArray]:
    """Sort values into bins, from low to high; equal values are in the same bin.

    Args:
        values: (n,) numbers, at least one.
        most: number of bins of about equal size, at most.
        least: number of values of such a bin, at least.
        separate: if there are so many different values, or fewer, and most of them several times, each gets a bin.

    Returns:
        The indices of the values of each bin.
    """
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    n = len(ordered)
    changes = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))  # where another value begins
    if len(changes) <= separate and 2 * len(changes) <= n:
        return np.split(order, changes[1:])
    sizes = [len(part) for part in np.array_split(order, max(1, min(most, n // least)))]
    starts: list[int] = []
    for ideal in np.cumsum([0, *sizes[:-1]]):
        start = int(changes[np.abs(changes - ideal).argmin()])
        if not starts or (start - starts[-1] >= least and n - start >= least):
            starts.append(start)
    return np.split(order, starts[1:])
