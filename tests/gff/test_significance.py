"""Tests of the significance tests: known numbers, SciPy, and false-positive rates."""

from itertools import product

import numpy as np
import pytest
from scipy import stats

from supa_gff.bench.significance import corrected_t_test, holm, wilcoxon_signed_rank


def test_corrected_t_test_of_known_numbers():
    # Mean 1, variance 2, ten folds: t = 1 / sqrt((0.1 + 1/9) 2) = 1.5390.
    differences = 1 + np.sqrt(2) * np.array([1, -1] * 5) * np.sqrt(9 / 10)
    assert differences.var(ddof=1) == pytest.approx(2)
    assert corrected_t_test(differences, 1 / 9) == pytest.approx(2 * stats.t.sf(1.5389675, 9), rel=1e-6)
    assert corrected_t_test(-differences, 1 / 9) == corrected_t_test(differences, 1 / 9)
    # Without the correction it is the usual paired t-test.
    assert corrected_t_test(differences, 1e-15) == pytest.approx(stats.ttest_1samp(differences, 0).pvalue)
    assert corrected_t_test([0.0, 0.0, 0.0], 0.1) == 1
    assert corrected_t_test([2.0, 2.0, 2.0], 0.1) == 0


def test_corrected_t_test_has_low_false_positive_rate():
    """The test is applied to two equally good methods on random splits of one sample. Their training sets overlap.

    Each method estimates the mean of one of two noisy columns, and the methods are compared by their test losses.
    """
    random = np.random.default_rng(0)
    alarms, uncorrected, trials, n = 0, 0, 400, 100
    for _ in range(trials):
        a, b = random.normal(size=(2, n))
        differences = []
        for _ in range(10):
            order = random.permutation(n)
            train, test = order[:90], order[90:]
            differences.append(np.mean((a[test] - a[train].mean()) ** 2) - np.mean((b[test] - b[train].mean()) ** 2))
        alarms += corrected_t_test(differences, 1 / 9) < 0.05
        uncorrected += stats.ttest_1samp(differences, 0).pvalue < 0.05
    assert alarms / trials < 0.09
    assert uncorrected / trials > 0.12


def test_wilcoxon_equals_scipy_without_ties_and_enumeration_with_ties():
    random = np.random.default_rng(1)
    for n in (1, 3, 6, 11, 20):
        values = random.normal(0.3, 1, n)
        assert wilcoxon_signed_rank(values) == pytest.approx(stats.wilcoxon(values, method="exact").pvalue)
    for _ in range(5):
        values = random.integers(-3, 6, 8).astype(float)
        left = values[values != 0]
        ranks = stats.rankdata(np.abs(left))
        sums = np.array([np.dot(signs, ranks) for signs in product([-1, 1], repeat=len(left))])
        observed = abs(np.dot(np.sign(left), ranks))
        assert wilcoxon_signed_rank(values) == pytest.approx(np.mean(np.abs(sums) >= observed - 1e-9))
    assert wilcoxon_signed_rank([1.0, 2.0, 3.0, 4.0, 5.0]) == 2 / 2**5
    assert wilcoxon_signed_rank([0.0, 0.0]) == wilcoxon_signed_rank([]) == 1


def test_holm_of_known_numbers():
    assert holm([0.01, 0.04, 0.03, 0.005]).tolist() == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]).tolist() == [1, 1]
    assert holm([]).tolist() == []


def test_holm_controls_family_wise_error_rate():
    p_values = np.random.default_rng(2).random((2000, 10))
    assert np.mean([holm(row).min() < 0.05 for row in p_values]) < 0.065


@pytest.mark.parametrize(
    ("function", "arguments", "message"),
    [
        (corrected_t_test, ([1.0], 0.1), "at least 2 finite numbers"),
        (corrected_t_test, ([1.0, np.nan], 0.1), "finite numbers"),
        (corrected_t_test, ([1.0, 2.0], 0), "test_over_train: 0 was given"),
        (wilcoxon_signed_rank, ([np.inf],), "finite numbers"),
        (holm, ([1.5],), "must be between 0 and 1"),
    ],
)
def test_invalid_arguments_raise(function, arguments, message):
    with pytest.raises(ValueError, match=message):
        function(*arguments)
