"""Distances between two samples of one observable, with tests for single observables and for several together."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from supa.arrays import ByteArray, FloatArray, IntArray
from supa.checks import LARGEST, check_int
from supa.distances.cdf import cdf_distances
from supa.distances.samples import std_of, two_columns, two_matrices

BOOTSTRAP_SAMPLES = 200
_BLOCK_BYTES = 1 << 25
_REPEATS_OF_A_BLOCK = 32
_ROUNDING = 1e-12  # relative; distances of permutations that differ only by rounding count as equal


@dataclass(frozen=True)
class WassersteinResult:
    """Wasserstein-1 distance of one observable.

    Args:
        distance: Distance in units of the standard deviation of the true sample.
        error: Bootstrap standard error. NaN if the distance is infinite.
        p_value: p-value of the permutation test.
        null_mean: Mean distance over the permutations: the noise floor, the distance expected of samples from the same
            distribution.
        dropped_true: Number of true rows in which the observable is undefined.
        dropped_generated: Number of generated rows in which the observable is undefined.

    Example:
        >>> import numpy as np
        >>> from supa.distances import wasserstein
        >>> random = np.random.default_rng(1)
        >>> result = wasserstein(random.normal(size=500), random.normal(0.5, 1, size=500), seed=0)
        >>> round(result.distance, 2), round(result.error, 2), round(result.null_mean, 2)
        (0.51, 0.07, 0.09)
    """

    distance: float
    error: float
    p_value: float
    null_mean: float
    dropped_true: int
    dropped_generated: int


@dataclass(frozen=True, eq=False, repr=False)
class PermutationResult:
    """Wasserstein-1 distances of k observables, with single p-values and a joint p-value.

    Args:
        distances: (k,) distances in units of the standard deviation of the true sample.
        errors: (k,) bootstrap standard errors. NaN if a distance is infinite.
        p_values: (k,) p-values of each observable by itself. The smallest of many p-values is small by chance; the
            joint p-value accounts for this.
        null_means: (k,) mean distances over the permutations: the noise floors, the distances expected of samples from
            the same distribution.
        dropped_true: (k,) numbers of true rows in which the observable is undefined.
        dropped_generated: (k,) numbers of generated rows in which the observable is undefined.
        joint_p_value: p-value of all observables together. For samples from the same distribution, it is at most 0.05
            in 5 % of the cases, for any correlation between the observables.
        repeats: Number of permutations.

    Example:
        >>> import numpy as np
        >>> from supa.distances import permutation_test
        >>> random = np.random.default_rng(1)
        >>> permutation_test(random.normal(size=(200, 3)), random.normal(size=(200, 3)), repeats=99, seed=0)
        <PermutationResult: joint p = 0.67, smallest p = 0.32 of 3 observables, 99 permutations>
    """

    distances: FloatArray
    errors: FloatArray
    p_values: FloatArray
    null_means: FloatArray
    dropped_true: IntArray
    dropped_generated: IntArray
    joint_p_value: float
    repeats: int

    def __repr__(self) -> str:
        number = len(self.distances)
        return (
            f"<PermutationResult: joint p = {self.joint_p_value:.3g}, smallest p = {self.p_values.min():.3g} of "
            f"{number} {'observable' if number == 1 else 'observables'}, {self.repeats:,} permutations>"
        )


class KolmogorovSmirnov(NamedTuple):
    """Largest distance between two cumulative distribution functions, and its p-value.

    Args:
        statistic: Largest distance, from 0 to 1.
        p_value: p-value for the hypothesis that both samples have the same distribution. It assumes independent
            values.

    Example:
        >>> from supa.distances import KolmogorovSmirnov, kolmogorov_smirnov
        >>> kolmogorov_smirnov([1, 2, 3, 4], [3, 4, 5, 6]).statistic
        0.5
    """

    statistic: float
    p_value: float


def wasserstein(
    true: npt.ArrayLike, generated: npt.ArrayLike, *, seed: int = 0, repeats: int = 500
) -> WassersteinResult:
    """Compute the Wasserstein-1 distance of one observable, with its error and its p-value.

    This is `permutation_test` for a single observable.

    Args:
        true: (n,) one value per true shower, NaN where the observable is undefined.
        generated: (m,) one value per generated shower.
        seed: Random seed of the permutations and bootstrap samples.
        repeats: Number of permutations. No p-value is smaller than 1 / (1 + repeats).

    Returns:
        The distance in units of the true standard deviation, its error, its p-value and its noise floor.

    Raises:
        ValueError: If a sample is not an array of numbers with one axis, is empty, or contains infinite values, or if
            the seed or the number of repeats is out of range.

    Example:
        Compare the largest hit energies in showers of two presets:

        >>> import supa
        >>> from supa import observables
        >>> from supa.distances import wasserstein
        >>> true, generated = supa.simulate(500, seed=1), supa.simulate(500, "symmetric", seed=2)
        >>> first, second = observables.largest_hit_fraction(true), observables.largest_hit_fraction(generated)
        >>> result = wasserstein(first, second, seed=0)
        >>> round(result.distance, 2), round(result.null_mean, 2), round(result.p_value, 3)
        (0.5, 0.07, 0.002)
    """
    first, second = two_columns(true, generated)
    result = permutation_test(first[:, None], second[:, None], repeats=repeats, seed=seed)
    return WassersteinResult(
        distance=float(result.distances[0]),
        error=float(result.errors[0]),
        p_value=float(result.p_values[0]),
        null_mean=float(result.null_means[0]),
        dropped_true=int(result.dropped_true[0]),
        dropped_generated=int(result.dropped_generated[0]),
    )


def permutation_test(
    true: npt.ArrayLike,
    generated: npt.ArrayLike,
    *,
    repeats: int = 500,
    seed: int = 0,
    resolution: npt.ArrayLike = 0.0,
) -> PermutationResult:
    r"""Compute the Wasserstein-1 distances of several observables, and test them one by one and jointly.

    .. math:: W_1 = \int |F_\mathrm{true}(z) - F_\mathrm{generated}(z)| \, dz

    - The integral uses the defined values only. The function divides it by the standard deviation of the defined true
      values, or by the resolution if that is larger. If both are zero, the distance is 0 if all defined values of both
      samples are equal, and infinite otherwise. It is also infinite if an observable is defined in only one sample.
    - A permutation assigns the rows (showers) of both samples to two new samples, in the same way for all observables.
      This preserves the correlations between observables.
    - The joint p-value is the rank of the smallest p-value among the smallest p-values of all permutations. Equal
      smallest p-values are ranked by their largest distance in standard deviations over the permutations. Without this
      second criterion, the joint p-value of k observables could hardly be smaller than k / repeats.

    Args:
        true: (n, k) one row per true shower, NaN where an observable is undefined.
        generated: (m, k) one row per generated shower.
        repeats: Number of permutations. No p-value is smaller than 1 / (1 + repeats).
        seed: Random seed of the permutations and bootstrap samples.
        resolution: Smallest relevant difference, in the unit of the observable: one number for all observables, or
            (k,) numbers. The default 0 has no effect.

    Returns:
        The distances with their errors, p-values and noise floors, and the joint p-value.

    Raises:
        ValueError: If the samples are not matrices with the same number of columns, are empty or contain infinite
            values, or if the seed or the number of repeats is out of range.

    Example:
        The second of three observables has a shift:

        >>> import numpy as np
        >>> from supa.distances import permutation_test
        >>> random = np.random.default_rng(1)
        >>> true = random.normal(size=(500, 3))
        >>> generated = random.normal(size=(500, 3)) + [0, 0.4, 0]
        >>> result = permutation_test(true, generated, repeats=99, seed=0)
        >>> result.distances.round(2).tolist()
        [0.06, 0.48, 0.14]
        >>> result.p_values.tolist()
        [0.83, 0.01, 0.06]
        >>> result.joint_p_value
        0.01

    Source:
        Westfall and Young, Resampling-Based Multiple Testing, 1993, single-step minP.
    """
    first, second = two_matrices(true, generated)
    repeats = check_int(1, 10**6, "repeats", repeats)
    permuted_seed, bootstrap_seed = np.random.SeedSequence(check_int(0, 2**63 - 1, "seed", seed)).spawn(2)
    pooled = np.concatenate([first, second])
    observables = [_Observable(column) for column in pooled.T]
    n, m = len(first), len(second)
    observed = _distances(observables, _as_given(n, m))
    null = _distances(observables, _permutations(n, m, repeats, permuted_seed))
    units = _units(first, resolution)
    drawn = []
    for weights in _bootstrap_samples(n, m, BOOTSTRAP_SAMPLES, bootstrap_seed):
        spreads = _spreads_of_draws(first, weights[:n, 0].astype(np.float64))
        units_drawn = np.maximum(np.where(spreads > 0, spreads, units), resolution)
        drawn.append(_over(_distances(observables, iter([weights])), units_drawn))
    with np.errstate(invalid="ignore"):  # infinite distances have no standard deviation
        errors = np.concatenate(drawn).std(axis=0)
    distances = _over(observed[0], units)
    p_values, joint = _significance(np.concatenate([observed, null]))
    return PermutationResult(
        distances=distances,
        errors=np.where(errors <= _ROUNDING * distances, 0.0, errors),
        p_values=p_values,
        null_means=_over(null.mean(axis=0), units),
        dropped_true=np.count_nonzero(np.isnan(first), axis=0),
        dropped_generated=np.count_nonzero(np.isnan(second), axis=0),
        joint_p_value=joint,
        repeats=repeats,
    )


def wasserstein_distances(
    true: npt.ArrayLike, generated: npt.ArrayLike, *, resolution: npt.ArrayLike = 0.0
) -> FloatArray:
    """Compute the Wasserstein-1 distances of several observables without errors and p-values.

    Args:
        true: (n, k) one row per true shower, NaN where an observable is undefined.
        generated: (m, k) one row per generated shower.
        resolution: Smallest relevant difference, in the unit of the observable: one number for all observables, or
            (k,) numbers. The default 0 has no effect.

    Returns:
        (k,) float64 distances in units of the true standard deviation, as in `permutation_test`.

    Raises:
        ValueError: If the samples are not matrices with the same number of columns, are empty or contain infinite
            values.

    Example:
        >>> import numpy as np
        >>> from supa.distances import wasserstein_distances
        >>> true = np.array([[0.0, 0.0], [2.0, 2.0]])
        >>> wasserstein_distances(true, true + [1, 3]).tolist()
        [1.0, 3.0]
    """
    first, second = two_matrices(true, generated)
    observables = [_Observable(column) for column in np.concatenate([first, second]).T]
    observed = _distances(observables, _as_given(len(first), len(second)))
    return _over(observed[0], _units(first, resolution))


def kolmogorov_smirnov(true: npt.ArrayLike, generated: npt.ArrayLike) -> KolmogorovSmirnov:
    """Compute the Kolmogorov-Smirnov distance of one observable of showers, and its p-value.

    The p-value is that of one sample of n m / (n + m) values against a known distribution, which is correct for large
    samples. It assumes independent values of a continuous observable. It is too large for observables with ties, such
    as numbers of hits. It is far too small for observables of hits, because the hits of a shower are not independent.

    Args:
        true: (n,) one value per true shower. NaN (undefined) is ignored.
        generated: (m,) one value per generated shower.

    Returns:
        The distance and its p-value.

    Raises:
        ValueError: If a sample is not an array of numbers with one axis, is empty, contains infinite values, or has no
            defined value.

    Example:
        >>> import numpy as np
        >>> from supa.distances import kolmogorov_smirnov
        >>> random = np.random.default_rng(1)
        >>> result = kolmogorov_smirnov(random.normal(size=1000), random.normal(0.2, 1, size=1000))
        >>> round(result.statistic, 3), result.p_value < 0.001
        (0.118, True)
    """
    from scipy.stats import kstwo

    columns = two_columns(true, generated)
    first, second = (np.sort(column[~np.isnan(column)]) for column in columns)
    if not len(first) or not len(second):
        raise ValueError(
            "Each sample must have a defined value of the observable, but all values of one sample are NaN."
        )
    places = np.concatenate([first, second])
    shares = (np.searchsorted(values, places, side="right") / len(values) for values in (first, second))
    statistic = float(np.abs(np.subtract(*shares)).max())
    effective = max(1, round(len(first) * len(second) / (len(first) + len(second))))
    return KolmogorovSmirnov(statistic, float(kstwo.sf(statistic, effective)))


class _Observable:
    """Sorted defined values of both samples."""

    def __init__(self, values: FloatArray) -> None:
        order = np.argsort(values, kind="stable").astype(np.int32)  # NaN values are last
        defined = np.count_nonzero(~np.isnan(values))
        self.order, self.absent = order[:defined], order[defined:]
        self.gaps = np.append(np.diff(values[self.order]), 0.0)[:defined]


def _distances(observables: list[_Observable], blocks: Iterator[ByteArray]) -> FloatArray:
    """Compute (repeats, observables) distances for blocks of weights, before the division by the spread."""
    distances = []
    for weights in blocks:
        totals = weights.sum(axis=0, dtype=np.float64)
        columns = [cdf_distances(o.order, o.gaps, o.absent, weights, totals) for o in observables]
        distances.append(np.stack(columns, axis=1))
    return np.concatenate(distances)


def _permutations(n: int, m: int, repeats: int, seed: np.random.SeedSequence) -> Iterator[ByteArray]:
    random = np.random.default_rng(seed)
    belongs = _labels(n, m)
    for size in _block_sizes(n + m, repeats):
        first = np.stack([random.permutation(belongs) for _ in range(size)], axis=1)
        yield np.stack([first, 1 - first], axis=1)


def _bootstrap_samples(n: int, m: int, repeats: int, seed: np.random.SeedSequence) -> Iterator[ByteArray]:
    random = np.random.default_rng(seed)
    for size in _block_sizes(n + m, repeats):
        weights = np.zeros((n + m, 2, size), dtype=np.uint8)  # no row is drawn 256 times or more
        for r in range(size):
            weights[:n, 0, r] = np.bincount(random.integers(n, size=n), minlength=n)
            weights[n:, 1, r] = np.bincount(random.integers(m, size=m), minlength=m)
        yield weights


def _as_given(n: int, m: int) -> Iterator[ByteArray]:
    yield np.stack([_labels(n, m), 1 - _labels(n, m)], axis=1)[:, :, None]


def _labels(n: int, m: int) -> ByteArray:
    return np.repeat(np.array([1, 0], dtype=np.uint8), [n, m])


def _block_sizes(rows: int, repeats: int) -> list[int]:
    most = max(1, min(_REPEATS_OF_A_BLOCK, _BLOCK_BYTES // (2 * rows)))
    return [min(most, repeats - start) for start in range(0, repeats, most)]


def _significance(distances: FloatArray) -> tuple[FloatArray, float]:
    """Compute the p-value of row 0 among all rows, for each column and jointly."""
    rows = len(distances)
    p_values, excess = np.empty_like(distances), np.zeros_like(distances)
    for k, column in enumerate(distances.T):
        ascending = np.sort(column)
        p_values[:, k] = (rows - np.searchsorted(ascending, column * (1 - _ROUNDING))) / rows
        finite = column[np.isfinite(column)]
        spread = std_of(finite) if len(finite) else 0.0
        beyond = (column - finite.mean()) / spread if spread > 0 else np.zeros(rows)
        excess[:, k] = np.where(np.isfinite(column), beyond, LARGEST)
    smallest, largest = p_values.min(axis=1), excess.max(axis=1)
    as_extreme = (smallest < smallest[0]) | (
        (smallest == smallest[0]) & (largest >= largest[0] - _ROUNDING * abs(largest[0]))
    )
    return p_values[0], float(np.count_nonzero(as_extreme) / rows)


def _units(true: FloatArray, resolution: npt.ArrayLike) -> FloatArray:
    """Return the unit of each distance."""
    defined = (column[~np.isnan(column)] for column in true.T)
    return np.maximum([std_of(column) if len(column) else 0.0 for column in defined], resolution)


def _spreads_of_draws(true: FloatArray, weights: FloatArray) -> FloatArray:
    """Compute the standard deviations of bootstrap samples.

    Args:
        true: (n, k) values.
        weights: (n, repeats) how often each row occurs in a bootstrap sample.

    Returns:
        (repeats, k) standard deviations. They are 0 if no value is defined.
    """
    defined = ~np.isnan(true)
    centres = [
        np.median(column[there]) if there.any() else 0.0 for column, there in zip(true.T, defined.T, strict=True)
    ]
    values = np.where(defined, true - centres, 0.0)
    numbers = np.maximum(weights.T @ defined, 1.0)
    means, squares = weights.T @ values / numbers, weights.T @ values**2 / numbers
    return np.asarray(np.sqrt(np.maximum(squares - means**2, 0.0)))


def _over(lengths: FloatArray, spread: FloatArray) -> FloatArray:
    """Divide by the spread. If the spread is zero, 0 stays 0 and all other values become infinite."""
    with np.errstate(over="ignore"):
        return np.where(spread > 0, lengths / np.where(spread > 0, spread, 1.0), np.where(lengths == 0, 0.0, np.inf))
