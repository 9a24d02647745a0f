"""The engine cpu agrees with a plain Python implementation: equal trees and bit-identical energies."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from naive_walk import LEAK, STOP, walk
from strategies import configs

import supa
from supa.primaries import draw_primaries


def _compare(config: supa.ShowerConfig, seed: int, index: int) -> None:
    shower = supa.simulate(1, config, seed=seed, first=index, record="particles", threads=1)
    primaries = draw_primaries(config, seed, np.array([index]))
    columns = (primaries.energy, primaries.x, primaries.y, primaries.slope_x, primaries.slope_y)
    tree = walk(config, seed, index, [tuple(float(c[p]) for c in columns) for p in range(len(primaries.energy))])
    recorded = shower.particles
    assert recorded is not None
    assert recorded["fate"].tolist() == [p.fate for p in tree]
    assert recorded["parent"].tolist() == [p.parent for p in tree]
    assert recorded["slice"].tolist() == [p.slice for p in tree]
    assert recorded["primary"].tolist() == [p.primary for p in tree]
    assert recorded["energy"].tolist() == [p.energy for p in tree]
    # Rounding errors grow with the slopes, so the tolerance depends on the largest slope.
    steepest = max(abs(s) for p in tree for s in (p.slope_x, p.slope_y))
    tolerance = 1e-12 * max(1.0, steepest) ** 2 * config.slice_spacing * config.num_slices
    np.testing.assert_allclose(recorded["x"], [p.x for p in tree], rtol=1e-12, atol=max(tolerance, 1e-12))
    np.testing.assert_allclose(recorded["y"], [p.y for p in tree], rtol=1e-12, atol=max(tolerance, 1e-12))
    hits = [p for p in tree if p.fate == STOP]
    assert shower.energy.tolist() == [p.energy for p in hits]
    assert shower.slice.tolist() == [p.slice for p in hits]
    assert shower.x.tolist() == recorded["x"][recorded["fate"] == STOP].tolist()
    assert shower.leaked_energy[0] == pytest.approx(sum(p.energy for p in tree if p.fate == LEAK), rel=1e-12)


@pytest.mark.parametrize("name", supa.PRESETS)
def test_presets_equal_the_plain_implementation(name):
    _compare(supa.preset(name), 0, 0)


@pytest.mark.parametrize(("seed", "index"), [(7, 123456), (2**64 - 1, 2**56 - 2), (2**32, 2**32 - 1)])
def test_any_seed_and_index_equal_the_plain_implementation(seed, index):
    _compare(supa.preset("two-primaries"), seed, index)


@settings(max_examples=60, deadline=None)
@given(configs(forward=True), st.integers(0, 2**64 - 1), st.integers(0, 2**56 - 2))
def test_random_configs_equal_the_plain_implementation(config, seed, index):
    _compare(config, seed, index)


@settings(max_examples=60, deadline=None)
@given(configs(), st.integers(0, 2**64 - 1))
@example(supa.preset("standard"), 0)
def test_energy_is_conserved_up_to_rounding(config, seed):
    showers = supa.simulate(50, config, seed=seed)
    deposited = np.bincount(showers.hits.group_of_row(), weights=showers.energy, minlength=50)
    np.testing.assert_allclose(deposited + showers.leaked_energy, showers.incident_energy, rtol=1e-12)
    shared = np.bincount(showers.primaries.group_of_row(), weights=showers.primaries["energy"], minlength=50)
    np.testing.assert_allclose(shared, showers.incident_energy, rtol=1e-12)
    assert np.isfinite(showers.x).all()
    assert np.isfinite(showers.y).all()
    assert (showers.energy >= 0).all()


@settings(max_examples=30, deadline=None)
@given(configs(), st.integers(0, 2**32 - 1))
def test_every_config_runs_on_both_engines(config, seed):
    cpu = supa.simulate(5, config, seed=seed, record="particles")
    reference = supa.simulate(5, config, seed=seed, record="particles", engine="reference")
    assert cpu.incident_energy.tolist() == reference.incident_energy.tolist()
    assert cpu.primaries.equals(reference.primaries)
    for showers in (cpu, reference):
        assert showers.hits.num_rows == (showers.particles["fate"] == STOP).sum()
        deposited = np.bincount(showers.hits.group_of_row(), weights=showers.energy, minlength=5)
        np.testing.assert_allclose(deposited + showers.leaked_energy, showers.incident_energy, rtol=1e-12)


def test_directions_that_point_backwards_are_mirrored():
    config = supa.ShowerConfig(opening_angle=(1.5, 1.5), deviation=0.4, polar_angle=(1.2, 1.5))
    showers = supa.simulate(500, config)
    step = config.slice_spacing * 1001 * config.num_slices
    assert np.isfinite(showers.x).all()
    assert np.abs(showers.x).max() < step


def test_a_shower_that_does_not_fit_into_memory_raises_a_clear_error(monkeypatch):
    monkeypatch.setattr("supa.simulation_plan.available_bytes", lambda: 64 << 20)
    explosive = supa.ShowerConfig(num_slices=40, split_early=1, first_stop_slice=40, readout_layers=((0, 39),))
    for engine in ("cpu", "reference"):
        with pytest.raises(MemoryError, match=r"Shower 0 grows beyond [\d,]+ particles.*lower num_slices"):
            supa.simulate(1, explosive, engine=engine, threads=1)


def test_showers_that_do_not_fit_into_memory_raise_a_clear_error(monkeypatch):
    monkeypatch.setattr("supa.collector.available_bytes", lambda: 1 << 20)
    with pytest.raises(MemoryError, match=r"100,000 showers need about 0\.\d GiB.*supa\.stream"):
        supa.simulate(100_000)
