"""The energy posterior agrees with a fine grid of energies and with the simulated energies."""

import numpy as np
import pytest

import supa
from supa.physics import PASS, SPLIT, STOP, fate_probabilities
from supa.posterior import energy_posterior


@pytest.fixture(scope="module")
def showers():
    return supa.simulate(3000, "critical", seed=3, record="particles")


def _on_a_grid(shower):
    """Return mean and standard deviation of ln E from the likelihood on a grid, particle by particle."""
    low, high = np.log(shower.config.spectrum.values)
    grid = np.linspace(low, high, 20_001)
    stop, likelihood = fate_probabilities(shower.config)[0], np.ones(len(grid))
    tree = shower.particles
    for energy, fate, slice_ in zip(tree["energy"], tree["fate"], tree["slice"], strict=True):
        above = energy / shower.incident_energy[0] * np.exp(grid) >= shower.config.critical_energy
        if fate in (SPLIT, PASS):
            likelihood *= above
        elif fate == STOP:
            likelihood *= np.where(above, stop[slice_], 1.0)
    likelihood /= likelihood.sum()
    mean = likelihood @ grid
    return mean, np.sqrt(likelihood @ (grid - mean) ** 2)


def test_moments_equal_those_on_a_fine_grid(showers):
    some = showers[:30]
    for shower, mean, deviation in zip(some, *energy_posterior(some), strict=True):
        assert (mean, deviation) == pytest.approx(_on_a_grid(shower), abs=3e-4)


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
