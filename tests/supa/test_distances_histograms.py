"""Separation power: plain loop over the bins, noise floor and error, and the choice of edges."""

import itertools

import numpy as np
import pytest

from supa.distances import edges_of, separation, separation_estimate


def _naive(true, generated, edges):
    def shares(values):
        bins = [sum(v < edges[0] for v in values), sum(v >= edges[-1] for v in values), sum(np.isnan(values))]
        bins += [sum(low <= v < high for v in values) for low, high in itertools.pairwise(edges)]
        return [count / len(values) for count in bins]

    pairs = zip(shares(true), shares(generated), strict=True)
    return 0.5 * sum((a - b) ** 2 / (a + b) for a, b in pairs if a + b)


def test_separation_equals_plain_loops():
    random = np.random.default_rng(1)
    for n, m in ((50, 50), (30, 81)):
        true, generated = random.integers(-3, 9, size=n) * 0.5, random.normal(2, 3, size=m)
        true[:4] = generated[:9] = np.nan
        for edges in ([0, 1, 2], [-1.5, 0, 0.5, 3], [100, 101]):
            assert separation(true, generated, edges) == pytest.approx(_naive(true, generated, edges), rel=1e-12)


def test_values_outside_the_edges_are_counted():
    inside, below, above, undefined = np.full(9, 0.5), np.full(9, -1.0), np.full(9, 2.0), np.full(9, np.nan)
    samples = [inside, below, above, undefined]
    for first in samples:
        for second in samples:
            assert separation(first, second, [0, 1]) == (0 if first is second else 1)


def test_mean_over_equal_samples_is_the_noise_floor():
    random = np.random.default_rng(2)
    edges, n, m = np.linspace(-1, 1, 11), 500, 800
    values = np.array([separation(random.normal(size=n), random.normal(size=m), edges) for _ in range(400)])
    assert values.mean() == pytest.approx(11 * (1 / n + 1 / m) / 4, abs=4 * values.std() / 20)


def test_error_is_at_least_that_of_equal_samples():
    """Only bins with entries count. Bootstrap samples of constant values have no variance."""
    estimate = separation_estimate(np.full(30, 0.5), np.full(20, 3.5), [0, 1, 2, 3, 4], seed=0)
    assert estimate == (1, pytest.approx((1 / 30 + 1 / 20) / np.sqrt(8)))


def test_error_equals_the_scatter():
    random = np.random.default_rng(3)
    edges = np.linspace(-2, 2, 9)
    estimates = [
        separation_estimate(random.normal(size=400), random.normal(0.7, 1, size=500), edges, seed=k) for k in range(200)
    ]
    values = np.array([e.value for e in estimates])
    assert np.mean([e.error for e in estimates]) == pytest.approx(values.std(), rel=0.15)
    true, generated = random.normal(size=50), random.normal(size=50)
    again = [separation_estimate(true, generated, edges, seed=5) for _ in range(2)]
    assert again[0] == again[1]
    assert again[0].value == separation(true, generated, edges)


CASES = {
    "normal": lambda random: random.normal(size=10_000),
    "seven decades": lambda random: 10 ** random.uniform(-7, 0, size=10_000),
    "far outliers": lambda random: np.append(random.normal(size=9_990), np.full(10, 1e20)),
    "counts": lambda random: random.poisson(90, size=10_000),
    "few": lambda random: random.normal(size=30),
}


@pytest.mark.parametrize(("n", "bins"), [(15, 1), (16, 2), (400, 10), (9_999, 49), (1_000_000, 50)])
def test_number_of_bins_increases_with_sample_size(n, bins):
    assert len(edges_of(np.random.default_rng(0).random(n))) == bins + 1


@pytest.mark.parametrize("make", CASES.values(), ids=CASES)
def test_bins_contain_equal_fractions(make):
    values = make(np.random.default_rng(4))
    edges = edges_of(values)
    counts = np.bincount(np.searchsorted(edges, values, side="right"), minlength=len(edges) + 1)
    assert (np.diff(edges) > 0).all()
    assert 2 <= len(edges) <= 51
    assert counts.min() > 0.3 * len(values) / len(counts)
    assert counts.max() < 3 * len(values) / len(counts)


def test_repeated_value_has_its_own_bin():
    random = np.random.default_rng(5)
    values = np.where(random.random(10_000) < 0.6, 0.0, random.exponential(size=10_000))
    other = np.where(values == 0, 1e-9, values)
    assert separation(values, other, edges_of(values)) > 0.5
    for constant in (7.5, 3.0):
        edges = edges_of(np.full(100, constant))
        assert separation(np.full(100, constant), np.full(100, constant + 1), edges) == 1
        assert separation(np.full(100, constant), np.full(100, constant - 1), edges) == 1


def test_edges_of_counts_are_half_integers():
    edges = edges_of(np.arange(1000) % 10)
    np.testing.assert_array_equal(edges % 1, 0.5)
    assert len(edges) >= 9
    np.testing.assert_array_equal(edges_of([np.nan, np.nan]), [0, 1])


@pytest.mark.parametrize("edges", [[1], [1, 1], [2, 1], [0, np.nan], "ab", [[0, 1], [2, 3]], 3.0])
def test_wrong_edges_raise_a_clear_error(edges):
    with pytest.raises(ValueError, match="2 or more ascending"):
        separation([1.0], [1.0], edges)


def test_wrong_samples_raise_a_clear_error():
    with pytest.raises(ValueError, match="true: 1 value is infinite"):
        edges_of([np.inf])
    with pytest.raises(ValueError, match="repeats"):
        separation_estimate([1.0], [1.0], [0, 1], seed=0, repeats=0)


@pytest.mark.parametrize("shift", [0.0, 0.7])
def test_errors_are_correct_for_equal_and_different_samples(shift):
    """A plain bootstrap error is 1.7 times too large for equal samples."""
    random = np.random.default_rng(12)
    edges = np.linspace(-2, 2, 25)
    pairs = [(random.normal(size=500), random.normal(shift, 1, size=400)) for _ in range(150)]
    estimates = np.array([separation_estimate(*pair, edges, seed=k) for k, pair in enumerate(pairs)])
    assert estimates[:, 1].mean() == pytest.approx(estimates[:, 0].std(), rel=0.2)


def test_single_value_has_its_own_bin():
    """If all true showers have a response of 1, a response of 1.01 is in another bin."""
    edges = edges_of(np.ones(100))
    assert separation(np.ones(100), np.ones(80), edges) == 0
    assert separation(np.ones(100), np.full(80, 1.01), edges) == 1
    assert separation(np.ones(100), np.full(80, 0.99), edges) == 1
