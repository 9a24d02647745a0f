"""What stands in the brackets of ``showers[...]`` and ``file[...]``."""

from typing import Any

import numpy as np

from supa.arrays import IntArray


def selected(key: Any, n: int) -> tuple[int, int] | IntArray:
    """Turn a key into the showers that it selects.

    Args:
        key: a whole number, a slice, or a one-dimensional boolean (n,) or integer array; negative numbers count from
            the end.
        n: number of showers.

    Returns:
        (start, stop) where the showers are neighbours in order, else their numbers.

    Raises:
        IndexError: the key selects what is not there, or is of another kind.
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
            raise IndexError(f"A mask of {len(numbers)} entries was given for {n} showers; give one entry a shower.")
        return np.flatnonzero(numbers)
    if numbers.ndim != 1 or not (np.issubdtype(numbers.dtype, np.integer) or len(numbers) == 0):
        raise IndexError(
            f"Showers take a whole number, a slice, or a one-dimensional boolean or integer array, not {key!r}."
        )
    return _within(numbers.astype(np.int64), n)


def _within(numbers: IntArray, n: int) -> IntArray:
    outside = numbers[(numbers < -n) | (numbers >= n)]
    if len(outside):
        raise IndexError(f"Shower {outside[0]} was asked for, but there are only {n}.")
    return np.where(numbers < 0, numbers + n, numbers)
