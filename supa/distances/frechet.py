"""Frechet distance of two samples, extrapolated to infinite sample size."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from supa.arrays import FloatArray
from supa.checks import check_int
from supa.distances.errors import certainty, combined_error, follows_scale, scale_influences
from supa.distances.samples import Estimate, array_of, shuffled_groups, standardised, two_matrices

_GROUPS = 50
_STEP = 1e-3  # step of the logarithm of a spread, for derivatives
_FEWEST_ROWS = 4  # three rows, which have a covariance, remain without one of four groups


def frechet_distance(true: npt.ArrayLike, generated: npt.ArrayLike, *, seed: int = 0) -> Estimate:
    """Compute the squared Frechet distance of two samples, extrapolated to infinite sample size.

    The function applies `frechet_gaussian` to the means and covariances of the standardised features. For finite
    samples this value is too large by about c / N. A grouped jackknife removes this bias: it extrapolates the line
    through the value of all rows and the mean value without one of 50 groups of rows to 1 / N = 0. For samples from
    the same distribution, the result scatters about 0 and may be negative.

    Let s be the standard error for samples from the same distribution. The error of a value up to 3 s is s. Above 5 s,
    the error also includes the error of the jackknife and the fluctuations of the scale of the true sample. In between,
    its square increases linearly. The page *Distances between true and generated showers* of the documentation explains
    this.

    Args:
        true: (n, k) features of the true showers, NaN where a feature is undefined. The function standardises them.
        generated: (m, k) features of the generated showers.
        seed: Random seed of the groups.

    Returns:
        The squared distance in units of the true spread, and its standard error.

    Raises:
        ValueError: If the samples are not matrices with the same number of columns and at least 4 rows, if they contain
            infinite values, or if the seed is not a non-negative integer.

    Example:
        >>> import numpy as np
        >>> from supa.distances import frechet_distance
        >>> random = np.random.default_rng(1)
        >>> true = random.normal(size=(1000, 3))
        >>> shifted = random.normal(size=(1000, 3)) + [0.5, 0, 0]
        >>> estimate = frechet_distance(true, shifted, seed=0)
        >>> round(estimate.value, 2), round(estimate.error, 2)  # expected: 0.5 squared
        (0.25, 0.05)

    Source:
        Frechet physics distance (FPD), Kansal et al., arXiv 2211.10295. FPD fits a line to the values at ten sample
        sizes, drawn with replacement, and divides features by their largest true value.
    """
    given = two_matrices(true, generated, _FEWEST_ROWS)
    first, second = standardised(*given)
    random = np.random.default_rng(check_int(0, 2**63 - 1, "seed", seed))
    groups = min(_GROUPS, len(first), len(second))
    dealt = [shuffled_groups(len(rows), groups, random) for rows in (first, second)]
    parts = [
        [_Sums.of(rows[chosen]) for chosen in chosens] for rows, chosens in zip((first, second), dealt, strict=True)
    ]
    totals = [_Sums(*(sum(values) for values in zip(*part, strict=True))) for part in parts]
    value = _distance(totals[0], totals[1])
    without = np.array(
        [_distance(totals[0].without(a), totals[1].without(b)) for a, b in zip(parts[0], parts[1], strict=True)]
    )
    extrapolated = float(value - (groups - 1) * (without.mean() - value))
    equal_variance = _equal_variance(parts, totals)
    certain = certainty(extrapolated, equal_variance)
    if certain > 0:
        follows = [follows_scale(*rows) for rows in ((given[0], first), (given[1], second))]
        moved = scale_influences(given[0])[0] @ _scale_slopes((first, second), follows, totals)
        without -= [moved[chosen].sum() / len(first) for chosen in dealt[0]]
    row_variance = float((groups - 1) * without.var())
    return Estimate(extrapolated, combined_error(equal_variance, row_variance, certain))


def frechet_gaussian(
    mean1: npt.ArrayLike, covariance1: npt.ArrayLike, mean2: npt.ArrayLike, covariance2: npt.ArrayLike
) -> float:
    r"""Compute the squared Frechet (2-Wasserstein) distance of two normal distributions.

    .. math:: |m_1 - m_2|^2 + \mathrm{tr}\left(C_1 + C_2 - 2 (C_1 C_2)^{1/2}\right)

    The trace of the root is the sum of the singular values of :math:`C_1^{1/2} C_2^{1/2}`. Symmetric eigenvalue
    problems give both factors. The computation stays real, also for singular covariances.

    Args:
        mean1: (k,) mean of the first distribution.
        covariance1: (k, k) covariance of the first distribution, symmetric and positive semidefinite.
        mean2: (k,) mean of the second distribution.
        covariance2: (k, k) covariance of the second distribution.

    Returns:
        The squared distance, at least 0.

    Raises:
        ValueError: If the shapes do not match or an entry is not finite.

    Example:
        Two means that differ by 3, and standard deviations of 1 and 2, so 3^2 + (2 - 1)^2:

        >>> from supa.distances import frechet_gaussian
        >>> round(frechet_gaussian([0], [[1]], [3], [[4]]), 6)
        10.0

    Source:
        Dowson and Landau, J. Multivariate Anal. 12 (1982) 450.
    """
    m1, c1, m2, c2 = given = [array_of(a) for a in (mean1, covariance1, mean2, covariance2)]
    if not all(a.dtype.kind in "iuf" for a in given):
        raise ValueError("Means and covariances must be arrays of numbers.")
    if not m1.shape == m2.shape == (m1.size,) or not c1.shape == c2.shape == (m1.size, m1.size):
        raise ValueError(
            "Means must have shape (k,) and covariances shape (k, k) with the same k, got means of shapes "
            f"{m1.shape} and {m2.shape} and covariances of shapes {c1.shape} and {c2.shape}."
        )
    if not all(np.isfinite(a).all() for a in given):
        raise ValueError("Means and covariances must be finite numbers.")
    overlap = np.linalg.svd(_root(c1) @ _root(c2), compute_uv=False).sum()
    return max(0.0, float(((m1 - m2) ** 2).sum() + np.trace(c1) + np.trace(c2) - 2 * overlap))


def _root(covariance: FloatArray) -> FloatArray:
    values, vectors = np.linalg.eigh(covariance)
    return np.asarray((vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T)


class _Sums(NamedTuple):
    """Sums over rows, which give the moments of any union of groups."""

    rows: int
    values: FloatArray
    products: FloatArray

    @classmethod
    def of(cls, rows: FloatArray) -> "_Sums":
        return cls(len(rows), rows.sum(axis=0), rows.T @ rows)

    def without(self, other: "_Sums") -> "_Sums":
        return _Sums(self.rows - other.rows, self.values - other.values, self.products - other.products)

    def moments(self) -> tuple[FloatArray, FloatArray]:
        mean = self.values / self.rows
        return mean, (self.products - self.rows * np.outer(mean, mean)) / (self.rows - 1)


def _distance(first: _Sums, second: _Sums) -> float:
    return frechet_gaussian(*first.moments(), *second.moments())


def _equal_variance(parts: list[list[_Sums]], totals: list[_Sums]) -> float:
    """Compute the variance of the distance for equal samples.

    Near equality, the distance is the square of a vector. The vector consists of the difference of the means and of the
    difference of the covariances, with entry ij divided by sqrt(2 (l_i + l_j)) in the common eigenbasis with
    eigenvalues l (Bures metric: Bhatia, Jain and Lim, Expo. Math. 37 (2019) 165). It is the sum of one vector per
    group. The variance of the sum of their products over pairs is twice the sum of the squared products.
    """
    moments = [total.moments() for total in totals]
    values, basis = np.linalg.eigh((moments[0][1] + moments[1][1]) / 2)
    sums = np.maximum(values, 0.0)[:, None] + np.maximum(values, 0.0)
    flat = sums <= 1e-9 * sums.max(initial=0.0)
    weights = np.where(flat, 0.0, 1 / np.sqrt(2 * np.where(flat, 1.0, sums)))
    vectors = []
    for sign, groups, total, (mean, covariance) in zip((1, -1), parts, totals, moments, strict=True):
        for group in groups:
            off = group.values / group.rows - mean
            about = group.products / group.rows - np.outer(mean + off, mean) - np.outer(mean, off) - covariance
            vector = np.append(off @ basis, basis.T @ about @ basis * weights)
            vectors.append(sign * group.rows / total.rows * vector)
    products = np.array(vectors) @ np.array(vectors).T
    np.fill_diagonal(products, 0.0)
    return float(2 * (products**2).sum())


def _scale_slopes(
    samples: tuple[FloatArray, FloatArray], follows: list[npt.NDArray[np.bool_]], totals: list[_Sums]
) -> FloatArray:
    """Compute the derivative of the distance with respect to the logarithm of each true spread."""
    number = follows[0].shape[1]
    moving = [
        _Sums(len(rows), (rows[:, :number] * f).sum(axis=0), (rows[:, :number] * f).T @ rows)
        for rows, f in zip(samples, follows, strict=True)
    ]
    slopes = np.empty(number)
    for k in range(number):
        ends = []
        for step in (-_STEP, _STEP):
            changed = []
            for total, part in zip(totals, moving, strict=True):
                values, products = total.values.copy(), total.products.copy()
                values[k] -= step * part.values[k]
                products[k] -= step * part.products[k]
                products[:, k] -= step * part.products[k]
                changed.append(_Sums(total.rows, values, products))
            ends.append(_distance(*changed))
        slopes[k] = (ends[1] - ends[0]) / (2 * _STEP)
    return slopes
