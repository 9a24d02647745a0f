"""Checks of samples, estimates with errors, and the standardisation of features."""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from supa.arrays import FloatArray
from supa.checks import LARGEST, counted, format_value

FARTHEST = 10.0
"""Limit of standardised values, in spreads. Without it, far tails would dominate every multivariate distance."""


QUANTILES = np.array([0.15865, 0.5, 0.84135])
"""In a normal distribution, the distance between the outer quantiles is two standard deviations."""


class Estimate(NamedTuple):
    """Value with its standard error.

    Args:
        value: The value.
        error: Its standard error. NaN if it is unknown.

    Example:
        >>> from supa.distances import Estimate
        >>> value, error = Estimate(0.5, 0.1)
        >>> value / error
        5.0
    """

    value: float
    error: float


def two_columns(true: npt.ArrayLike, generated: npt.ArrayLike) -> tuple[FloatArray, FloatArray]:
    """Check two samples of one observable.

    Args:
        true: (n,) values, NaN where the observable is undefined.
        generated: (m,) values.

    Returns:
        Both samples as float64.

    Raises:
        ValueError: If a sample is not an array of numbers with one axis, is empty, or contains an infinite value or a
            value beyond 1e30.
    """
    return _sample("true", true, 1), _sample("generated", generated, 1)


def two_matrices(true: npt.ArrayLike, generated: npt.ArrayLike, fewest: int = 1) -> tuple[FloatArray, FloatArray]:
    """Check two samples of the same features.

    Args:
        true: (n, k) values, NaN where a feature is undefined.
        generated: (m, k) values.
        fewest: Minimum number of rows of each sample.

    Returns:
        Both samples as float64.

    Raises:
        ValueError: If a sample is not a matrix of numbers, has too few rows, or contains an infinite value or a value
            beyond 1e30, or if the numbers of features differ.
    """
    first, second = _sample("true", true, 2), _sample("generated", generated, 2)
    if first.shape[1] != second.shape[1]:
        raise ValueError(
            f"Both samples must have the same columns, got {counted(first.shape[1], 'feature')} in the true sample "
            f"and {second.shape[1]:,} in the generated sample."
        )
    for name, rows in (("true", first), ("generated", second)):
        if len(rows) < fewest:
            raise ValueError(f"{name}: this distance needs at least {fewest} rows, got {len(rows)}.")
    return first, second


def array_of(given: npt.ArrayLike) -> npt.NDArray[Any]:
    """Convert an argument to an array.

    Args:
        given: Array or nested lists.

    Returns:
        The array. Lists of different lengths become an array of dtype object, which later checks reject.
    """
    try:
        return np.asarray(given)
    except ValueError:
        return np.asarray(None)


def _sample(name: str, given: npt.ArrayLike, dimensions: int) -> FloatArray:
    form = "(rows,)" if dimensions == 1 else "(rows, features)"
    values = array_of(given)
    if values.dtype.kind not in "biuf" or values.ndim != dimensions:
        what = f"{values.dtype} of shape {values.shape}" if values.ndim else format_value(given)
        raise ValueError(f"{name} must be an array of numbers of shape {form}, got {what}.")
    if 0 in values.shape:
        raise ValueError(f"{name}: a sample cannot be empty, got an array of shape {values.shape}.")
    values = values.astype(np.float64)
    infinite = np.abs(values) > LARGEST
    if infinite.any():
        where = "" if dimensions == 1 else f", the first in column {np.flatnonzero(infinite.any(axis=0))[0]}"
        number = int(np.count_nonzero(infinite))
        raise ValueError(
            f"{name}: {counted(number, 'value')} {'is' if number == 1 else 'are'} infinite or beyond {LARGEST:g}"
            f"{where}; remove these rows, or use NaN if an observable is undefined."
        )
    return values


def standardised(true: npt.ArrayLike, generated: npt.ArrayLike) -> tuple[FloatArray, FloatArray]:
    """Standardise the features of two samples with the median and the spread of the true sample.

    - The spread of a feature is half the distance between the 15.865 % and the 84.135 % quantiles. If this is zero, it
      is the standard deviation, or 1 if that is zero as well.
    - Values beyond 10 spreads are clipped.
    - Undefined values (NaN) become the true median. Each feature with undefined values in either sample gets an extra
      column, which is 1 for undefined values and 0 for all others. No row is lost, and a wrong fraction of undefined
      values remains visible.

    Args:
        true: (n, k) features of the true showers.
        generated: (m, k) features of the generated showers.

    Returns:
        (n, k + e) and (m, k + e) float64 without NaN, where e is the number of features with undefined values.

    Raises:
        ValueError: If a sample is not a matrix of numbers, is empty, or contains an infinite value or a value beyond
            1e30, or if the numbers of features differ.

    Example:
        >>> import numpy as np
        >>> from supa.distances import standardised
        >>> true = np.array([[1.0], [2.0], [3.0], [4.0], [5.0]])
        >>> first, second = standardised(true, [[3.0], [np.nan]])
        >>> first.round(2).tolist()
        [[-1.46, 0.0], [-0.73, 0.0], [0.0, 0.0], [0.73, 0.0], [1.46, 0.0]]
        >>> second.round(2).tolist()
        [[0.0, 0.0], [0.0, 1.0]]
    """
    first, second = two_matrices(true, generated)
    centre, spread = np.zeros(first.shape[1]), np.ones(first.shape[1])
    for k, column in enumerate(first.T):
        defined = column[~np.isnan(column)]
        if len(defined):
            low, centre[k], high = np.quantile(defined, QUANTILES)
            spread[k] = (high - low) / 2 or std_of(defined) or 1.0
    undefined = np.isnan(first), np.isnan(second)
    anywhere = undefined[0].any(axis=0) | undefined[1].any(axis=0)

    def scaled(values: FloatArray, gaps: npt.NDArray[np.bool_]) -> FloatArray:
        with np.errstate(over="ignore"):
            near = np.clip((values - centre) / spread, -FARTHEST, FARTHEST)
        return np.hstack([np.where(gaps, 0.0, near), gaps[:, anywhere].astype(np.float64)])

    return scaled(first, undefined[0]), scaled(second, undefined[1])


def std_of(values: FloatArray) -> float:
    """Compute the standard deviation. It is exactly zero for equal values.

    Args:
        values: (n,) values without NaN, n at least 1.

    Returns:
        The standard deviation (divided by n).
    """
    return 0.0 if values.min() == values.max() else float(values.std())


def shuffled_groups(rows: int, groups: int, random: np.random.Generator) -> list[npt.NDArray[np.int64]]:
    """Split rows into groups at random.

    Args:
        rows: Number of rows.
        groups: Number of groups.
        random: Random number generator.

    Returns:
        The row numbers of each group. The sizes of the groups differ by at most one.
    """
    return np.array_split(random.permutation(rows), groups)
