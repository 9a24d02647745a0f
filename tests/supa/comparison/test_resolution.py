"""Constants, and differences below the resolution of single precision, in all numbers of a comparison."""

import dataclasses
import json

import numpy as np
import pytest

import supa
from supa import Ragged, compare
from supa.comparison.report import html_of, verdict
from supa.comparison.resolution import RESOLUTION, merge_unresolved, resolutions
from supa.comparison.sample_statistics import SampleStatistics
from supa.distances import permutation_test


def _with_hits(showers, **columns):
    return dataclasses.replace(showers, hits=Ragged({**showers.hits.columns, **columns}, showers.offset))


@pytest.fixture(scope="module")
def samples():
    """Return showers with all their energy in one layer, so their response is 1."""
    return supa.simulate(120, "single-layer", seed=1), supa.simulate(90, "single-layer", seed=2)


def _scaled(showers, spread, offset=0.0):
    noise = 1 + offset + spread * np.random.default_rng(0).normal(size=showers.hits.num_rows)
    return _with_hits(showers, energy=showers.energy * noise)


def _compared(true, generated):
    result = compare(true, generated, repeats=99, multivariate=False)

    def refuse(constant):
        raise ValueError(constant)

    json.loads(json.dumps(result.to_dict(), allow_nan=False), parse_constant=refuse)
    return result, {o.name: o for o in result.observables}


BELOW = {
    "5e-9": lambda a, b: (a, _scaled(b, 0, -5e-9)),
    "equal to rounding": lambda a, b: (a, _scaled(b, 1e-7)),
    "both nearly constant": lambda a, b: (_scaled(a, 1e-7), _scaled(b, 1e-6)),
    "true nearly constant": lambda a, b: (_scaled(a, 1e-6), b),
    "1e-6 too high": lambda a, b: (a, _scaled(b, 0, 1e-6)),
}


@pytest.mark.parametrize("make", BELOW.values(), ids=BELOW)
def test_differences_below_the_resolution_of_float32_are_zero(samples, make):
    result, found = _compared(*make(*samples))
    response = found["response"]
    assert response.distance == (0, 0)
    assert response.distance_floor == response.separation.value == response.ks.statistic == 0
    assert response.p_value == response.ks.p_value == 1
    assert response.true_std == response.generated_std == 0
    assert response.true_mean == pytest.approx(1, abs=2e-6)
    assert response.true_mean == pytest.approx(response.generated_mean, abs=1e-12)
    assert result.observables[0].name != "response"
    assert "response" not in verdict(result)
    plain, _ = _compared(*samples)
    assert result.joint_p_value == plain.joint_p_value
    pulls = {pull.name: pull for pull in result.pulls}
    for name in pulls.keys() & {"energy fraction, layer 0"}:
        assert pulls[name].true_pull == pulls[name].generated_pull == 0


ABOVE = {
    "both constant": (lambda b: _scaled(b, 0, 0.01), 0.01),
    "both constant, a little": (lambda b: _scaled(b, 0, 1e-5), 1e-5),
    "generated with a spread": (
        lambda b: _with_hits(b, energy=b.energy * np.repeat(np.tile([0.9, 1.1], 45), np.diff(b.offset))), 0.1
    ),
}  # fmt: skip


@pytest.mark.parametrize(("make", "difference"), ABOVE.values(), ids=ABOVE)
def test_wrong_constant_has_a_finite_distance(samples, make, difference):
    result, found = _compared(samples[0], make(samples[1]))
    response = found["response"]
    assert response.distance.value == pytest.approx(difference / RESOLUTION, rel=0.01)
    assert response.p_value == 0.01
    assert response.separation.value == 1
    assert response.ks.statistic >= 0.5
    assert result.observables[0] is response
    assert result.differs
    assert "response" in verdict(result)


def test_single_different_shower_is_not_first_in_the_list(samples):
    true, generated = samples
    energy = generated.energy.copy()
    energy[0] *= 0.9
    result, found = _compared(true, _with_hits(generated, energy=energy))
    assert found["response"].distance.value > 0
    assert found["response"].p_value > 0.3
    assert result.observables[0].name != "response"


def test_constant_positions_of_hits(samples):
    true, generated = (_with_hits(sample, x=0 * sample.x, y=0 * sample.y) for sample in samples)
    noise = 1e-9 * np.random.default_rng(1).normal(size=generated.hits.num_rows)
    _, found = _compared(true, _with_hits(generated, x=noise))
    for name in ("centre x, layer 0", "width x, layer 0", "mean radius, layer 0", "hit x", "hit r"):
        assert found[name].distance.value == found[name].separation.value == 0, name
    _, found = _compared(true, _with_hits(generated, x=np.full_like(noise, 0.3)))
    for name in ("centre x, layer 0", "mean radius, layer 0", "hit x", "hit r"):
        assert 10 < found[name].distance.value < np.inf, name
        assert found[name].separation.value == 1, name
    result = compare(true, generated, repeats=19, multivariate=False)
    drawn = [o for o in result.observables if o.name.startswith(("mean radius", "centre x", "hit"))]
    assert "mean radius" in html_of(dataclasses.replace(result, observables=drawn))


def test_scores_detect_a_wrong_constant(samples):
    pytest.importorskip("sklearn", reason="scikit-learn is not installed")
    result = compare(samples[0], _scaled(samples[1], 0, 1e-4), repeats=19)
    scores = {score.name: score for score in result.scores}
    assert scores["Frechet distance"].value.value > 50  # clipped at 10 spreads
    assert scores["classifier AUC"].value.value == 1
    noise = {score.name: score for score in compare(samples[0], _scaled(samples[1], 1e-7), repeats=19).scores}
    assert noise["classifier AUC"].value.value < 0.8


def test_repr_of_a_comparison_is_short(samples):
    result = compare(samples[0], _scaled(samples[1], 0, 0.01), repeats=99, multivariate=False)
    assert repr(result).startswith(
        "<Comparison of 90 showers of generated with 120 showers of true: they differ, joint"
    )
    assert len(repr(result)) < 200
    columns = np.random.default_rng(0).normal(size=(2, 60, 44))
    assert len(repr(permutation_test(*columns, seed=0, repeats=19))) < 150


def test_resolution_of_counts_is_1_and_other_columns_are_merged():
    measured = SampleStatistics.of(supa.simulate(60, seed=3))
    fraction = "energy fraction, layer 2"
    found = resolutions(measured, ["num_hits", "response", "depth mean", fraction, "anisotropy, layer 0"])
    assert found["num_hits"] == 1
    assert found["anisotropy, layer 0"] == RESOLUTION
    assert found["response"] == pytest.approx(RESOLUTION, rel=1e-5)
    assert found["depth mean"] == RESOLUTION * measured.reach
    assert found[fraction] < RESOLUTION
    numbers = measured.columns["num_hits"].copy()
    values = np.array([0.0, 0.5, 0.9, 1.0, 5.0, np.nan, 5.2])
    measured.replace({"response": np.resize(values, 60)})
    merge_unresolved([measured], {"response": 1.0, "num_hits": 1.0})
    np.testing.assert_array_equal(measured.columns["response"][:7], [0.5, 0.5, 0.5, 1.0, 5.0, np.nan, 5.0])
    np.testing.assert_array_equal(measured.columns["num_hits"], numbers)
