"""The energy posterior agrees with a fine grid of energies and with the simulated energies."""

import numpy as np
import pytest

import supa
from supa.physics import PASS, SPLIT, STOP, fate_probabilities
from supa.posterior import energy_moments, energy_posterior, energy_probabilities


@pytest.fixture(scope="module")
def showers():
    return supa.simulate(3000, "critical", seed=3, record="particles")


def _on_a_grid(shower):
    """Return mean, variance and fourth central moment of ln E from the likelihood on a grid."""
    low, high = np.log(shower.config.spectrum.values)
    grid = np.linspace(low, high, 20_001)
    likelihood = _likelihood(shower, grid)
    likelihood /= likelihood.sum()
    mean = likelihood @ grid
    return mean, likelihood @ (grid - mean) ** 2, likelihood @ (grid - mean) ** 4


def _likelihood(shower, grid):
    """Return the probability of a tree for each ln E, particle by particle."""
    stop, likelihood = fate_probabilities(shower.config)[0], np.ones(len(grid))
    tree = shower.particles
    for energy, fate, slice_ in zip(tree["energy"], tree["fate"], tree["slice"], strict=True):
        above = energy / shower.incident_energy[0] * np.exp(grid) >= shower.config.critical_energy
        if fate in (SPLIT, PASS):
            likelihood *= above
        elif fate == STOP:
            likelihood *= np.where(above, stop[slice_], 1.0)
    return likelihood


def test_moments_equal_those_on_a_fine_grid(showers):
    some = showers[:30]
    for shower, *moments in zip(some, *energy_moments(some), strict=True):
        for power, moment, expected in zip((1, 2, 4), moments, _on_a_grid(shower), strict=True):
            assert moment ** (1 / power) == pytest.approx(expected ** (1 / power), abs=3e-4)
    mean, variance, _ = energy_moments(some)
    assert np.array_equal(energy_posterior(some), [mean, np.sqrt(variance)])


def test_probabilities_of_a_list_equal_the_likelihood_of_each_energy():
    energies = [20, 25, 30]
    showers = supa.simulate(2000, "critical", energy=energies, seed=2, record="particles")
    found = energy_probabilities(showers)
    for shower, probabilities in zip(showers[:30], found, strict=False):
        likelihood = _likelihood(shower, np.log(energies))
        assert probabilities == pytest.approx(likelihood / likelihood.sum())
    right = found.argmax(axis=1) == np.searchsorted(energies, showers.incident_energy)
    expected = found.max(axis=1)
    assert right.mean() == pytest.approx(expected.mean(), abs=3 * np.sqrt((expected * (1 - expected)).sum()) / 2000)


def test_simulated_energies_agree_with_the_posterior(showers):
    mean, deviation = energy_posterior(showers)
    error = np.log(showers.incident_energy) - mean
    assert np.mean((error / deviation) ** 2) == pytest.approx(1, abs=0.06)  # 2.4 standard errors
    assert np.mean(error) == pytest.approx(0, abs=0.013)
    assert np.sqrt(np.mean(error**2)) < 0.3  # it is 1.33 for the prior


def test_posterior_of_an_uninformative_tree_is_the_prior():
    config = supa.preset("critical").replace(critical_energy=1e-6)
    mean, deviation = energy_posterior(supa.simulate(5, config, seed=1, record="particles"))
    assert mean == pytest.approx(np.log(100) / 2)
    assert deviation == pytest.approx(np.log(100) / np.sqrt(12))


def test_showers_without_a_posterior_raise_a_clear_error(showers):
    with pytest.raises(ValueError, match="needs recorded particles; simulate with record='particles'"):
        energy_posterior(supa.simulate(2, "critical"))
    for config in ("standard", showers.config.replace(incident_energy=10)):
        with pytest.raises(ValueError, match="but the showers have critical_energy = "):
            energy_posterior(supa.simulate(2, config, record="particles"))
    with pytest.raises(ValueError, match="needs an energy cut-off and a list of energies, but the showers have"):
        energy_probabilities(showers)
