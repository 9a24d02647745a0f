"""Separation power of two histograms with underflow and overflow bins."""

from typing import Any

import numpy as np
import numpy.typing as npt

from supa.arrays import FloatArray, IntArray
from supa.checks import check_int, format_value
from supa.distances.samples import Estimate, array_of, two_columns

_MOST_BINS = 50


def edges_of(true: npt.ArrayLike) -> FloatArray:
    """Choose the edges of a histogram from the true sample.

    Each bin, the underflow and the overflow contain about the same fraction of the true sample. No bin is nearly empty,
    outliers do not stretch the axis, and spectra over several decades need no logarithm. There are at most 50 bins, and
    at most sqrt(n) / 2. A value that fills a bin by itself (for example an energy of exactly 0) has its own bin. For
    whole numbers, the edges are half-way between them.

    Args:
        true: (n,) values, NaN where the observable is undefined.

    Returns:
        (bins + 1,) ascending edges. They are 0 and 1 if all values are undefined.

    Raises:
        ValueError: If the sample is not an array of numbers with one axis, is empty, or contains infinite values.

    Example:
        >>> import numpy as np
        >>> from supa.distances import edges_of
        >>> edges_of(np.random.default_rng(1).exponential(size=100)).round(2).tolist()
        [0.16, 0.31, 0.57, 0.79, 1.17, 1.98]
        >>> edges_of(np.arange(100) % 3).tolist()
        [-0.5, 0.5, 1.5]
    """
    values, _ = two_columns(true, true)
    values = values[~np.isnan(values)]
    if not len(values):
        return np.array([0.0, 1.0])
    if values.min() == values.max():  # a single value does not imply that the observable is a whole number
        return np.array([values[0], np.nextafter(values[0], np.inf)])
    bins = min(_MOST_BINS, max(1, int(np.sqrt(len(values)) / 2)))
    quantiles = np.quantile(values, np.arange(1, bins + 2) / (bins + 2), method="inverted_cdf")
    if np.array_equal(values, np.round(values)) and np.abs(values).max() < 2**51:  # halves are still exact
        edges = np.unique(quantiles - 0.5)
        return edges if len(edges) > 1 else np.array([edges[0], edges[0] + 1.0])
    edges, times = np.unique(quantiles, return_counts=True)
    repeated = edges[times > 1] if len(edges) > 1 else edges
    return np.union1d(edges, np.nextafter(repeated, np.inf))


def separation(true: npt.ArrayLike, generated: npt.ArrayLike, edges: npt.ArrayLike) -> float:
    r"""Compute the separation power of two histograms.

    .. math:: \frac{1}{2} \sum_b \frac{(h_{1,b} - h_{2,b})^2}{h_{1,b} + h_{2,b}}

    Here h is the fraction of a sample in bin b. Underflow, overflow and NaN count as three more bins. A bin includes
    its lower edge. For samples from the same distribution, the mean is (bins - 1) (1 / n + 1 / m) / 4, where "bins" is
    the number of all bins with entries.

    Args:
        true: (n,) values, NaN where the observable is undefined.
        generated: (m,) values.
        edges: (bins + 1,) ascending edges, for example from `edges_of`.

    Returns:
        The separation power, from 0 (equal histograms) to 1 (disjoint histograms).

    Raises:
        ValueError: If a sample is not an array of numbers with one axis, is empty, or contains infinite values, or if
            the edges do not ascend.

    Example:
        >>> from supa.distances import separation
        >>> separation([0.1, 0.2, 0.7], [0.1, 0.6, 0.9], edges=[0, 0.5, 1])
        0.1111111111111111
        >>> separation([0.1, 0.2], [1.1, 1.2], edges=[0, 0.5, 1])  # no overlap
        1.0

    Source:
        "chi2" in ``code/plotting_helper.py`` of the CaloChallenge, without the bins for underflow, overflow and NaN.
    """
    first, second = _counts(true, generated, edges)
    return float(separation_of_counts(first, second))


def separation_estimate(
    true: npt.ArrayLike, generated: npt.ArrayLike, edges: npt.ArrayLike, *, seed: int = 0, repeats: int = 500
) -> Estimate:
    """Compute the separation power of two histograms with its bootstrap error.

    For samples from the same distribution, the separation power is a sum of squares with variance
    v = (bins - 1) (1 / n + 1 / m)^2 / 8. Bootstrap samples fluctuate about samples that fluctuate themselves, so their
    variance is 3 v. The function subtracts 2 v from the bootstrap variance, and uses at least v.

    Args:
        true: (n,) values, NaN where the observable is undefined.
        generated: (m,) values.
        edges: (bins + 1,) ascending edges, for example from `edges_of`.
        seed: Random seed of the bootstrap samples.
        repeats: Number of bootstrap samples.

    Returns:
        The separation power and its standard error.

    Raises:
        ValueError: If a sample is not an array of numbers with one axis, is empty, or contains infinite values, if the
            edges do not ascend, or if the seed or the number of repeats is out of range.

    Example:
        >>> import numpy as np
        >>> from supa.distances import edges_of, separation_estimate
        >>> random = np.random.default_rng(1)
        >>> true, generated = random.normal(size=1000), random.normal(0.5, 1, size=1000)
        >>> estimate = separation_estimate(true, generated, edges_of(true), seed=0)
        >>> round(estimate.value, 3), round(estimate.error, 3)
        (0.09, 0.012)
    """
    first, second = _counts(true, generated, edges)
    repeats = check_int(1, 10**6, "repeats", repeats)
    random = np.random.default_rng(check_int(0, 2**63 - 1, "seed", seed))
    # Counts of rows drawn with replacement have a multinomial distribution.
    drawn = [random.multinomial(counts.sum(), counts / counts.sum(), size=repeats) for counts in (first, second)]
    filled = np.count_nonzero(first + second)
    equal_variance = (filled - 1) * (1 / first.sum() + 1 / second.sum()) ** 2 / 8
    variance = separation_of_counts(drawn[0], drawn[1]).var()
    return Estimate(float(separation_of_counts(first, second)), error_of_squares(variance, equal_variance))


def error_of_squares(bootstrap_variance: float, equal_variance: float) -> float:
    """Compute the standard error of a sum of many squares from its bootstrap samples.

    Args:
        bootstrap_variance: Variance of the bootstrap samples.
        equal_variance: Variance for equal samples.

    Returns:
        The standard error.
    """
    return float(np.sqrt(max(bootstrap_variance - 2 * equal_variance, equal_variance)))


def _counts(true: npt.ArrayLike, generated: npt.ArrayLike, edges: npt.ArrayLike) -> tuple[IntArray, IntArray]:
    first, second = two_columns(true, generated)
    limits = array_of(edges)
    if limits.ndim != 1 or limits.dtype.kind not in "iuf" or len(limits) < 2 or not (np.diff(limits) > 0).all():
        raise ValueError(f"edges must be 2 or more ascending numbers, got {format_value(edges)}.")

    def counted(values: FloatArray) -> IntArray:
        defined = values[~np.isnan(values)]
        counts = np.bincount(np.searchsorted(limits, defined, side="right"), minlength=len(limits) + 1)
        return np.append(counts, len(values) - len(defined))

    return counted(first), counted(second)


def separation_of_counts(first: npt.NDArray[Any], second: npt.NDArray[Any]) -> FloatArray:
    """Compute the separation power of histograms from their counts.

    Args:
        first: (..., bins) counts, in any unit.
        second: (..., bins) counts in the same bins.

    Returns:
        (...) the separation power.
    """
    totals = (counts.sum(axis=-1, keepdims=True) for counts in (first, second))
    h1, h2 = (c / np.where(total > 0, total, 1) for c, total in zip((first, second), totals, strict=True))
    return np.asarray(0.5 * ((h1 - h2) ** 2 / np.where(h1 + h2 > 0, h1 + h2, 1.0)).sum(axis=-1))
