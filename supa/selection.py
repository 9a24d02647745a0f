"""Indexing of showers: ``showers[key]`` and ``file[key]``."""

from typing import Any

import numpy as np

from supa.arrays import IntArray
from supa.checks import counted


def selected(key: Any, n: int) -> tuple[int, int] | IntArray:
    """Return the numbers of the showers that a key selects.

    Args:
        key: Integer, slice, boolean array (n,) or one-dimensional integer array. Negative numbers count from the end.
        n: Number of showers.

    Returns:
        Pair (start, stop) if the showers are consecutive, else an array of their numbers.

    Raises:
        IndexError: If a number is out of range or the key has another type.
    """
    if isinstance(key, slice):
        start, stop, step = key.indices(n)
        return (start, max(start, stop)) if step == 1 else np.arange(start, stop, step, dtype=np.int64)
    if isinstance(key, int | np.integer) and not isinstance(key, bool):
        k = int(_within(np.array([key]), n)[0])
        return k, k + 1
    try:
        numbers = np.asarray(key)
    except ValueError:  # rows of different lengths
        numbers = np.empty((0, 0))
    if numbers.ndim == 1 and numbers.dtype == np.bool_:
        if len(numbers) != n:
            raise IndexError(
                f"A mask of {counted(len(numbers), 'entry', 'entries')} was given for {counted(n, 'shower')}; "
                "use one entry per shower."
            )
        return np.flatnonzero(numbers)
    if numbers.ndim != 1 or not (np.issubdtype(numbers.dtype, np.integer) or len(numbers) == 0):
        raise IndexError(
            f"Index showers with an integer, a slice, or a one-dimensional boolean or integer array, not {key!r}."
        )
    return _within(numbers.astype(np.int64), n)


def _within(numbers: IntArray, n: int) -> IntArray:
    outside = numbers[(numbers < -n) | (numbers >= n)]
    if len(outside):
        raise IndexError(f"Shower {outside[0]} does not exist; there are {counted(n, 'shower')}, numbered from 0.")
    return np.where(numbers < 0, numbers + n, numbers)
