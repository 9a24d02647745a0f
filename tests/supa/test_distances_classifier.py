"""Classifier test: areas from scikit-learn and plain loops, and the false-alarm rate for equal samples."""

import sys

import numpy as np
import pytest

from supa.distances import classifier_auc
from supa.distances.classifier import area_under_curve

sklearn = pytest.importorskip("sklearn", reason="the extra 'compare' is not installed")


@pytest.mark.parametrize("ties", [False, True])
def test_area_and_its_variance_equal_plain_loops(ties):
    from sklearn.metrics import roc_auc_score

    random = np.random.default_rng(1)
    low, high = random.normal(size=37), random.normal(0.8, 1, size=52)
    if ties:
        low, high = np.round(low), np.round(high)
    area, variance = area_under_curve(low, high)
    assert area == pytest.approx(roc_auc_score(np.repeat([0, 1], [37, 52]), np.concatenate([low, high])))
    won = [[float(h > l) + 0.5 * (h == l) for l in low] for h in high]
    of_high = [sum(row) / 37 for row in won]
    of_low = [sum(row[j] for row in won) / 52 for j in range(37)]
    expected = sum((v - area) ** 2 for v in of_high) / 51 / 52 + sum((v - area) ** 2 for v in of_low) / 36 / 37
    assert variance == pytest.approx(expected)


@pytest.mark.slow
def test_false_alarm_rate_for_equal_samples():
    """Without the factor for shared showers, errors are 0.7 of the scatter and over 10 % of the pairs alarm."""
    random = np.random.default_rng(2)
    pairs = 80
    results = [classifier_auc(random.normal(size=(60, 2)), random.normal(size=(60, 2)), seed=k) for k in range(pairs)]
    areas = np.array([r.auc for r in results])
    assert areas.mean() == pytest.approx(0.5, abs=3 * areas.std() / pairs**0.5)
    assert np.mean([r.p_value <= 0.05 for r in results]) <= 0.05 + 2 * (0.05 * 0.95 / pairs) ** 0.5
    assert 0.85 < np.mean([r.error for r in results]) / areas.std() < 1.4
    assert 0.85 < np.mean([r.equal_error for r in results]) / areas.std() < 1.4


def test_classifier_detects_a_correlation():
    """The marginal distributions are equal, but one sample is correlated."""
    random = np.random.default_rng(3)
    common = random.normal(size=(3000, 1))
    correlated = 0.8 * common + 0.6 * random.normal(size=(3000, 2))
    result = classifier_auc(random.normal(size=(3000, 2)), correlated, seed=0)
    assert result.p_value < 1e-3
    assert 0.55 < result.auc < 0.75


def test_area_for_a_shift_equals_the_closed_form():
    """The optimal classifier of N(0, 1) and N(s, 1) has the area Phi(s / sqrt 2)."""
    from scipy.stats import norm

    random = np.random.default_rng(4)
    result = classifier_auc(random.normal(size=(3000, 1)), random.normal(1, 1, size=(3000, 1)), seed=0)
    assert result.auc == pytest.approx(norm.cdf(1 / 2**0.5), abs=4 * result.error)
    assert result.auc < norm.cdf(1 / 2**0.5) + 3 * result.error


def test_a_column_that_is_defined_in_a_few_of_many_rows_is_left_out():
    """Scikit-learn may hold back all of these rows, and does not accept the column of the others."""
    random = np.random.default_rng(1)
    true, generated = random.normal(size=(2, 7000, 2))
    true[:, 1], generated[:, 1] = np.nan, np.nan
    generated[0, 1] = 3.0
    results = [classifier_auc(true, generated, seed=seed).auc for seed in (7, 12, 13)]
    assert np.abs(np.array(results) - 0.5).max() < 0.03


def test_classifier_uses_undefined_values_and_separates_disjoint_samples():
    random = np.random.default_rng(5)
    true = random.normal(size=(400, 1))
    some = np.where(random.random((400, 1)) < 0.5, np.nan, true)
    assert classifier_auc(true, some, seed=0).auc > 0.6
    apart = classifier_auc(true, true + 100, seed=0)
    assert (apart.auc, apart.error) == (1, 0)
    assert apart.equal_error > 0.02  # the error of equal samples does not depend on the samples
    assert apart.p_value < 1e-9
    same = classifier_auc(np.ones((50, 2)), np.ones((50, 2)), seed=0)
    assert (same.auc, same.p_value) == (0.5, 0.5)


def test_result_depends_on_the_seed_but_not_on_the_scale(monkeypatch):
    random = np.random.default_rng(6)
    true, generated = random.normal(size=(300, 2)), random.normal(0.3, 1, size=(200, 2))
    result = classifier_auc(true, generated, seed=1)
    assert classifier_auc(true, generated, seed=1) == result
    assert classifier_auc(true, generated, seed=2) != result
    assert classifier_auc(true * [4, 0.5], generated * [4, 0.5], seed=1).auc == pytest.approx(result.auc, abs=1e-9)
    monkeypatch.setattr("supa.distances.classifier.MOST_ROWS", 100)
    assert classifier_auc(true, generated[:90], seed=1).rows_true == 100


def test_wrong_arguments_raise_a_clear_error(monkeypatch):
    with pytest.raises(ValueError, match="at least 10"):
        classifier_auc(np.zeros((9, 1)), np.zeros((20, 1)), seed=0)
    with pytest.raises(ValueError, match="infinite"):
        classifier_auc(np.full((20, 1), np.inf), np.zeros((20, 1)), seed=0)
    monkeypatch.setitem(sys.modules, "sklearn.ensemble", None)
    with pytest.raises(ValueError, match=r"pip install 'supa-showers\[compare\]'"):
        classifier_auc(np.zeros((20, 1)), np.zeros((20, 1)), seed=0)


def test_error_for_different_samples_is_that_of_independent_rows():
    """The factor for equal samples would make the error 1.4 times too large."""
    random = np.random.default_rng(7)
    low, high = random.normal(size=400), random.normal(2, 1, size=400)
    result = classifier_auc(low[:, None], high[:, None], seed=0)
    _, variance = area_under_curve(low, high)  # scores of the optimal classifier
    assert result.error == pytest.approx(variance**0.5, rel=0.25)
