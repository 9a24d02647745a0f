"""Wasserstein and Kolmogorov-Smirnov distances: SciPy, plain loops, and calibration of p-values."""

import numpy as np
import pytest
from scipy.stats import ks_2samp, kstest, wasserstein_distance

from supa.distances import kolmogorov_smirnov, permutation_test, wasserstein, wasserstein_distances
from supa.distances.one_dimensional import _significance

SAMPLES = {
    "normal": lambda random, n: random.normal(size=n),
    "ties": lambda random, n: random.integers(0, 4, size=n).astype(float),
    "heavy tail": lambda random, n: random.standard_cauchy(size=n),
    "undefined values": lambda random, n: np.where(random.random(n) < 0.3, np.nan, random.normal(size=n)),
}


def _defined(values):
    return values[~np.isnan(values)]


@pytest.mark.parametrize("make", SAMPLES.values(), ids=SAMPLES)
@pytest.mark.parametrize(("n", "m"), [(40, 40), (31, 57)])
def test_distance_equals_scipy_in_units_of_the_spread(make, n, m):
    random = np.random.default_rng(1)
    true, generated = make(random, n), make(random, m) + 0.5
    result = wasserstein(true, generated, seed=0, repeats=20)
    expected = wasserstein_distance(_defined(true), _defined(generated)) / _defined(true).std()
    assert result.distance == pytest.approx(expected, rel=1e-12)
    assert result.dropped_true == np.isnan(true).sum()
    assert result.dropped_generated == np.isnan(generated).sum()


@pytest.mark.parametrize("make", SAMPLES.values(), ids=SAMPLES)
def test_error_noise_floor_and_p_value_equal_plain_loops(make):
    """The loops draw their own permutations, so both agree within their fluctuations."""
    random = np.random.default_rng(2)
    n, m, repeats = 60, 45, 1500
    true, generated = make(random, n), make(random, m) * 1.3
    result = wasserstein(true, generated, seed=0, repeats=repeats)
    spread, pooled = _defined(true).std(), np.concatenate([true, generated])
    null, bootstrap = [], []
    for _ in range(repeats):
        shuffled = random.permutation(pooled)
        null.append(wasserstein_distance(_defined(shuffled[:n]), _defined(shuffled[n:])) / spread)
        first, second = random.choice(true, n), random.choice(generated, m)
        bootstrap.append(wasserstein_distance(_defined(first), _defined(second)) / _defined(first).std())
    assert result.null_mean == pytest.approx(np.mean(null), abs=6 * np.std(null) / repeats**0.5)
    assert result.error == pytest.approx(np.std(bootstrap), rel=0.25)  # 200 samples: 5 %, more with heavy tails
    share = np.mean(np.array(null) >= result.distance)
    assert result.p_value == pytest.approx(share, abs=5 * (0.5 / repeats) ** 0.5)


def test_significance_equals_plain_loops():
    random = np.random.default_rng(3)
    for _ in range(20):
        distances = random.integers(0, 12, size=(25, 3)).astype(float)
        rows, columns = distances.shape
        p = [[sum(distances[s, k] >= distances[r, k] for s in range(rows)) / rows for k in range(columns)]
             for r in range(rows)]  # fmt: skip
        mean, std = distances.mean(axis=0), distances.std(axis=0)
        key = [(min(p[r]), -round(max((distances[r] - mean) / std), 9)) for r in range(rows)]
        single, joint = _significance(distances)
        np.testing.assert_allclose(single, p[0])
        assert joint == pytest.approx(sum(key[r] <= key[0] for r in range(rows)) / rows)


def _correlated(random, n):
    """Return three correlated columns, one of which has few whole numbers, and a column with undefined values."""
    common = random.normal(size=n)
    return np.column_stack([
        common + 0.3 * random.normal(size=n),
        common + 0.3 * random.normal(size=n),
        np.floor(common),
        np.where(common < -0.5, np.nan, random.exponential(size=n)),
    ])  # fmt: skip


def test_false_alarm_rate_for_equal_samples():
    """Single and joint p-values are uniform, or larger if there are ties."""
    random = np.random.default_rng(4)
    pairs = 400
    results = [
        permutation_test(_correlated(random, 40), _correlated(random, 40), repeats=99, seed=k) for k in range(pairs)
    ]
    joint = np.array([r.joint_p_value for r in results])
    single = np.array([r.p_values for r in results])
    deviation = (0.05 * 0.95 / pairs) ** 0.5
    assert np.mean(joint <= 0.05) == pytest.approx(0.05, abs=3 * deviation)
    for k in (0, 1, 3):
        assert np.mean(single[:, k] <= 0.05) == pytest.approx(0.05, abs=3 * deviation)
        assert kstest(single[:, k], "uniform").pvalue > 1e-3
    assert np.mean(single[:, 2] <= 0.05) <= 0.05 + 3 * deviation
    assert np.mean(single[:, 2] <= 0.3) == pytest.approx(0.3, abs=0.07)
    assert kstest(joint, "uniform").pvalue > 1e-3
    # The smallest of four p-values alarms more often than the joint p-value.
    assert np.mean(single.min(axis=1) <= 0.05) > 0.05 + 5 * deviation


def test_null_mean_is_the_noise_floor():
    random = np.random.default_rng(5)
    results = [wasserstein(random.normal(size=200), random.normal(size=200), seed=k, repeats=100) for k in range(100)]
    distances = np.array([r.distance for r in results])
    assert np.mean([r.null_mean for r in results]) == pytest.approx(distances.mean(), abs=4 * distances.std() / 10)


def test_small_shift_is_detected():
    random = np.random.default_rng(6)
    true, generated = random.normal(size=(5000, 12)), random.normal(size=(5000, 12))
    assert permutation_test(true, generated, repeats=300, seed=0).joint_p_value > 0.05
    generated[:, 7] += 0.1
    result = permutation_test(true, generated, repeats=300, seed=0)
    assert result.p_values[7] == 1 / 301
    assert result.joint_p_value == 1 / 301
    assert result.distances[7] == pytest.approx(0.1, abs=4 * result.errors[7])


def test_error_equals_the_scatter_of_the_distance():
    random = np.random.default_rng(7)
    results = [
        wasserstein(random.normal(size=300), random.normal(0.5, 1, size=300), seed=k, repeats=1) for k in range(200)
    ]
    assert np.mean([r.error for r in results]) == pytest.approx(np.std([r.distance for r in results]), rel=0.15)


def test_result_does_not_depend_on_scale_order_and_blocks(monkeypatch):
    random = np.random.default_rng(8)
    true, generated = _correlated(random, 80), _correlated(random, 70)
    result = permutation_test(true, generated, repeats=150, seed=1)
    again = permutation_test(true, generated, repeats=150, seed=1)
    np.testing.assert_array_equal(result.p_values, again.p_values)
    np.testing.assert_array_equal(result.errors, again.errors)
    scaled = permutation_test(8 * true + 3, 8 * generated + 3, repeats=150, seed=1)
    np.testing.assert_allclose(scaled.distances, result.distances, rtol=1e-9)
    assert scaled.joint_p_value == result.joint_p_value
    shuffled = permutation_test(random.permutation(true), random.permutation(generated), repeats=150, seed=1)
    np.testing.assert_allclose(shuffled.distances, result.distances, rtol=1e-12)
    monkeypatch.setattr("supa.distances.one_dimensional._BLOCK_BYTES", 2 * 150 * 7)
    blocks = permutation_test(true, generated, repeats=150, seed=1)
    np.testing.assert_allclose(blocks.p_values, result.p_values)
    np.testing.assert_allclose(blocks.errors, result.errors)
    assert permutation_test(true, generated, repeats=150, seed=2).errors[0] != result.errors[0]


def test_constant_and_undefined_observables():
    one, nan = np.ones(5), np.full(5, np.nan)
    equal = wasserstein(one, one, seed=0, repeats=10)
    assert (equal.distance, equal.error, equal.p_value, equal.null_mean) == (0, 0, 1, 0)
    other = wasserstein(one, 2 * one, seed=0, repeats=300)
    assert other.distance == np.inf
    assert other.p_value < 0.05
    nowhere = wasserstein(nan, nan, seed=0, repeats=10)
    assert (nowhere.distance, nowhere.p_value, nowhere.dropped_true) == (0, 1, 5)
    once = wasserstein(np.arange(5.0), nan, seed=0, repeats=300)
    assert (once.distance, once.dropped_generated) == (np.inf, 5)
    assert once.p_value < 0.05
    assert np.isnan(once.error)
    single = wasserstein([1.0], [2.0], seed=0, repeats=10)
    assert (single.distance, single.p_value) == (np.inf, 1)
    far = permutation_test(np.ones((9, 2)) * [1, 2], np.ones((9, 2)) * [1, 3], repeats=99, seed=0)
    assert far.joint_p_value <= 0.02


def test_kolmogorov_smirnov_equals_plain_loops():
    random = np.random.default_rng(9)
    for make in SAMPLES.values():
        true, generated = make(random, 50), make(random, 70)
        first, second = _defined(true), _defined(generated)
        expected = max(abs(np.mean(first <= z) - np.mean(second <= z)) for z in [*first, *second])
        result = kolmogorov_smirnov(true, generated)
        assert result.statistic == pytest.approx(expected)
        asymptotic = ks_2samp(first, second, method="asymp")
        assert result.p_value == pytest.approx(asymptotic.pvalue)
        assert result.p_value == pytest.approx(ks_2samp(first, second, method="exact").pvalue, abs=0.12)
    assert kolmogorov_smirnov([1.0], [2.0]) == (1, 0)


@pytest.mark.parametrize("n", [30, 1200])
def test_false_alarm_rate_of_kolmogorov_smirnov(n):
    random = np.random.default_rng(10)
    results = [kolmogorov_smirnov(random.normal(size=n), random.normal(size=n)).p_value for _ in range(500)]
    assert 0.02 < np.mean(np.array(results) <= 0.05) < 0.08
    ties = [kolmogorov_smirnov(random.integers(3, size=n) * 1.0, random.integers(3, size=n) * 1.0) for _ in range(500)]
    assert np.mean([t.p_value <= 0.05 for t in ties]) < 0.05  # conservative, as documented


MISTAKES = {
    "empty": (lambda: wasserstein([], [1.0], seed=0), "cannot be empty"),
    "words": (lambda: wasserstein(["a"], [1.0], seed=0), "array of numbers"),
    "a number": (lambda: wasserstein(1.0, [1.0], seed=0), "array of numbers of shape"),
    "infinite": (lambda: wasserstein([1.0], [np.inf, 2.0], seed=0), "generated: 1 value is infinite"),
    "infinite column": (
        lambda: permutation_test(np.zeros((2, 3)), [[0, 0, 0], [0, -np.inf, 0]], seed=0),
        "the first in column 1",
    ),
    "columns": (lambda: permutation_test(np.zeros((2, 3)), np.zeros((2, 2)), seed=0), "same columns"),
    "one column": (lambda: permutation_test(np.zeros(3), np.zeros(3), seed=0), r"\(rows, features\)"),
    "no column": (lambda: permutation_test(np.zeros((3, 0)), np.zeros((3, 0)), seed=0), "cannot be empty"),
    "seed": (lambda: wasserstein([1.0], [1.0], seed=-1), "seed: -1"),
    "repeats": (lambda: wasserstein([1.0], [1.0], seed=0, repeats=0), "repeats: 0"),
    "undefined": (lambda: kolmogorov_smirnov([np.nan], [1.0]), "must have a defined value"),
}


@pytest.mark.parametrize(("make", "message"), MISTAKES.values(), ids=MISTAKES)
def test_wrong_arguments_raise_a_clear_error(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_error_of_a_shift_includes_that_of_the_spread(shift):
    """With a fixed spread, the error of a shift by 3 would be half of the scatter."""
    random = np.random.default_rng(11)
    results = [
        wasserstein(random.normal(size=200), random.normal(shift, 1, size=200), seed=k, repeats=1) for k in range(150)
    ]
    scatter = np.std([result.distance for result in results])
    assert np.mean([result.error for result in results]) == pytest.approx(scatter, rel=0.2)


def test_resolution_is_the_smallest_spread():
    true, generated = (
        np.column_stack([np.ones(50), np.arange(50.0)]),
        np.column_stack([np.full(40, 1.5), np.arange(40.0)]),
    )
    bare = permutation_test(true, generated, repeats=19, seed=0)
    result = permutation_test(true, generated, repeats=19, seed=0, resolution=[0.25, 0.25])
    assert bare.distances[0] == np.inf
    assert (result.distances[0], result.errors[0], result.p_values[0]) == (2, 0, 0.05)
    assert result.distances[1] == bare.distances[1]
    assert wasserstein_distances(true, generated, resolution=0.25)[0] == 2


def test_errors_are_in_units_of_the_resolution():
    random = np.random.default_rng(19)
    pair = 1e-3 * random.normal(size=(50, 1)), 1e-3 * random.normal(2, 1, size=(40, 1))
    fine, coarse = (permutation_test(*pair, repeats=1, seed=0, resolution=unit) for unit in (0.25, 0.5))
    assert fine.errors[0] > 0
    assert (coarse.distances[0], coarse.errors[0]) == pytest.approx((fine.distances[0] / 2, fine.errors[0] / 2))
