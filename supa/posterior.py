"""Posterior distribution of the incident energy given the tree of a shower, for configs with an energy cut-off."""

import math

import numpy as np

from supa.arrays import FloatArray
from supa.physics import LEAK, STOP, fate_probabilities
from supa.showers import Showers


def energy_posterior(showers: Showers) -> tuple[FloatArray, FloatArray]:
    """Return the posterior mean and standard deviation of ln E of each shower, given its tree without energies.

    With an energy cut-off E_c (``critical_energy``), the tree depends on the incident energy E only through the
    cut-off. The splits above a particle determine its share w of E. If it split or passed, then w E >= E_c. If it
    stopped in slice l, then either w E < E_c, or w E >= E_c and it stopped with probability p_stop(l). The tree does
    not distinguish these two cases. Therefore, as a function of E::

        P(tree | E)  ~  product over particles that split or passed of [w E >= E_c]
                     x  product over particles that stopped of (p_stop(l) if w E >= E_c, else 1)

    This likelihood is a step function of ln E. It is 0 below the largest E_c / w of the particles that split or
    passed. At E_c / w of each particle that stopped it is multiplied by p_stop(l). The prior is uniform in ln E, so the
    moments of the posterior are sums over the steps. The mean squared standard deviation is the smallest mean squared
    error that any estimate of ln E from the tree can reach, and also a bound for estimates from a part of this
    information, such as the hits without their energies.

    Args:
        showers: Showers with recorded particles, an energy cut-off, and incident energies that are uniform in the
            logarithm.

    Returns:
        Posterior mean and standard deviation of the natural logarithm of E in GeV, each (n,) float64.

    Raises:
        ValueError: If the particles were not recorded, or if the config has no energy cut-off or another distribution
            of the incident energy.

    Example:
        >>> import numpy as np
        >>> import supa
        >>> from supa.posterior import energy_posterior
        >>> showers = supa.simulate(200, "critical", seed=1, record="particles")
        >>> mean, deviation = energy_posterior(showers)
        >>> pull = (np.log(showers.incident_energy) - mean) / deviation
        >>> float(deviation.mean().round(2)), float(pull.std().round(1))
        (0.12, 1.0)
    """
    config, particles = showers.config, showers.particles
    if particles is None:
        raise ValueError("The energy posterior needs recorded particles; simulate with record='particles'.")
    if not config.critical_energy > 0 or config.spectrum.law != "log-uniform":
        raise ValueError(
            f"The energy posterior needs an energy cut-off and energies uniform in the logarithm, but the "
            f"showers have critical_energy = {config.critical_energy:g} and incident_energy = {config.spectrum}; "
            "use the preset critical."
        )
    low, high = (math.log(energy) for energy in config.spectrum.values)
    fate, share = particles["fate"], np.divide(particles["energy"], showers.incident_energy[particles.group_of_row()])
    # The particle is above the cut-off if ln E is at least this.
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
    """Compute mean and standard deviation of a density that is multiplied by exp(drop) at each of the stairs."""
    order = np.argsort(stairs)
    edges = np.concatenate([[begin], stairs[order].clip(begin, end), [end]])
    width, middle = np.diff(edges), (edges[1:] + edges[:-1]) / 2
    height = np.concatenate([[0.0], np.cumsum(drop[order])])
    lasts = (width > 0) & np.isfinite(height)
    if not lasts.any():
        return begin, 0.0
    # Scale the highest step of nonzero width to 1, so that the sum is above 0.
    weight = np.where(lasts, width * np.exp(np.where(lasts, height - height[lasts].max(), -np.inf)), 0.0)
    weight /= weight.sum()
    mean = float(weight @ middle)
    variance = float(weight @ ((middle - mean) ** 2 + width**2 / 12))
    return mean, math.sqrt(variance)
