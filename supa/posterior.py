"""What is known of the incident energy of a shower whose tree is known: the posterior under an energy cut-off."""

import math

import numpy as np

from supa.arrays import FloatArray
from supa.physics import LEAK, STOP, fate_probabilities
from supa.showers import Showers


def energy_posterior(showers: Showers) -> tuple[FloatArray, FloatArray]:
    """Return mean and standard deviation of ln E of each shower, given its whole tree but no energy.

    With an energy cut-off E_c (``critical_energy``) the fates depend on the incident energy E, and on nothing else that
    does. A particle's share w of E follows from the splits above it. If it split or passed, w E >= E_c. If it stopped
    in slice l, either w E < E_c, or it stopped of itself, with probability p_stop(l): a record does not tell which. So

        P(tree | E)  ~  product over those that went on of [w E >= E_c]
                     x  product over those that stopped of (p_stop(l) where w E >= E_c, else 1).

    In ln E this is a staircase that begins at the largest E_c / w of those that went on and falls by p_stop(l) at
    E_c / w of each that stopped, to 0 where a particle cannot stop of itself. Times the prior, uniform in ln E, its
    moments are sums over the steps. Who sees less than the tree, such as the hits without their energies, knows no
    more: the mean square of this deviation is the least mean squared error of any estimate of ln E.

    Args:
        showers: with recorded particles, an energy cut-off, and incident energies uniform in the logarithm.

    Returns:
        Mean and standard deviation, (n,) float64 each, of the natural logarithm of E in GeV.

    Raises:
        ValueError: the particles were not recorded, or the config has no cut-off or another law of energies.
    """
    config, particles = showers.config, showers.particles
    if particles is None:
        raise ValueError("The posterior of the energy needs the recorded particles; generate with --record particles.")
    if not config.critical_energy > 0 or config.spectrum.law != "log-uniform":
        raise ValueError(
            f"The posterior of the energy is for an energy cut-off and energies uniform in the logarithm, but the "
            f"showers have critical_energy = {config.critical_energy:g} and incident_energy = {config.spectrum}; "
            "simulate the preset critical."
        )
    low, high = (math.log(energy) for energy in config.spectrum.values)
    fate, share = particles["fate"], np.divide(particles["energy"], showers.incident_energy[particles.group_of_row()])
    # From which ln E on the particle is above the cut-off.
    above = math.log(config.critical_energy) - np.log(share)
    with np.errstate(divide="ignore"):
        log_stop = np.log(fate_probabilities(config)[0])
    mean, deviation = np.empty(len(showers)), np.empty(len(showers))
    for k in range(len(showers)):
        rows = slice(particles.offset[k], particles.offset[k + 1])
        stopped, went_on = fate[rows] == STOP, (fate[rows] != STOP) & (fate[rows] != LEAK)
        begin = max(low, above[rows][went_on].max(initial=low))
        stairs, drop = above[rows][stopped], log_stop[particles["slice"][rows][stopped]]
        mean[k], deviation[k] = _moments(begin, max(begin, high), stairs, drop)
    return mean, deviation


def _moments(begin: float, end: float, stairs: FloatArray, drop: FloatArray) -> tuple[float, float]:
    """Compute mean and standard deviation of a staircase from begin to end, times exp(drop) beyond each stair."""
    order = np.argsort(stairs)
    edges = np.concatenate([[begin], stairs[order].clip(begin, end), [end]])
    width, middle = np.diff(edges), (edges[1:] + edges[:-1]) / 2
    height = np.concatenate([[0.0], np.cumsum(drop[order])])
    lasts = (width > 0) & np.isfinite(height)
    if not lasts.any():
        return begin, 0.0
    # The highest step that has a width counts as 1, so that the sum is above 0.
    weight = np.where(lasts, width * np.exp(np.where(lasts, height - height[lasts].max(), -np.inf)), 0.0)
    weight /= weight.sum()
    mean = float(weight @ middle)
    variance = float(weight @ ((middle - mean) ** 2 + width**2 / 12))
    return mean, math.sqrt(variance)
