"""The exact expectations agree with the published table and with the full enumeration of small trees."""

import itertools
from collections import defaultdict

import numpy as np
import pytest

from supa import NoClosedFormError, ShowerConfig, expectation
from supa.physics import build_walk, fate_probabilities


def test_expectations_of_reference_equal_the_published_ones():
    e = expectation("reference")
    assert e.particles[:8] == pytest.approx([1.6**l for l in range(8)])
    assert e.hits[7:19] == pytest.approx(
        [9.7531, 10.0977, 9.9096, 9.2370, 8.1876, 6.9049, 5.5406, 4.2289, 3.0683, 2.1142, 1.3820, 0.8458], abs=5e-5
    )
    assert e.energy[7:13] == pytest.approx([0.363330, 0.255687, 0.167134, 0.101528, 0.057278, 0.029962], abs=5e-7)
    assert e.energy_entering[7:11] == pytest.approx([1, 0.636670, 0.380983, 0.213849], abs=5e-7)
    assert e.layer_hits == pytest.approx([19.8507, 50.5730, 1.6659], abs=5e-5)
    assert e.layer_hits_variance**0.5 == pytest.approx(
        [10.130, 29.939, 3.200], abs=1e-3
    )  # published with truncated digits
    assert e.total_hits_variance**0.5 == pytest.approx(39.169, abs=2e-3)  # published with truncated digits
    assert e.layer_energy == pytest.approx([0.619017, 0.380843, 0.00013966], abs=5e-7)
    assert e.tree_particles == pytest.approx(194.396, abs=5e-4)
    assert e.leaked_particles == pytest.approx(0.00249, abs=5e-6)
    assert e.leaked_energy == pytest.approx(4.7e-9, rel=0.01)
    assert e.probability_layer_empty == pytest.approx([0.0011869, 0.0051160, 0.6797137], abs=5e-8)
    assert e.probability_complete == pytest.approx(0.3202044, abs=5e-8)


def test_expectations_of_dense_equal_the_published_ones():
    e = expectation("dense")
    assert e.layer_hits == pytest.approx([27.9, 881.6, 322.8], abs=0.06)
    assert e.tree_particles == pytest.approx(3087, abs=0.5)
    assert e.leaked_energy == pytest.approx(2.1e-5, rel=0.02)
    assert e.probability_complete == pytest.approx(0.99979, abs=5e-6)


SMALL = ShowerConfig(
    num_slices=4,
    first_stop_slice=1,
    stop_amplitude=0.8,
    stop_scale=3,
    stop_exponent=0.5,
    split_early=0.7,
    split_late=0.25,
    readout_layers=((1, 1), (2, 3)),
)


def _distribution(config: ShowerConfig, l: int = 0) -> dict[tuple[tuple[int, float], ...], float]:
    """Return the probability of every set of (slice, energy share) of the leaves, with equal splits."""
    if l == config.num_slices:
        return {((l, 1.0),): 1.0}
    stop, split = fate_probabilities(config)
    below = _distribution(config, l + 1)
    result: dict[tuple[tuple[int, float], ...], float] = defaultdict(float)
    result[((l, 1.0),)] += stop[l]
    for leaves, p in below.items():
        result[leaves] += (1 - stop[l] - split[l]) * p
    for (a, p), (b, q) in itertools.product(below.items(), repeat=2):
        halves = tuple(sorted((s, e / 2) for s, e in a + b))
        result[halves] += split[l] * p * q
    return {leaves: p for leaves, p in result.items() if p > 0}


def _of_primaries(config: ShowerConfig) -> dict[tuple[tuple[int, float], ...], float]:
    """Return the same for all primaries together, each with an equal share of the energy."""
    one = _distribution(config)
    result: dict[tuple[tuple[int, float], ...], float] = defaultdict(float)
    together: dict[tuple[tuple[int, float], ...], float] = {(): 1.0}
    for n, probability in enumerate(config.primary_count.probabilities()):
        if n:
            grown: dict[tuple[tuple[int, float], ...], float] = defaultdict(float)
            for (a, p), (b, q) in itertools.product(together.items(), one.items()):
                grown[tuple(sorted(a + b))] += p * q
            together = grown
        for leaves, p in together.items():
            result[tuple((s, e / max(n, 1)) for s, e in leaves)] += probability * p
    return result


@pytest.mark.parametrize("keep", ["all", "complete"])
@pytest.mark.parametrize("primaries", [1, 2])
def test_expectations_equal_full_enumeration(keep, primaries):
    config = SMALL.replace(num_primaries=primaries, num_slices=4 if primaries == 1 else 3)
    slices, layers = config.num_slices, config.num_layers
    layer_of_slice = build_walk(config).layer_of_slice
    total, hits, energy = 0.0, np.zeros(slices), np.zeros(slices + 1)
    empty, first, second = np.zeros(layers), np.zeros(layers), np.zeros((layers, layers))
    complete = leaked = 0.0
    for leaves, p in _of_primaries(config).items():
        in_layer = np.zeros(layers)
        for s, _ in leaves:
            if s < slices:
                in_layer[layer_of_slice[s]] += 1
        empty += p * (in_layer == 0)
        complete += p * (in_layer > 0).all()
        if keep == "complete" and not (in_layer > 0).all():
            continue
        total += p
        first += p * in_layer
        second += p * np.outer(in_layer, in_layer)
        for s, e in leaves:
            energy[s] += p * e
            if s < slices:
                hits[s] += p
            else:
                leaked += p
    exact = expectation(config, keep=keep)
    close = {"rel": 1e-12, "abs": 1e-14}
    assert exact.probability_layer_empty == pytest.approx(empty, **close)
    assert exact.probability_complete == pytest.approx(complete, **close)
    assert exact.hits == pytest.approx(hits / total, **close)
    assert exact.energy == pytest.approx(energy[:-1] / total, **close)
    assert exact.leaked_energy == pytest.approx(energy[-1] / total, **close)
    assert exact.leaked_particles == pytest.approx(leaked / total, **close)
    assert exact.layer_hits == pytest.approx(first / total, **close)
    covariance = second / total - np.outer(first, first) / total**2
    assert exact.layer_hits_covariance == pytest.approx(covariance, **close)


def test_a_poisson_number_of_primaries_is_a_mixture_of_fixed_numbers():
    mixed = SMALL.replace(num_primaries="poisson:1.7")
    exact = expectation(mixed, keep="complete")
    weights, hits, energy = 0.0, np.zeros(4), np.zeros(4)
    for n, p in enumerate(mixed.primary_count.probabilities()):
        if n:
            fixed = expectation(SMALL.replace(num_primaries=n), keep="complete")
            weights += p * fixed.probability_complete
            hits += p * fixed.probability_complete * fixed.hits
            energy += p * fixed.probability_complete * fixed.energy
    assert exact.probability_complete == pytest.approx(weights, rel=1e-12)
    assert exact.hits == pytest.approx(hits / weights, rel=1e-12)
    assert exact.energy == pytest.approx(energy / weights, rel=1e-12)


def test_mean_energy_is_conserved():
    for name in ("standard", "reference", "dense", "two-primaries"):
        for keep in ("all", "complete"):
            e = expectation(name, keep=keep)
            assert e.energy.sum() + e.leaked_energy == pytest.approx(1, abs=1e-12)
            assert e.layer_energy.sum() + e.leaked_energy == pytest.approx(1, abs=1e-12)
            assert e.energy_entering[0] == pytest.approx(1, abs=1e-12)


def test_configs_without_a_closed_form_raise_an_error():
    with pytest.raises(NoClosedFormError, match=r"critical_energy = 0\.2 GeV .* no closed form; simulate"):
        expectation("critical")
    many = ShowerConfig(num_slices=20, first_stop_slice=7, readout_layers=tuple((l, l) for l in range(7, 20)))
    assert np.isnan(expectation(many).probability_complete)
    assert expectation(many).layer_hits.sum() == pytest.approx(expectation(many).hits.sum())
    with pytest.raises(NoClosedFormError, match="13 layers were given, at most 12"):
        expectation(many, keep="complete")
    never = ShowerConfig(stop_amplitude=0.0, split_late=0.0)
    with pytest.raises(NoClosedFormError, match="No shower of this config"):
        expectation(never, keep="complete")
    with pytest.raises(ValueError, match="keep: 'some' was given"):
        expectation("standard", keep="some")


def test_an_expectation_prints_as_a_small_table():
    exact = expectation("standard", keep="complete")
    assert repr(exact) == "<Expectation of standard, keep='complete': 97.48 hits in 3 layers>"
    lines = str(exact).splitlines()
    assert len(lines) == 13
    assert lines[0] == repr(exact)
    assert lines[2].split() == ["hits", f"{exact.total_hits:.6g}", f"{exact.total_hits_variance**0.5:.6g}"]
    assert lines[4].split()[-1] == f"{exact.layer_energy[0]:.6g}"
    assert all(len(line) <= 80 for line in lines)
    many = str(expectation(ShowerConfig(readout_layers=tuple((k, k) for k in range(7, 28))))).splitlines()
    assert len(many) == 24
    assert many[-1] == "... and 13 more layers"
    assert "in 1 layer>" in repr(expectation("single-layer"))
