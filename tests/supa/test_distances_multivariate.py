"""Distances of many features: plain loops, closed forms, bias and errors."""

import numpy as np
import pytest
from scipy.linalg import sqrtm

from supa.distances import frechet_distance, frechet_gaussian, kernel_distance, neighbour_scores, standardised
from supa.distances.errors import scale_influences
from supa.distances.samples import shuffled_groups


def _mixed(random, n):
    """Return correlated features on very different scales."""
    common = random.normal(size=(n, 1))
    return (random.normal(size=(n, 4)) + common) * [1, 1e3, 1e-3, 2] + [0, 5, 1, -3]


# ---------------------------------------------------------------- standardisation


def test_standardised_uses_the_true_median_and_spread():
    random = np.random.default_rng(1)
    true, generated = random.normal(5, 3, size=(20_000, 2)), random.normal(8, 3, size=(20_000, 2))
    first, second = standardised(true, generated)
    np.testing.assert_allclose(np.median(first, axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(first.std(axis=0), 1, atol=0.03)
    np.testing.assert_allclose(second.mean(axis=0), 1, atol=0.05)


def test_undefined_values_become_the_median_and_an_extra_column():
    true = np.array([[1.0, 10], [2, 20], [np.nan, 30]])
    generated = np.array([[np.nan, 10.0], [2, 20]])
    first, second = standardised(true, generated)
    np.testing.assert_array_equal(first[:, 2], [0, 0, 1])
    np.testing.assert_array_equal(second[:, 2], [1, 0])
    assert first.shape == (3, 3)
    assert first[2, 0] == second[0, 0] == 0
    assert frechet_distance(np.tile(true, (9, 1)), np.tile(generated, (9, 1)), seed=0).value > 0


@pytest.mark.parametrize("of_the_true_sample", [True, False])
def test_undefined_values_of_either_sample_add_a_column(of_the_true_sample):
    complete, lacking = np.array([[1.0], [2], [3]]), np.array([[1.0], [np.nan]])
    pair = (lacking, complete) if of_the_true_sample else (complete, lacking)
    assert [sample.shape[1] for sample in standardised(*pair)] == [2, 2]


def test_outliers_and_constants_remain_finite():
    true = np.column_stack([np.ones(50), np.append(np.zeros(49), 1), np.arange(50.0), np.full(50, np.nan)])
    generated = true + np.array([1, 0, 1e29, 0])
    first, second = standardised(true, generated)
    assert np.isfinite(first).all()
    np.testing.assert_array_equal(second[:, 0], 1)  # no spread: the unit is 1
    assert first[-1, 1] == pytest.approx((1 - 0) / np.std(true[:, 1]))  # equal quantiles: the standard deviation
    np.testing.assert_array_equal(second[:, 2], 10)
    for distance in (frechet_distance, kernel_distance, neighbour_scores):
        distance(true, generated, seed=0)


# ---------------------------------------------------------------- Frechet


def test_closed_form_of_two_normal_distributions():
    """Compare with the matrix root of SciPy, and with variances along common axes."""
    random = np.random.default_rng(2)
    for k in (1, 3, 8):
        a, b = random.normal(size=(2, k, k + 2))
        c1, c2, m1, m2 = a @ a.T, b @ b.T, random.normal(size=k), random.normal(size=k)
        expected = ((m1 - m2) ** 2).sum() + np.trace(c1 + c2 - 2 * np.real(sqrtm(c1 @ c2)))
        assert frechet_gaussian(m1, c1, m2, c2) == pytest.approx(expected, rel=1e-9)
    assert frechet_gaussian([0, 1], np.diag([4, 9]), [2, 1], np.diag([1, 25])) == pytest.approx(4 + 1 + 4)


def test_singular_covariances_have_finite_distances():
    flat = np.diag([1.0, 0, 0])
    assert frechet_gaussian(np.zeros(3), flat, np.zeros(3), np.zeros((3, 3))) == pytest.approx(1)
    assert frechet_gaussian(np.zeros(3), flat, np.zeros(3), np.diag([0.0, 1, 0])) == pytest.approx(2)
    random = np.random.default_rng(3)
    wide = random.normal(size=(2, 10, 40))  # fewer rows than features
    assert all(np.isfinite(frechet_distance(*wide, seed=0)))
    doubled = np.repeat(random.normal(size=(2, 200, 2)), 2, axis=2)
    assert abs(frechet_distance(*doubled, seed=0).value) < 0.1


def test_extrapolation_is_the_line_through_two_sizes():
    """Compute the covariances of the remaining rows directly, for each group of rows."""
    random = np.random.default_rng(4)
    true, generated = _mixed(random, 230), _mixed(random, 170)
    first, second = standardised(true, generated)

    def distance(x, y):
        return frechet_gaussian(x.mean(axis=0), np.cov(x.T), y.mean(axis=0), np.cov(y.T))

    groups, draws = 50, np.random.default_rng(7)
    dealt = [shuffled_groups(len(rows), groups, draws) for rows in (first, second)]
    without = [distance(np.delete(first, a, axis=0), np.delete(second, b, axis=0)) for a, b in zip(*dealt, strict=True)]
    sizes = np.array([1.0, 1 / (1 - 1 / groups)])  # 1 / N in units of 1 / (all rows)
    line = np.polyfit(sizes, [distance(first, second), np.mean(without)], 1)
    estimate = frechet_distance(true, generated, seed=7)
    assert estimate.value == pytest.approx(line[1], rel=1e-7)


def test_extrapolation_agrees_with_a_fit_over_ten_sizes():
    """Use the method of JetNet (gen_metrics.py, fpd), but draw rows without replacement."""
    random = np.random.default_rng(5)
    true, generated = random.normal(size=(4000, 5)), random.normal(0.1, 1.1, size=(4000, 5))
    first, second = standardised(true, generated)
    inverse, values = np.linspace(1 / 4000, 1 / 1600, 10), []
    for size in (1 / inverse).astype(int):
        draws = [[rows[random.permutation(4000)[:size]] for rows in (first, second)] for _ in range(10)]
        values.append(np.mean([
            frechet_gaussian(x.mean(axis=0), np.cov(x.T), y.mean(axis=0), np.cov(y.T)) for x, y in draws
        ]))  # fmt: skip
    estimate = frechet_distance(true, generated, seed=0)
    assert np.polyfit(inverse, values, 1)[1] == pytest.approx(estimate.value, abs=estimate.error)


def test_frechet_distance_of_shifted_and_scaled_normals():
    """Pulls of repeated samples have mean 0 and width 1. The errors include those of the scale."""
    random = np.random.default_rng(6)
    pulls = []
    for k in range(100):
        true, generated = random.normal(size=(2000, 3)), random.normal(size=(2000, 3))
        generated = generated * [1, 1.5, 1] + [2, 0, 0]
        estimate = frechet_distance(true, generated, seed=k)
        pulls.append((estimate.value - (2**2 + 0.5**2)) / estimate.error)
    assert abs(np.mean(pulls)) < 0.35
    assert 0.8 < np.std(pulls) < 1.2


def _spectra(random, n):
    """Return correlated features with the tails of energies and of rare counts."""
    size = random.gamma(2, size=(n, 1))
    return np.column_stack([size * random.gamma(50, size=(n, 6)), random.poisson(0.2 * size), random.normal(size=n)])


@pytest.mark.parametrize("distance", [frechet_distance, kernel_distance])
def test_pulls_of_equal_samples_have_mean_0_and_width_1(distance):
    """Errors correlated with the values have a mean pull of -0.35 (ten batches) or -0.41 (jackknife)."""
    random = np.random.default_rng(8)
    pulls = []
    for k in range(200):
        value, error = distance(_spectra(random, 250), _spectra(random, 200), seed=k)
        pulls.append(value / error)
    assert abs(np.mean(pulls)) < 0.2
    assert 0.85 < np.std(pulls) < 1.15


# ---------------------------------------------------------------- kernel


def test_kernel_distance_equals_plain_loops(monkeypatch):
    """Compare the value and, for equal samples, the variance of a sum over pairs."""
    random = np.random.default_rng(9)
    true, generated = _mixed(random, 43), _mixed(random, 37)
    x, y = standardised(true, generated)

    def kernel(x, y):
        return np.array([[(sum(a * b for a, b in zip(p, q, strict=True)) / len(p) + 1) ** 4 for q in y] for p in x])

    def off(values):
        return values[~np.eye(len(values), dtype=bool)]

    def centred(values, *, same):
        weights = 1.0 - np.eye(len(values)) if same else np.ones(values.shape)
        one, other = (np.average(values, axis=k, weights=weights) for k in (1, 0))
        return values - one[:, None] - other + np.average(values, weights=weights)

    xx, yy, xy = kernel(x, x), kernel(y, y), kernel(x, y)
    variance = (
        2 * (off(centred(xx, same=True)) ** 2).mean() / 43**2
        + 2 * (off(centred(yy, same=True)) ** 2).mean() / 37**2
        + 4 * (centred(xy, same=False) ** 2).mean() / (43 * 37)
    )
    for block in (1000, 2):
        monkeypatch.setattr("supa.distances.mmd._BLOCK", block)
        estimate = kernel_distance(true, generated, seed=3)
        assert estimate.value == pytest.approx(off(xx).mean() + off(yy).mean() - 2 * xy.mean(), rel=1e-9)
        assert estimate.error == pytest.approx(variance**0.5, rel=1e-9)


def test_large_samples_are_split_into_batches(monkeypatch):
    """Batches have the same mean distance as the full samples, and correct errors."""
    random = np.random.default_rng(17)
    pairs = [(random.normal(size=(400, 2)), random.normal(1, 1, size=(370, 2))) for _ in range(60)]
    whole = np.array([kernel_distance(*pair, seed=0) for pair in pairs])
    monkeypatch.setattr("supa.distances.mmd._LARGEST_BATCH", 100)
    batched = np.array([kernel_distance(*pair, seed=0) for pair in pairs])
    assert batched[:, 0].mean() == pytest.approx(whole[:, 0].mean(), rel=0.02)
    for values, errors in (whole.T, batched.T):
        assert 0.75 < errors.mean() / values.std() < 1.35


def test_batch_has_at_least_three_rows_of_the_smaller_sample(monkeypatch):
    """Five rows are a single batch, so the order of rows does not matter."""
    random = np.random.default_rng(18)
    pair = random.normal(size=(200, 2)), random.normal(size=(5, 2))
    monkeypatch.setattr("supa.distances.mmd._LARGEST_BATCH", 100)
    values = [kernel_distance(*pair, seed=seed).value for seed in range(3)]
    assert values == pytest.approx([values[0]] * 3, rel=1e-9)


def test_undefined_rows_increase_the_influence_of_the_others():
    """The influence of a row is the number of all rows times the change due to this row."""
    values = np.random.default_rng(22).normal(size=(60, 1))
    bare = scale_influences(values)
    diluted = scale_influences(np.concatenate([values, np.full((60, 1), np.nan)]))
    for one, other in zip(bare, diluted, strict=True):
        np.testing.assert_allclose(other[:60], 2 * one, rtol=1e-12)
        assert not other[60:].any()


@pytest.mark.parametrize("s", [0.5, 2.0])
def test_kernel_distance_of_a_shift_equals_the_closed_form(s):
    """For one feature and y = x + s, MMD^2 = sum over j of binom(4, j) (E x^j - E y^j)^2."""
    random = np.random.default_rng(10)
    expected = 4 * s**2 + 6 * (s**2) ** 2 + 4 * (3 * s + s**3) ** 2 + (6 * s**2 + s**4) ** 2
    estimates = np.array([
        kernel_distance(random.normal(size=(500, 1)), random.normal(s, 1, size=(500, 1)), seed=k) for k in range(40)
    ])  # fmt: skip
    pulls = (estimates[:, 0] - expected) / estimates[:, 1]
    assert abs(pulls.mean()) < 4 / 40**0.5
    # Without the fluctuations of the spread, the errors would be half of the scatter.
    assert 0.75 < estimates[:, 1].mean() / estimates[:, 0].std() < 1.35


# ---------------------------------------------------------------- both


@pytest.mark.parametrize("distance", [frechet_distance, kernel_distance])
def test_small_shift_is_detected(distance):
    random = np.random.default_rng(11)
    true, generated = random.normal(size=(5000, 3)), random.normal(size=(5000, 3))
    shifted = distance(true, generated + np.array([0.2, 0, 0]), seed=0)
    equal = distance(true, generated, seed=0)
    assert shifted.value > 3 * shifted.error
    assert abs(equal.value) < 3 * equal.error


@pytest.mark.parametrize("distance", [frechet_distance, kernel_distance, neighbour_scores])
def test_result_depends_on_the_seed_but_not_on_the_scale(distance):
    random = np.random.default_rng(12)
    true, generated = _mixed(random, 300), _mixed(random, 250)
    result = distance(true, generated, seed=1)
    assert distance(true, generated, seed=1) == result
    assert distance(true, generated, seed=2) != result
    scaled = distance(true * [2, 4, 8, 0.5] - 1, generated * [2, 4, 8, 0.5] - 1, seed=1)
    columns = distance(true[:, ::-1], generated[:, ::-1], seed=1)
    rows = distance(random.permutation(true), random.permutation(generated), seed=1)
    if distance is neighbour_scores:
        for other in (scaled, columns, rows):
            assert other.precision.value == result.precision.value
            assert other.density.value == pytest.approx(result.density.value)
    else:
        for other in (scaled, columns):
            assert tuple(other) == pytest.approx(tuple(result), rel=1e-6)
        assert rows.value == pytest.approx(result.value, abs=2 * result.error)


# ---------------------------------------------------------------- neighbours


@pytest.mark.parametrize("make", [_mixed, lambda random, n: random.integers(0, 3, size=(n, 2)) * 1.0], ids=["", "ties"])
def test_neighbour_scores_equal_plain_loops(make):
    random = np.random.default_rng(13)
    true, generated, k = make(random, 40), make(random, 30) * 1.2, 3
    result = neighbour_scores(true, generated, k=k, seed=0)
    x, y = standardised(true, generated)

    def distances(a, b):
        return [[sum((p - q) ** 2) ** 0.5 for q in b] for p in a]

    across, edge = distances(x, y), 1 + 1e-9
    true_radius = [sorted(row)[k] * edge for row in distances(x, x)]
    generated_radius = [sorted(row)[k] * edge for row in distances(y, y)]
    n, m = len(x), len(y)
    held = [[across[i][j] <= true_radius[i] for j in range(m)] for i in range(n)]
    reached = [[across[i][j] <= generated_radius[j] for j in range(m)] for i in range(n)]
    assert result.precision.value == pytest.approx(sum(any(held[i][j] for i in range(n)) for j in range(m)) / m)
    assert result.recall.value == pytest.approx(sum(any(row) for row in reached) / n)
    assert result.density.value == pytest.approx(sum(map(sum, held)) / (k * m))
    assert result.coverage.value == pytest.approx(sum(any(row) for row in held) / n)
    assert (result.rows_true, result.rows_generated) == (n, m)
    assert np.isnan(result.recall.error)


def test_errors_are_those_of_the_mean_over_ten_parts():
    random = np.random.default_rng(21)
    x, y = random.normal(size=(140, 2)), random.normal(0.3, 1, size=(90, 2))
    result = neighbour_scores(x, y, k=3, seed=4)
    draws = np.random.default_rng(4)
    first, second = (draws.permutation(rows) for rows in standardised(x, y))
    dealt = [shuffled_groups(len(rows), 10, draws) for rows in (first, second)]
    parts = []
    for a, b in zip(*dealt, strict=True):
        across = np.linalg.norm(first[a][:, None] - second[b], axis=2)
        radius = np.sort(np.linalg.norm(first[a][:, None] - first[a], axis=2), axis=1)[:, 3]
        parts.append((across <= radius[:, None]).any(axis=1).mean())
    assert result.coverage.error == pytest.approx(np.std(parts, ddof=1) / np.sqrt(10))
    assert np.isnan(neighbour_scores(x, y, k=9, seed=4).coverage.error)  # a part of the smaller sample has 9 rows


def test_coverage_of_equal_samples_has_its_closed_form():
    """Naeem et al., lemma 2: 1 - (m - 1) ... (m - k) / ((2 m - 1) ... (2 m - k)) for m rows each, about 1 - 2^-k."""
    random = np.random.default_rng(14)
    scores = [
        neighbour_scores(random.normal(size=(300, 2)), random.normal(size=(300, 2)), k=3, seed=k) for k in range(60)
    ]
    coverage = np.array([s.coverage.value for s in scores])
    expected = 1 - np.prod([(300 - i) / (600 - i) for i in (1, 2, 3)])
    assert coverage.mean() == pytest.approx(expected, abs=4 * coverage.std() / 60**0.5)
    density = np.array([s.density.value for s in scores])
    assert density.mean() == pytest.approx(1, abs=4 * density.std() / 60**0.5)
    for name, values in (("coverage", coverage), ("density", density)):
        assert 0.6 < np.mean([getattr(s, name).error for s in scores]) / values.std() < 1.7


def test_mode_collapse_and_invented_modes_have_different_scores():
    random = np.random.default_rng(15)
    true = random.normal(size=(1000, 2))
    collapsed = neighbour_scores(true, 0.2 * random.normal(size=(1000, 2)), seed=0)
    assert collapsed.precision.value > 0.95
    assert collapsed.recall.value < 0.5
    assert collapsed.coverage.value < 0.6
    invented = neighbour_scores(true, np.vstack([true[:500] + 1e-3, true[500:] + 20]), seed=0)
    assert invented.precision.value == pytest.approx(0.5, abs=0.05)
    assert invented.recall.value > 0.7


def test_equal_rows_are_inside_all_balls():
    scores = neighbour_scores(np.ones((1200, 2)), np.ones((1100, 2)), seed=0)
    assert (scores.precision.value, scores.recall.value, scores.coverage.value) == (1, 1, 1)
    assert scores.density.value == 1200 / 5
    assert neighbour_scores(np.ones((1200, 2)), np.zeros((1100, 2)), seed=0).coverage.value == 0


def test_rows_of_large_samples_are_limited(monkeypatch):
    monkeypatch.setattr("supa.distances.precision_recall.MOST_ROWS", 100)
    random = np.random.default_rng(16)
    result = neighbour_scores(random.normal(size=(150, 2)), random.normal(size=(90, 2)), seed=0)
    assert (result.rows_true, result.rows_generated) == (100, 90)


MISTAKES = {
    "few rows": (lambda: frechet_distance(np.zeros((3, 2)), np.zeros((9, 2)), seed=0), "at least 4 rows, got 3"),
    "one row": (
        lambda: kernel_distance(np.zeros((9, 2)), np.zeros((1, 2)), seed=0),
        "generated: .* at least 4 rows, got 1",
    ),
    "no row": (lambda: kernel_distance(np.zeros((9, 2)), np.zeros((0, 2)), seed=0), "cannot be empty"),
    "k rows": (lambda: neighbour_scores(np.zeros((5, 2)), np.zeros((9, 2)), k=5, seed=0), "at least 6"),
    "k": (lambda: neighbour_scores(np.zeros((5, 2)), np.zeros((9, 2)), k=0, seed=0), "k: 0 was given"),
    "columns": (lambda: frechet_distance(np.zeros((9, 2)), np.zeros((9, 3)), seed=0), "same columns"),
    "infinite": (lambda: standardised(np.full((9, 1), np.inf), np.zeros((9, 1))), "true: 9 values are infinite"),
    "seed": (lambda: frechet_distance(np.zeros((9, 2)), np.zeros((9, 2)), seed=0.5), "seed: 0.5"),
    "means": (lambda: frechet_gaussian([0], [[1]], [0, 0], np.eye(2)), "with the same k"),
    "words": (lambda: frechet_gaussian(["a"], [[1]], [0], [[1]]), "arrays of numbers"),
    "lists": (lambda: standardised([[1], [1, 2]], np.zeros((9, 1))), "array of numbers of shape"),
    "not finite": (lambda: frechet_gaussian([np.nan], [[1]], [0], [[1]]), "finite numbers"),
}


@pytest.mark.parametrize(("make", "message"), MISTAKES.values(), ids=MISTAKES)
def test_wrong_arguments_raise_a_clear_error(make, message):
    with pytest.raises(ValueError, match=message):
        make()
