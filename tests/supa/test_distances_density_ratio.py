"""Density ratio from a classifier: samples whose ratio is known exactly."""

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="scikit-learn is not installed")

from supa.distances import density_ratio
from supa.distances.reweighting import calibrated_log_ratio

SHIFT = 0.5


@pytest.fixture(scope="module")
def shifted():
    """Normal samples with the log ratio SHIFT (x + y - SHIFT), and their weights."""
    random = np.random.default_rng(3)
    true, generated = random.normal(SHIFT, 1, (4000, 2)), random.normal(size=(5000, 2))
    return true, generated, density_ratio(true, generated, seed=1)


def test_the_ratio_of_normal_samples_is_the_exact_one(shifted):
    _, generated, ratio = shifted
    exact = SHIFT * (generated.sum(axis=1) - SHIFT)
    assert np.corrcoef(np.log(ratio.weight), exact)[0, 1] > 0.94
    # E[w^2] = exp(2 SHIFT^2) for the exact ratio
    assert ratio.effective_size == pytest.approx(len(generated) / np.exp(2 * SHIFT**2), rel=0.1)
    assert ratio.weight.mean() == pytest.approx(1)


def test_the_weights_close(shifted):
    true, generated, ratio = shifted
    assert abs(ratio.mean.value - 1) < 4 * ratio.mean.error < 0.12
    assert ratio.closes
    assert sum(one.rows for one in ratio.calibration) == len(true) + len(generated)
    error = np.sqrt(1 / len(true) + 1 / ratio.effective_size)
    weighted = np.average(generated, axis=0, weights=ratio.weight)
    assert (np.abs(weighted - true.mean(axis=0)) < 4 * error).all()
    assert (np.abs(generated.mean(axis=0) - true.mean(axis=0)) > 15 * error).all()


def test_no_weight_comes_from_a_classifier_that_used_the_row():
    """Trees that have seen rows of equal samples separate them, and their weights differ."""
    random = np.random.default_rng(4)
    true, generated = random.normal(size=(2, 1000, 12))
    ratio = density_ratio(true, generated, seed=0)
    assert ratio.effective_size > 0.97 * len(generated)
    assert abs(ratio.worst_bin.pull) < 4


def test_samples_with_hardly_any_overlap_do_not_close():
    random = np.random.default_rng(7)
    ratio = density_ratio(random.normal(6, 1, (1000, 1)), random.normal(size=(1000, 1)), seed=0)
    assert not ratio.closes
    assert ratio.effective_size < 100


def test_samples_of_different_sizes_have_a_mean_ratio_of_one():
    random = np.random.default_rng(5)
    ratio = density_ratio(random.normal(size=(3000, 1)), random.normal(size=(1000, 1)), seed=0)
    assert ratio.mean.value == pytest.approx(1, abs=0.05)


def test_the_seed_defines_the_weights_and_few_rows_are_an_error():
    true, generated = np.random.default_rng(6).normal(size=(2, 1000, 1))
    first = density_ratio(true, generated, seed=1).weight
    np.testing.assert_array_equal(density_ratio(true, generated, seed=1).weight, first)
    assert (density_ratio(true, generated, seed=2).weight != first).any()
    with pytest.raises(ValueError, match=r"generated: a calibrated classifier needs at least 1,000 showers .* 999"):
        density_ratio(true, generated[:999])


def test_the_ratio_of_other_rows_is_calibrated():
    random = np.random.default_rng(4)
    true, generated = random.normal(0.8, 1, size=(2000, 1)), random.normal(size=(6000, 1))
    log_ratio = calibrated_log_ratio(true, generated, seed=0)
    x = np.linspace(-0.8, 1.6, 25)
    assert np.abs(log_ratio(x[:, None]) - (0.8 * x - 0.32)).mean() < 0.2
    weight = np.exp(log_ratio(random.normal(size=(4000, 1))))
    assert abs(weight.mean() - 1) < 0.1
    with pytest.raises(ValueError, match=r"generated: a calibrated classifier needs at least 1,000 showers"):
        calibrated_log_ratio(true, generated[:999], seed=0)
