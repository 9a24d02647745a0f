"""Refinement of samples: a simulator with another constant stands for the model."""

import dataclasses

import numpy as np
import pytest
from scipy.stats import ks_2samp

pytest.importorskip("sklearn", reason="scikit-learn is not installed")

import supa
from supa.comparison import refine_sample
from supa.comparison.refine import _choice

CONFIG = supa.ShowerConfig(incident_energy="log:20:80")


def model_sample(count, seed=9, **run):
    """Return showers that claim to be from a model of CONFIG, but split less in late slices."""
    showers = supa.simulate(count, CONFIG.replace(split_late=0.94 * CONFIG.split_late), seed=seed)
    run = {"config": CONFIG, "engine": "imported", "model": "toy", **run}
    return dataclasses.replace(showers, run=dataclasses.replace(showers.run, **run))


@pytest.fixture(scope="module")
def true():
    return supa.simulate(2500, CONFIG, seed=1)


@pytest.fixture(scope="module")
def weighted(true):
    return refine_sample(true, model_sample(2500), by="weights", keep=500)


def test_weights_correct_the_means_of_a_wrong_model(weighted):
    means = {mean.name: mean for mean in weighted.means}
    assert means["num_hits"].pulls[0] < -4
    assert means["mean log hit energy"].pulls[0] > 5
    assert max(abs(mean.pulls[1]) for mean in weighted.means) < 4
    # The incident energy is a feature, so the weights do not depend on it.
    assert abs(means["log incident energy"].pulls[1]) < 3
    assert "response" not in means
    assert abs(weighted.ratio.mean.value - 1) < 4 * weighted.ratio.mean.error
    assert abs(weighted.ratio.worst_bin.pull) < 4
    assert len(weighted.showers) == len(weighted.weight) == 2500
    refinement = weighted.showers.run.refinement
    assert (refinement.by, refinement.sampled, refinement.true_seed, refinement.true_last) == ("weights", 2500, 1, 2499)
    assert weighted.showers.run.model == "toy"


def test_rejection_and_resampling_draw_from_the_true_distribution():
    random = np.random.default_rng(1)
    true, values = random.normal(0.5, 1, 3000), random.normal(size=80_000)
    weight = np.exp(0.5 * values - 0.5**2 / 2)
    accepted, cap = _choice(weight, "rejection", None, random)
    resampled, none = _choice(weight, "resampling", 2000, random)
    assert cap == np.quantile(weight, 0.999)
    assert none is None
    np.testing.assert_array_equal(resampled // 40, np.arange(2000))  # one of each group, so none twice
    assert len(np.unique(accepted)) == len(accepted) > 3000
    assert ks_2samp(true, values[accepted]).pvalue > 0.01
    assert ks_2samp(true, values[resampled]).pvalue > 0.01
    assert ks_2samp(true, values[:2000]).pvalue < 1e-9


@pytest.mark.parametrize("by", ["rejection", "resampling"])
def test_the_seed_defines_the_refined_sample(true, weighted, by, monkeypatch):
    monkeypatch.setattr("supa.comparison.refine.density_ratio", lambda *_features, seed: weighted.ratio)
    first, again, other = (refine_sample(true, model_sample(2500), by=by, keep=400, seed=k) for k in (3, 3, 4))
    assert len(first.showers) == 400
    assert first.showers == again.showers
    assert first.showers != other.showers
    assert (np.diff(first.showers.index) > 0).all()
    assert first.weight is None
    if by == "rejection":
        lost = np.maximum(weighted.weight - first.cap, 0).sum() / weighted.weight.sum()
        assert first.truncated == pytest.approx(lost)
        assert 0 < lost < 0.01
        assert first.acceptance == pytest.approx(1 / first.cap, rel=0.2)
        with pytest.raises(ValueError, match=r"rejection accepted [\d,]+ showers of 2,500"):
            refine_sample(true, model_sample(2500), by=by, keep=int(weighted.ratio.effective_size))
    uneven = dataclasses.replace(weighted.ratio, weight=weighted.weight**8)
    monkeypatch.setattr("supa.comparison.refine.density_ratio", lambda *_features, seed: uneven)
    with pytest.raises(ValueError, match=r"the effective size of the sample is [\d,]+ of 2,500"):
        refine_sample(true, model_sample(2500), by=by, keep=1200)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"config": CONFIG.replace(incident_energy=50)}, "The conditions of the samples differ: incident_energy is"),
        ({"keep": "complete"}, "conditions of the samples differ: keep is 'all' in the true showers"),
        ({"model": None, "seed": 1}, "The sample contains true showers of seed 1"),
        ({}, "needs at least 1,000 showers of each sample, got 200"),
    ],
)
def test_samples_that_cannot_be_refined(true, change, message):
    with pytest.raises(ValueError, match=message):
        refine_sample(true, model_sample(200, **change), by="weights")


def test_other_misuse_has_one_clear_error(true, weighted):
    with pytest.raises(ValueError, match="The true showers are a sample of the model toy"):
        refine_sample(model_sample(20), true[:20], by="weights")
    with pytest.raises(ValueError, match="The sample is already refined: by weights"):
        refine_sample(true, weighted.showers, by="weights")
    with pytest.raises(ValueError, match="resampling chooses one of at least 2 showers: keep at most 10 of 20"):
        refine_sample(true, model_sample(20), by="resampling", keep=11)
    with pytest.raises(ValueError, match="no number was given"):
        refine_sample(true, model_sample(20), by="resampling")
    with pytest.raises(ValueError, match="The best of k showers by a reward does not follow the distribution"):
        refine_sample(true, model_sample(20), by="best-of-k")


def test_a_comparison_refuses_the_showers_that_refined(true, weighted):
    options = {"repeats": 19, "multivariate": False}
    refinement = dataclasses.replace(weighted.showers.run.refinement, by="rejection")
    refined = weighted.showers[:60]
    with pytest.raises(ValueError, match="generated: its showers have weights"):
        supa.compare(true, refined, **options)
    refined = dataclasses.replace(refined, run=dataclasses.replace(refined.run, refinement=refinement))
    with pytest.raises(ValueError, match="was refined with showers of true: by rejection"):
        supa.compare(true[100:200], refined, **options)
    assert supa.compare(supa.simulate(60, CONFIG, seed=2), refined, **options).generated.showers == 60
    later = supa.simulate(60, CONFIG, seed=1, first=2500)
    assert supa.compare(later, refined, **options).true.showers == 60
