"""200,000 showers of every preset agree with the exact expectations.

Every compared quantity is one number per shower. The showers are independent, so the standard errors are valid. The
bound is 5 standard errors, which a nearly normal mean of 200,000 numbers exceeds with a probability of 5.7e-7. With
about 1,000 comparisons in this file, the total false-alarm rate is below 1e-3 for a new seed; the seed is fixed. If too
few showers contribute for a nearly normal mean, the number of contributing showers is compared with its exact binomial
distribution instead.
"""

import numpy as np
import pytest
from scipy import stats

import supa
from supa.physics import LEAK

SHOWERS = 200_000
SEED = 20220512
BOUND = 5.0
FALSE_ALARM = 2 * stats.norm.sf(BOUND)

WITH_CLOSED_FORM = [name for name in supa.PRESETS if name != "critical"]


class _Sums:
    """Means, variances and their standard errors of numbers per shower."""

    def __init__(self) -> None:
        self.n = 0
        self.powers: dict[str, np.ndarray] = {}
        self.contributing: dict[str, np.ndarray] = {}

    def add(self, name: str, table: np.ndarray) -> None:
        square = table * table  # much faster than powers
        powers = np.stack([part.sum(axis=0) for part in (table, square, square * table, square * square)])
        self.powers[name] = self.powers.get(name, 0) + powers
        self.contributing[name] = self.contributing.get(name, 0) + (table > 0).sum(axis=0)

    def mean(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        m1, m2 = self.powers[name][:2] / self.n
        return m1, np.sqrt(np.maximum(m2 - m1**2, 0) / self.n)

    def variance(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        m1, m2, m3, m4 = self.powers[name] / self.n
        variance = m2 - m1**2
        fourth = m4 - 4 * m1 * m3 + 6 * m1**2 * m2 - 3 * m1**4
        return variance, np.sqrt(np.maximum(fourth - variance**2, 0) / self.n)


def _per_shower(group: np.ndarray, cell: np.ndarray, cells: int, n: int, weights=None) -> np.ndarray:
    return np.bincount(group * cells + cell, weights=weights, minlength=n * cells).reshape(n, cells).astype(float)


def _sums(config: supa.ShowerConfig, num_showers: int, keep: str = "all") -> tuple[_Sums, int]:
    sums, attempts = _Sums(), 0
    for chunk in supa.stream(num_showers, config, seed=SEED, keep=keep):
        n, shower = len(chunk), chunk.hits.group_of_row()
        fraction = chunk.energy / chunk.incident_energy[shower]
        sums.add("slice hits", _per_shower(shower, chunk.slice, config.num_slices, n))
        sums.add("slice energy", _per_shower(shower, chunk.slice, config.num_slices, n, fraction))
        layer_hits = _per_shower(shower, chunk.layer, config.num_layers, n)
        sums.add("layer hits", layer_hits)
        sums.add("layer empty", (layer_hits == 0).astype(float))
        sums.add("total hits", chunk.num_hits[:, None].astype(float))
        sums.add("leaked energy", (chunk.leaked_energy / chunk.incident_energy)[:, None])
        sums.n += n
        attempts += chunk.run.attempts
    return sums, attempts


def _close(measured: np.ndarray, error: np.ndarray, exact: np.ndarray, contributing: np.ndarray, n: int) -> None:
    common = contributing >= 1000
    pulls = (measured - exact)[common] / np.where(error[common] > 0, error[common], np.inf)
    assert np.abs(pulls).max(initial=0) < BOUND, pulls
    constant = common & (error == 0)
    np.testing.assert_allclose(measured[constant], exact[constant], rtol=1e-12)


MANY_HITS = ["dense", "no-pass"]
# Nearly all showers of the other presets are complete, or they differ from these only in their angles and slices, so
# keep="complete" would not test anything new.
OFTEN_INCOMPLETE = ["standard", "two-primaries"]


@pytest.mark.parametrize(
    ("name", "keep"),
    [
        *(pytest.param(n, "all", marks=[pytest.mark.slow] if n in MANY_HITS else []) for n in WITH_CLOSED_FORM),
        *((n, "complete") for n in OFTEN_INCOMPLETE),
    ],
)
def test_presets_agree_with_their_expectations(name, keep):
    config = supa.preset(name)
    num_showers = SHOWERS if keep == "all" else SHOWERS // 4
    exact = supa.expectation(config, keep=keep)
    sums, attempts = _sums(config, num_showers, keep)
    for quantity, expected in (
        ("slice hits", exact.hits),
        ("slice energy", exact.energy),
        ("layer hits", exact.layer_hits),
        ("total hits", np.array([exact.total_hits])),
        ("leaked energy", np.array([exact.leaked_energy])),
    ):
        _close(*sums.mean(quantity), expected, sums.contributing[quantity], sums.n)
    for quantity, expected in (
        ("layer hits", exact.layer_hits_variance),
        ("total hits", np.array([exact.total_hits_variance])),
    ):
        _close(*sums.variance(quantity), expected, sums.contributing[quantity], sums.n)
    if keep == "all":
        for empty, p in zip(sums.powers["layer empty"][0], exact.probability_layer_empty, strict=True):
            _binomial(int(empty), sums.n, p)
    else:
        _binomial(sums.n, attempts, exact.probability_complete)
    if exact.leaked_energy < 1e-15:
        assert sums.contributing["leaked energy"].sum() == 0
    if keep == "all":
        # Number of showers with a hit in each slice, including slices that few showers reach.
        slices = range(config.first_stop_slice, config.num_slices)
        by_slice = supa.expectation(config.replace(readout_layers=tuple((l, l) for l in slices)))
        reached = sums.contributing["slice hits"][config.first_stop_slice :]
        for count, empty in zip(reached, by_slice.probability_layer_empty, strict=True):
            _binomial(int(count), sums.n, 1 - empty)


def _binomial(count: int, n: int, p: float) -> None:
    """Check a number of independent showers against its binomial distribution."""
    p = min(max(p, 0.0), 1.0)
    low, high = stats.binom.ppf(FALSE_ALARM / 2, n, p), stats.binom.isf(FALSE_ALARM / 2, n, p)
    assert low <= count <= high, (count, n, p)


def _features(showers: supa.Showers) -> dict[str, np.ndarray]:
    """Return several numbers for each shower."""
    n, shower, layers = len(showers), showers.hits.group_of_row(), showers.config.num_layers
    hits = _per_shower(shower, showers.layer, layers, n)
    fraction = showers.energy / showers.incident_energy[shower]
    energy = _per_shower(shower, showers.layer, layers, n, fraction)
    features = {f"hits {k}": hits[:, k] for k in range(layers)} | {f"energy {k}": energy[:, k] for k in range(layers)}
    features["centre x"] = np.bincount(shower, weights=fraction * showers.x, minlength=n)
    features["centre y"] = np.bincount(shower, weights=fraction * showers.y, minlength=n)
    features["radius"] = np.bincount(shower, weights=fraction * np.hypot(showers.x, showers.y), minlength=n)
    features["depth"] = np.bincount(shower, weights=fraction * showers.slice, minlength=n)
    features["hottest"] = np.zeros(n)
    np.maximum.at(features["hottest"], shower, showers.energy)
    return features


@pytest.mark.parametrize("name", ["reference", "critical", "two-primaries"])
def test_both_engines_draw_from_the_same_distribution(name):
    """Kolmogorov-Smirnov tests of 11 numbers per shower, with a total false-alarm rate below 1e-3 (Bonferroni)."""
    config = supa.preset(name).replace(incident_energy=65)
    cpu = _features(supa.simulate(20_000, config, seed=1))
    reference = _features(supa.simulate(20_000, config, seed=2, engine="reference"))
    for quantity, values in cpu.items():
        p = stats.ks_2samp(values, reference[quantity]).pvalue
        assert p > 1e-3 / 3 / len(cpu), (quantity, p)


def test_only_the_reference_frame_breaks_the_symmetry_of_x_and_y():
    def asymmetry(name: str) -> float:
        showers = supa.simulate(40_000, name, seed=5)
        deep = showers.layer == 2
        excess = np.where(deep, showers.y**2 - showers.x**2, 0.0)
        sums = np.bincount(showers.hits.group_of_row(), weights=excess, minlength=len(showers))
        return float(sums.mean() / (sums.std() / np.sqrt(len(sums))))

    assert abs(asymmetry("standard")) < BOUND
    assert asymmetry("reference") > BOUND


def test_hits_of_critical_grow_with_the_logarithm_of_the_energy():
    energies = [1.0, 3.0, 10.0, 30.0, 100.0]
    hits = [supa.simulate(5000, "critical", energy=e, seed=3).num_hits.mean() for e in energies]
    steps = np.diff(hits) / np.diff(np.log(energies))
    assert (steps > 0).all()
    assert stats.pearsonr(np.log(energies), hits).statistic > 0.98


def test_a_cut_off_stops_every_particle_below_it():
    showers = supa.simulate(2000, "critical", seed=3, record="particles")
    particles, cut = showers.particles, showers.config.critical_energy
    assert particles is not None
    moving = (particles["fate"] != 0) & (particles["fate"] != LEAK)
    assert (particles["energy"][moving] >= cut).all()


@pytest.mark.parametrize(
    ("energy", "distribution"),
    [
        ("2:50", stats.uniform(2, 48)),
        ("log:1:100", stats.loguniform(1, 100)),
    ],
)
def test_incident_energies_follow_their_distribution(energy, distribution):
    sample = supa.simulate(20_000, "single-layer", energy=energy, seed=8).incident_energy
    assert stats.kstest(sample, distribution.cdf).pvalue > 1e-4


def test_initial_conditions_follow_their_distributions():
    config = supa.ShowerConfig(
        incident_energy=[10, 20, 50],
        polar_angle=(0.1, 0.4),
        azimuth=(-1.0, 2.0),
        impact_spread=1.5,
        num_primaries="poisson:1.5",
    )
    showers = supa.simulate(20_000, config, seed=9)
    primaries, counts = showers.primaries, showers.num_primaries
    for value in (10, 20, 50):
        _binomial(int((showers.incident_energy == value).sum()), len(showers), 1 / 3)
    for number, p in enumerate(config.primary_count.probabilities()):
        _binomial(int((counts == number).sum()), len(showers), p)
    polar = np.arctan(np.hypot(primaries["slope_x"], primaries["slope_y"]))
    azimuth = np.arctan2(primaries["slope_y"], primaries["slope_x"])
    pairs = np.flatnonzero(counts == 2)
    share = primaries["energy"][primaries.offset[pairs]] / showers.incident_energy[pairs]
    for values, distribution in (
        (polar, stats.uniform(0.1, 0.3)),
        (azimuth, stats.uniform(-1, 3)),
        (primaries["x"], stats.norm(0, 1.5)),
        (primaries["y"], stats.norm(0, 1.5)),
        (share, stats.uniform(0, 1)),
    ):
        assert stats.kstest(values, distribution.cdf).pvalue > 1e-4
