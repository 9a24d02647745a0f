"""What every distance shares: its two samples, checked, its result, and one scale for all features."""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from supa.arrays import FloatArray
from supa.checks import LARGEST, format_value

FARTHEST = 10.0
"""Standardised values lie within this many spreads: a far tail would otherwise decide every multivariate distance."""


QUANTILES = np.array([0.15865, 0.5, 0.84135])
"""The outer ones lie two standard deviations apart in a normal distribution."""


class Estimate(NamedTuple):
    """A number and its standard error."""

    value: float
    error: float


def two_columns(true: npt.ArrayLike, generated: npt.ArrayLike) -> tuple[FloatArray, FloatArray]:
    """Check two samples of one observable.

    Args:
        true: (n,) values, NaN where the observable is not defined.
        generated: (m,) values.

    Returns:
        Both as float64.

    Raises:
        ValueError: a sample is no column of numbers, is empty, or holds a value that is infinite or beyond 1e30.
    """
    return _sample("true", true, 1), _sample("generated", generated, 1)


def two_matrices(true: npt.ArrayLike, generated: npt.ArrayLike, fewest: int = 1) -> tuple[FloatArray, FloatArray]:
    """Check two samples of the same features.

    Args:
        true: (n, k) values, NaN where a feature is not defined.
        generated: (m, k) values.
        fewest: how many rows each needs.

    Returns:
        Both as float64.

    Raises:
        ValueError: a sample is no matrix of numbers, is too short, or holds a value that is infinite or beyond 1e30;
            or the numbers of features differ.
    """
    first, second = _sample("true", true, 2), _sample("generated", generated, 2)
    if first.shape[1] != second.shape[1]:
        raise ValueError(
            f"The true sample has {first.shape[1]} features and the generated one {second.shape[1]}; "
            "both must have the same columns."
        )
    for name, rows in (("true", first), ("generated", second)):
        if len(rows) < fewest:
            raise ValueError(f"{name}: {len(rows)} rows were given, but this distance needs at least {fewest}.")
    return first, second


def array_of(given: npt.ArrayLike) -> npt.NDArray[Any]:
    """Make an array of what a user gives.

    Args:
        given: an array or nested lists.

    Returns:
        The array; of type object where the lists are of different lengths, which no check of a type lets pass.
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
        raise ValueError(f"{name}: {what} was given, but a sample must be an array of numbers of shape {form}.")
    if 0 in values.shape:
        raise ValueError(f"{name}: an array of shape {values.shape} was given, but a sample cannot be empty.")
    values = values.astype(np.float64)
    infinite = np.abs(values) > LARGEST
    if infinite.any():
        where = "" if dimensions == 1 else f", the first in column {np.flatnonzero(infinite.any(axis=0))[0]}"
        raise ValueError(
            f"{name}: {np.count_nonzero(infinite)} values are infinite or beyond {LARGEST:g}{where}; drop these rows, "
            "or give NaN where an observable is not defined."
        )
    return values


def standardised(true: npt.ArrayLike, generated: npt.ArrayLike) -> tuple[FloatArray, FloatArray]:
    """Bring all features of two samples to one scale, which the true sample alone sets.

    From each feature the true median is taken away, and the rest is divided by the true spread: half the distance
    between the 15.865 and the 84.135 % quantile, or the standard deviation where that is zero, or 1 where that is zero
    too. Values beyond 10 spreads are drawn in to 10 spreads. Where a feature is not defined (NaN) the true median
    stands, and for each feature that is anywhere not defined a column is added that is 1 there and 0 elsewhere: so
    that nothing is dropped, and a wrong share of undefined values is seen.

    Args:
        true: (n, k) features.
        generated: (m, k) features.

    Returns:
        (n, k + e) and (m, k + e) float64, without NaN, e the number of features that are anywhere not defined.

    Raises:
        ValueError: as for ``two_matrices``.
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
    """Compute the standard deviation, exactly zero for equal values.

    Args:
        values: (n,) at least one value, none NaN.

    Returns:
        The standard deviation (divided by n).
    """
    return 0.0 if values.min() == values.max() else float(values.std())


def shuffled_groups(rows: int, groups: int, random: np.random.Generator) -> list[npt.NDArray[np.int64]]:
    """Deal rows into groups at random, without replacement.

    Args:
        rows: number of rows.
        groups: number of groups.
        random: the random numbers.

    Returns:
        The row numbers of each group; the sizes differ by at most one.
    """
    return np.array_split(random.permutation(rows), groups)
