"""Kernel distance of two samples: the maximum mean discrepancy (MMD) with a polynomial kernel."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from supa.arrays import FloatArray
from supa.checks import check_int
from supa.distances.errors import certainty, combined_error, follows_scale, scale_influences
from supa.distances.samples import Estimate, shuffled_groups, standardised, two_matrices

_LARGEST_BATCH = 5000
_BLOCK = 1000
_FEWEST_ROWS = 4


def kernel_distance(true: npt.ArrayLike, generated: npt.ArrayLike, *, seed: int = 0) -> Estimate:
    """Compute the kernel distance of two samples, an unbiased estimate of MMD^2.

    The kernel is (x.y / d + 1)^4 on d standardised features. For samples from the same distribution, the result
    scatters about 0 and may be negative. Samples of more than 5,000 rows are split at random into the smallest number
    of batches of at most 5,000 rows, and the value is the mean over the batches.

    Let s be the standard error for samples from the same distribution. The error of a value up to 3 s is s. Above 5 s,
    the error also includes the scatter of the rows and the fluctuations of the scale of the true sample. In between,
    its square increases linearly. The page *Distances between true and generated showers* of the documentation explains
    this.

    Args:
        true: (n, k) features of the true showers, NaN where a feature is undefined. The function standardises them.
        generated: (m, k) features of the generated showers.
        seed: Random seed of the batches.

    Returns:
        The squared distance and its standard error.

    Raises:
        ValueError: If the samples are not matrices with the same number of columns and at least 4 rows, if they contain
            infinite values, or if the seed is not a non-negative integer.

    Example:
        >>> import numpy as np
        >>> from supa.distances import kernel_distance
        >>> random = np.random.default_rng(1)
        >>> true, equal, wider = (width * random.normal(size=(500, 3)) for width in (1, 1, 1.5))
        >>> for generated in (equal, wider):
        ...     estimate = kernel_distance(true, generated, seed=0)
        ...     print(round(estimate.value, 2), round(estimate.error, 2))
        0.01 0.06
        14.2 3.59

    Source:
        Gretton et al., JMLR 13 (2012) 723, equation 3. The kernel physics distance (KPD) of Kansal et al., arXiv
        2211.10295, is the median over batches drawn with replacement, on features divided by their largest true value.
    """
    given = two_matrices(true, generated, _FEWEST_ROWS)
    first, second = standardised(*given)
    random = np.random.default_rng(check_int(0, 2**63 - 1, "seed", seed))
    smaller, larger = sorted((len(first), len(second)))
    number = min(-(-larger // _LARGEST_BATCH), smaller // 3)
    dealt = [shuffled_groups(len(rows), number, random) for rows in (first, second)]
    batches = [_Batch.of(first[a], second[b]) for a, b in zip(*dealt, strict=True)]
    value = float(np.mean([batch.value for batch in batches]))
    equal_variance = float(np.mean([batch.equal_variance for batch in batches])) / number
    certain = certainty(value, equal_variance)
    if certain == 0:
        return Estimate(value, combined_error(equal_variance, 0.0, certain))
    influences = [np.empty(len(rows)) for rows in (first, second)]
    for a, b, batch in zip(*dealt, batches, strict=True):
        influences[0][a], influences[1][b] = batch.influences
    a, b = dealt[0][0], dealt[1][0]
    follows = [follows_scale(*rows) for rows in ((given[0][a], first[a]), (given[1][b], second[b]))]
    slopes = _scale_slopes(first[a], second[b], *follows)
    influences[0] += sum(moved @ slope for moved, slope in zip(scale_influences(given[0]), slopes, strict=True))
    row_variance = float(sum(values.var() / len(values) for values in influences))
    return Estimate(value, combined_error(equal_variance, row_variance, certain))


class _Sums(NamedTuple):
    """Sums of the kernel over pairs of rows of two samples, or over pairs of different rows of one sample."""

    rows: FloatArray
    """(n,) sums over the second rows, for each first row."""
    columns: FloatArray
    """(m,) sums over the first rows, for each second row."""
    squares: float
    """Sum of the squared kernel over all pairs."""

    @classmethod
    def of(cls, first: FloatArray, second: FloatArray) -> "_Sums":
        """Sum block by block. The memory then grows linearly with the number of rows."""
        same = first is second
        rows, columns, squares = np.empty(len(first)), np.zeros(len(second)), 0.0
        for start in range(0, len(first), _BLOCK):
            values = _fourth_power(first[start : start + _BLOCK] @ second.T / first.shape[1] + 1.0)
            if same:
                np.fill_diagonal(values[:, start:], 0.0)
            rows[start : start + _BLOCK] = values.sum(axis=1)
            if not same:
                columns += values.sum(axis=0)
            squares += float(np.vdot(values, values))
        return cls(rows, rows if same else columns, squares)


class _Batch(NamedTuple):
    value: float
    equal_variance: float
    influences: tuple[FloatArray, FloatArray]
    """(n,) and (m,) contributions of the rows to the value, times n or m."""

    @classmethod
    def of(cls, first: FloatArray, second: FloatArray) -> "_Batch":
        n, m = len(first), len(second)
        alike, also, across = _Sums.of(first, first), _Sums.of(second, second), _Sums.of(first, second)
        value = alike.rows.sum() / (n * (n - 1)) + also.rows.sum() / (m * (m - 1)) - 2 * across.rows.sum() / (n * m)
        return cls(
            float(value),
            2 * _centred_within(alike) / n**2
            + 2 * _centred_within(also) / m**2
            + 4 * _centred_across(across) / (n * m),
            (2 * (alike.rows / (n - 1) - across.rows / m), 2 * (also.rows / (m - 1) - across.columns / n)),
        )


def _centred_within(sums: _Sums) -> float:
    """Compute the mean square of the centred kernel over pairs of different rows of one sample."""
    n = len(sums.rows)
    means, mean = sums.rows / (n - 1), sums.rows.sum() / (n * (n - 1))
    # Sum of (k_ij - means_i - means_j + mean)^2 without the n x n matrix.
    products = 2 * (means @ sums.rows) - mean * sums.rows.sum()
    taken = 2 * n * (means @ means) + 2 * means.sum() ** 2 - 4 * n * mean * means.sum() + n**2 * mean**2
    of_itself = ((2 * means - mean) ** 2).sum()
    return max(float(sums.squares - 2 * products + taken - of_itself), 0.0) / (n * (n - 1))


def _centred_across(sums: _Sums) -> float:
    """Compute the mean square of the centred kernel over pairs of rows of two samples."""
    n, m = len(sums.rows), len(sums.columns)
    means, also, mean = sums.rows / m, sums.columns / n, sums.rows.sum() / (n * m)
    return max(float(sums.squares - m * (means @ means) - n * (also @ also) + n * m * mean**2), 0.0) / (n * m)


def _scale_slopes(
    first: FloatArray, second: FloatArray, moves: npt.NDArray[np.bool_], also: npt.NDArray[np.bool_]
) -> tuple[FloatArray, FloatArray]:
    """Compute the derivatives of the value with respect to the logarithms of the true spreads, and to the centres."""
    n, m, k = len(first), len(second), moves.shape[1]
    within, other, across = 2 / (n * (n - 1)), 2 / (m * (m - 1)), -2 / (n * m)
    by_first = within * _slopes(first, first) + across * _slopes(first, second)
    by_second = other * _slopes(second, second) + across * _slopes(second, first)
    parts = [(by_first[:, :k] * moves, first[:, :k]), (by_second[:, :k] * also, second[:, :k])]
    return -sum((slope * rows).sum(axis=0) for slope, rows in parts), -sum(slope.sum(axis=0) for slope, _ in parts)


def _slopes(first: FloatArray, second: FloatArray) -> FloatArray:
    """Compute the derivatives of the sum of the kernel over the second rows with respect to the first rows."""
    d, slopes = first.shape[1], np.empty_like(first)
    for start in range(0, len(first), _BLOCK):
        values = first[start : start + _BLOCK] @ second.T / d + 1.0
        if first is second:
            np.fill_diagonal(values[:, start:], 0.0)
        slopes[start : start + _BLOCK] = 4 / d * (values * values * values @ second)
    return slopes


def _fourth_power(values: FloatArray) -> FloatArray:
    squares = values * values
    squares *= squares
    return squares
