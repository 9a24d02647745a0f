"""Distances between two samples of one observable, and their significance, jointly for several observables."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from supa.arrays import ByteArray, FloatArray, IntArray
from supa.checks import LARGEST, check_int
from supa.distances.cdf import cdf_distances
from supa.distances.samples import std_of, two_columns, two_matrices

REPEATS = 500
BOOTSTRAP_SAMPLES = 200
_BLOCK_BYTES = 1 << 25
_REPEATS_OF_A_BLOCK = 32
_ROUNDING = 1e-12  # relabellings that are equal but for the rounding of their sums count as equal


@dataclass(frozen=True)
class WassersteinResult:
    """The Wasserstein-1 distance of one observable."""

    distance: float
    """Over the standard deviation of the true sample."""
    error: float
    """Bootstrap standard error; NaN where the distance is infinite."""
    p_value: float
    """Of the permutation test: small where the samples differ."""
    null_mean: float
    """Mean distance where the rows of both samples are dealt out anew: what equal samples would give."""
    dropped_true: int
    """Rows of the true sample in which the observable is not defined."""
    dropped_generated: int
    """The same of the generated sample."""


@dataclass(frozen=True, eq=False, repr=False)
class PermutationResult:
    """The Wasserstein-1 distances of several observables; arrays have one entry for each."""

    distances: FloatArray
    """Over the standard deviation of the true sample."""
    errors: FloatArray
    """Bootstrap standard errors; NaN where a distance is infinite."""
    p_values: FloatArray
    """Of each observable alone: the smallest of many is small by chance, which the joint one accounts for."""
    null_means: FloatArray
    """Mean distances where the rows of both samples are dealt out anew: what equal samples would give."""
    dropped_true: IntArray
    """Rows of the true sample in which the observable is not defined."""
    dropped_generated: IntArray
    """The same of the generated sample."""
    joint_p_value: float
    """Of all observables together: below 0.05 for 5 % of equal samples, however the observables are correlated."""
    repeats: int
    """Number of permutations."""

    def __repr__(self) -> str:
        number = len(self.distances)
        return (
            f"<PermutationResult: joint p = {self.joint_p_value:.3g}, smallest p = {self.p_values.min():.3g} of "
            f"{number} {'observable' if number == 1 else 'observables'}, {self.repeats:,} permutations>"
        )


class KolmogorovSmirnov(NamedTuple):
    """The largest distance between two cumulative distributions, and its p-value."""

    statistic: float
    p_value: float


def wasserstein(
    true: npt.ArrayLike, generated: npt.ArrayLike, *, seed: int = 0, repeats: int = REPEATS
) -> WassersteinResult:
    """Compute the Wasserstein-1 distance of one observable over its spread, with its error and its significance.

    As ``permutation_test`` for a single observable.

    Args:
        true: (n,) one value a shower, NaN where the observable is not defined.
        generated: (m,) the same.
        seed: of the permutations and bootstrap samples.
        repeats: number of permutations.

    Returns:
        The distance and what belongs to it.

    Raises:
        ValueError: the samples, the seed or the repeats are not what they must be.
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
    repeats: int = REPEATS,
    seed: int = 0,
    resolution: npt.ArrayLike = 0.0,
) -> PermutationResult:
    """Compute the Wasserstein-1 distances of several observables, and test them one by one and together.

    W1 = integral of |F_true - F_generated|, over the defined values; divided by the standard deviation of the defined
    true values, or by the resolution where that is larger (where both are zero: 0 for equal samples, else infinite). It
    is infinite where an observable is defined
    in one sample only. A permutation deals the rows (showers) of both samples out anew, the same way for every
    observable, which keeps their correlations. The joint p-value is that of the smallest single one among the smallest
    ones of the permutations (Westfall and Young, Resampling-Based Multiple Testing, 1993, single-step minP); equal
    smallest p-values are ranked by the largest distance in units of its spread over the permutations, without which
    the joint p-value of k observables could hardly fall below k / repeats.

    Args:
        true: (n, k) one row a shower, NaN where an observable is not defined.
        generated: (m, k) the same.
        repeats: number of permutations; no p-value is smaller than 1 / (1 + repeats).
        seed: of the permutations and bootstrap samples.
        resolution: the smallest difference that counts, for all observables or (k,) for each.

    Returns:
        Distances, errors and p-values.

    Raises:
        ValueError: the samples, the seed or the repeats are not what they must be.
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
    with np.errstate(invalid="ignore"):  # infinite distances have no spread
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
    """Compute the Wasserstein-1 distances of several observables over their spreads, as ``permutation_test`` does.

    Args:
        true: (n, k) one row a shower, NaN where an observable is not defined.
        generated: (m, k) the same.
        resolution: the smallest difference that counts, for all observables or (k,) for each.

    Returns:
        (k,) distances.

    Raises:
        ValueError: the samples are not what they must be.
    """
    first, second = two_matrices(true, generated)
    observables = [_Observable(column) for column in np.concatenate([first, second]).T]
    observed = _distances(observables, _as_given(len(first), len(second)))
    return _over(observed[0], _units(first, resolution))


def kolmogorov_smirnov(true: npt.ArrayLike, generated: npt.ArrayLike) -> KolmogorovSmirnov:
    """Compute the Kolmogorov-Smirnov distance of one observable of showers, and its p-value.

    The p-value is that of one sample of n m / (n + m) values against a known distribution, which is right for large
    samples. It holds for independent values of a continuous observable: with ties (numbers of hits) it is too large,
    so that it alarms too rarely; for hits of the same shower, which are not independent, it is far too small.

    Args:
        true: (n,) one value a shower; NaN, where the observable is not defined, is dropped.
        generated: (m,) the same.

    Returns:
        The distance and its p-value.

    Raises:
        ValueError: the samples are not what they must be, or an observable is nowhere defined.
    """
    from scipy.stats import kstwo

    columns = two_columns(true, generated)
    first, second = (np.sort(column[~np.isnan(column)]) for column in columns)
    if not len(first) or not len(second):
        raise ValueError("A sample has no defined value (all are NaN); the observable cannot be compared.")
    places = np.concatenate([first, second])
    shares = (np.searchsorted(values, places, side="right") / len(values) for values in (first, second))
    statistic = float(np.abs(np.subtract(*shares)).max())
    effective = max(1, round(len(first) * len(second) / (len(first) + len(second))))
    return KolmogorovSmirnov(statistic, float(kstwo.sf(statistic, effective)))


class _Observable:
    """The defined values of both samples, sorted once."""

    def __init__(self, values: FloatArray) -> None:
        order = np.argsort(values, kind="stable").astype(np.int32)  # NaN go to the end
        defined = np.count_nonzero(~np.isnan(values))
        self.order, self.absent = order[:defined], order[defined:]
        self.gaps = np.append(np.diff(values[self.order]), 0.0)[:defined]


def _distances(observables: list[_Observable], blocks: Iterator[ByteArray]) -> FloatArray:
    """Compute (repeats, observables) distances, not yet divided by the spread, for blocks of weights."""
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
        weights = np.zeros((n + m, 2, size), dtype=np.uint8)  # no row is drawn 256 times
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
    """Return the p-value of row 0 among all rows, for each column and jointly."""
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
    """Return the length over which each distance is given."""
    defined = (column[~np.isnan(column)] for column in true.T)
    return np.maximum([std_of(column) if len(column) else 0.0 for column in defined], resolution)


def _spreads_of_draws(true: FloatArray, weights: FloatArray) -> FloatArray:
    """Compute the standard deviations of bootstrap samples.

    Args:
        true: (n, k) values.
        weights: (n, repeats) how often each row was drawn.

    Returns:
        (repeats, k) standard deviations, 0 where no value is defined.
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
    """Divide by the spread; where that is zero, 0 stays 0 and all else is infinite."""
    with np.errstate(over="ignore"):
        return np.where(spread > 0, lengths / np.where(spread > 0, spread, 1.0), np.where(lengths == 0, 0.0, np.inf))
