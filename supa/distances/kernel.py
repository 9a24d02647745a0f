"""The kernel distance of two samples: the maximum mean discrepancy with a polynomial kernel."""

import numpy as np
import numpy.typing as npt

from supa.arrays import FloatArray
from supa.checks import whole
from supa.distances.samples import Estimate, shuffled_groups, standardised, two_matrices

_LARGEST_BATCH = 5000
_FEWEST_BATCHES = 10
_BLOCK = 1000
_FEWEST_ROWS = 4  # two batches of two rows


def kernel_distance(true: npt.ArrayLike, generated: npt.ArrayLike, *, seed: int) -> Estimate:
    """Compute the kernel distance of two samples, without bias, with its error.

    The unbiased estimate of MMD^2 (Gretton et al., JMLR 13 (2012) 723, eq. 3) with the kernel (x.y / d + 1)^4 on d
    standardised features. Both samples are dealt into the same number of batches, without replacement: 10, or as many
    as keep the batches within 5,000 rows (fewer for samples of less than 20 rows). The value is the mean of the
    batches, not their median, which would be biased; the error is the standard error of that mean. Between equal
    samples the result scatters about 0 and may be negative. (KPD of Kansal et al., arXiv 2211.10295, is the median of
    batches drawn with replacement, on features divided by their largest true value.)

    Args:
        true: (n, k) features, NaN where one is not defined; they are standardised here.
        generated: (m, k) the same.
        seed: of the batches.

    Returns:
        The squared distance and its standard error.

    Raises:
        ValueError: the samples are not what they must be, or have fewer than 4 rows; or the seed is not.
    """
    two_matrices(true, generated, _FEWEST_ROWS)
    first, second = standardised(true, generated)
    random = np.random.default_rng(whole(0, 2**63 - 1, "seed", seed))
    wanted = max(_FEWEST_BATCHES, -(-max(len(first), len(second)) // _LARGEST_BATCH))
    batches = min(wanted, len(first) // 2, len(second) // 2)
    dealt = [shuffled_groups(len(rows), batches, random) for rows in (first, second)]
    values = np.array([_unbiased(first[a], second[b]) for a, b in zip(*dealt, strict=True)])
    return Estimate(float(values.mean()), float(values.std(ddof=1) / np.sqrt(batches)))


def _unbiased(first: FloatArray, second: FloatArray) -> float:
    n, m = len(first), len(second)
    alike = _kernel_sum(first, first) - _of_itself(first)
    also = _kernel_sum(second, second) - _of_itself(second)
    return alike / (n * (n - 1)) + also / (m * (m - 1)) - 2 * _kernel_sum(first, second) / (n * m)


def _kernel_sum(first: FloatArray, second: FloatArray) -> float:
    """Sum the kernel over all pairs, a block of rows at a time, so that the memory grows with the rows only."""
    total = 0.0
    for start in range(0, len(first), _BLOCK):
        total += _fourth_power(first[start : start + _BLOCK] @ second.T / first.shape[1] + 1.0).sum()
    return float(total)


def _of_itself(rows: FloatArray) -> float:
    return float(_fourth_power((rows**2).sum(axis=1) / rows.shape[1] + 1.0).sum())


def _fourth_power(values: FloatArray) -> FloatArray:
    squares = values * values
    squares *= squares
    return squares
