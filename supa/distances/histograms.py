"""The separation power of two histograms, in which nothing falls out of range."""

from typing import Any

import numpy as np
import numpy.typing as npt

from supa.arrays import FloatArray, IntArray
from supa.checks import check_int, format_value
from supa.distances.samples import Estimate, array_of, two_columns

_MOST_BINS = 50


def edges_of(true: npt.ArrayLike) -> FloatArray:
    """Choose the edges of a histogram from the true sample alone.

    Each bin, and the under- and overflow, holds about the same share of the true sample: so no bin is nearly empty,
    far outliers do not stretch the axis, and spectra over several decades need no logarithm. A value that alone fills
    a bin or more (an energy of exactly 0) gets a bin of its own; edges between whole numbers lie half-way, but a single
    value has a bin of its own. There are at most 50 bins, and no more than sqrt(n) / 2.

    Args:
        true: (n,) values, NaN where the observable is not defined.

    Returns:
        (bins + 1,) ascending edges; where no value is defined, 0 and 1.

    Raises:
        ValueError: the sample is not what it must be.
    """
    values, _ = two_columns(true, true)
    values = values[~np.isnan(values)]
    if not len(values):
        return np.array([0.0, 1.0])
    if values.min() == values.max():  # whole or not, it does not say that all others are
        return np.array([values[0], np.nextafter(values[0], np.inf)])
    bins = min(_MOST_BINS, max(1, int(np.sqrt(len(values)) / 2)))
    quantiles = np.quantile(values, np.arange(1, bins + 2) / (bins + 2), method="inverted_cdf")
    if np.array_equal(values, np.round(values)) and np.abs(values).max() < 2**51:  # a half is still exact
        edges = np.unique(quantiles - 0.5)
        return edges if len(edges) > 1 else np.array([edges[0], edges[0] + 1.0])
    edges, times = np.unique(quantiles, return_counts=True)
    repeated = edges[times > 1] if len(edges) > 1 else edges
    return np.union1d(edges, np.nextafter(repeated, np.inf))


def separation(true: npt.ArrayLike, generated: npt.ArrayLike, edges: npt.ArrayLike) -> float:
    """Compute the separation power of two histograms: 0 where they are equal, 1 where they do not overlap.

    0.5 sum (h1 - h2)^2 / (h1 + h2) over shares h of the whole sample (the "chi2" of CaloChallenge's
    code/plotting_helper.py), but with the under- and overflow as two more bins and NaN as a third. A bin holds its
    lower edge. Between equal samples it is (bins - 1) (1 / n + 1 / m) / 4 on average, all filled bins counted.

    Args:
        true: (n,) values, NaN where the observable is not defined.
        generated: (m,) the same.
        edges: (bins + 1,) ascending edges, as ``edges_of`` returns them.

    Returns:
        The separation power.

    Raises:
        ValueError: the samples or the edges are not what they must be.
    """
    first, second = _counts(true, generated, edges)
    return float(separation_of_counts(first, second))


def separation_estimate(
    true: npt.ArrayLike, generated: npt.ArrayLike, edges: npt.ArrayLike, *, seed: int = 0, repeats: int = 500
) -> Estimate:
    """Compute the separation power of two histograms with its bootstrap error.

    Between equal samples the separation power is a sum of squares, of variance v = (bins - 1) (1 / n + 1 / m)^2 / 8.
    Bootstrap samples fluctuate about samples that fluctuate themselves, and have 3 v. So 2 v is taken away from their
    variance, of which at least v is left.

    Args:
        true: (n,) values, NaN where the observable is not defined.
        generated: (m,) the same.
        edges: (bins + 1,) ascending edges, as ``edges_of`` returns them.
        seed: of the bootstrap samples.
        repeats: number of bootstrap samples.

    Returns:
        The separation power and its standard error.

    Raises:
        ValueError: the samples, the edges, the seed or the repeats are not what they must be.
    """
    first, second = _counts(true, generated, edges)
    repeats = check_int(1, 10**6, "repeats", repeats)
    random = np.random.default_rng(check_int(0, 2**63 - 1, "seed", seed))
    # Drawing rows with replacement and counting them is drawing the counts from a multinomial distribution.
    drawn = [random.multinomial(counts.sum(), counts / counts.sum(), size=repeats) for counts in (first, second)]
    filled = np.count_nonzero(first + second)
    equal_variance = (filled - 1) * (1 / first.sum() + 1 / second.sum()) ** 2 / 8
    variance = separation_of_counts(drawn[0], drawn[1]).var()
    return Estimate(float(separation_of_counts(first, second)), error_of_squares(variance, equal_variance))


def error_of_squares(bootstrap_variance: float, equal_variance: float) -> float:
    """Compute the standard error of a sum of many squares from its bootstrap samples.

    Args:
        bootstrap_variance: the variance of the bootstrap samples.
        equal_variance: that of equal samples.

    Returns:
        The standard error.
    """
    return float(np.sqrt(max(bootstrap_variance - 2 * equal_variance, equal_variance)))


def _counts(true: npt.ArrayLike, generated: npt.ArrayLike, edges: npt.ArrayLike) -> tuple[IntArray, IntArray]:
    first, second = two_columns(true, generated)
    limits = array_of(edges)
    if limits.ndim != 1 or limits.dtype.kind not in "iuf" or len(limits) < 2 or not (np.diff(limits) > 0).all():
        raise ValueError(f"edges: {format_value(edges)} was given, but a histogram needs 2 or more ascending numbers.")

    def counted(values: FloatArray) -> IntArray:
        defined = values[~np.isnan(values)]
        counts = np.bincount(np.searchsorted(limits, defined, side="right"), minlength=len(limits) + 1)
        return np.append(counts, len(values) - len(defined))

    return counted(first), counted(second)


def separation_of_counts(first: npt.NDArray[Any], second: npt.NDArray[Any]) -> FloatArray:
    """Compute the separation power of histograms whose bins are counted.

    Args:
        first: (..., bins) counts, in any unit.
        second: (..., bins) counts over the same bins.

    Returns:
        (...) the separation power.
    """
    totals = (counts.sum(axis=-1, keepdims=True) for counts in (first, second))
    h1, h2 = (c / np.where(total > 0, total, 1) for c, total in zip((first, second), totals, strict=True))
    return np.asarray(0.5 * ((h1 - h2) ** 2 / np.where(h1 + h2 > 0, h1 + h2, 1.0)).sum(axis=-1))
