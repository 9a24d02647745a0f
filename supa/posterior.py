"""Posterior of the incident energy given the tree of a shower, for configs with an energy cut-off."""

import math

import numpy as np

from supa.arrays import FloatArray
from supa.physics import LEAK, STOP, fate_probabilities
from supa.ragged import Ragged
from supa.showers import Showers

_IMPOSSIBLE = 1e6
"""Logarithm that stands for a probability of 0. A sum over the particles of a shower stays finite."""


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
    mean, variance, _ = energy_moments(showers)
    return mean, np.sqrt(variance)


def energy_moments(showers: Showers) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return the moments of the posterior of `energy_posterior`.

    The squared error of the posterior mean has the expected value V and the variance M - V^2, with the posterior
    variance V and the fourth central moment M.

    Args:
        showers: Showers as for `energy_posterior`.

    Returns:
        Posterior mean, variance and fourth central moment of ln E, each (n,) float64.

    Raises:
        ValueError: See `energy_posterior`.

    Example:
        >>> import numpy as np
        >>> import supa
        >>> from supa.posterior import energy_moments
        >>> showers = supa.simulate(2000, "critical", seed=1, record="particles")
        >>> mean, variance, fourth = energy_moments(showers)
        >>> excess = (np.log(showers.incident_energy) - mean) ** 2 - variance
        >>> bool(abs(excess.sum()) < 3 * np.sqrt((fourth - variance**2).sum()))
        True
    """
    particles, share = _tree(showers, "log-uniform", "energies uniform in the logarithm")
    config, fate = showers.config, particles["fate"]
    low, high = (math.log(energy) for energy in config.spectrum.values)
    # The particle is above the cut-off if ln E is at least this.
    above = math.log(config.critical_energy) - np.log(share)
    with np.errstate(divide="ignore"):
        log_stop = np.log(fate_probabilities(config)[0])
    mean, variance, fourth = np.empty((3, len(showers)))
    for k in range(len(showers)):
        rows = slice(particles.offset[k], particles.offset[k + 1])
        stopped, went_on = fate[rows] == STOP, (fate[rows] != STOP) & (fate[rows] != LEAK)
        begin = max(low, above[rows][went_on].max(initial=low))
        stairs, drop = above[rows][stopped], log_stop[particles["slice"][rows][stopped]]
        mean[k], variance[k], fourth[k] = _moments(begin, max(begin, high), stairs, drop)
    return mean, variance, fourth


def energy_probabilities(showers: Showers) -> FloatArray:
    """Return the posterior probability of each incident energy of a list, given the tree of a shower without energies.

    The likelihood is that of `energy_posterior`, and the energies of the list are equally likely. The energy with the
    largest probability is the optimal prediction, and the mean of the largest probabilities is its expected accuracy.

    Args:
        showers: Showers with recorded particles, an energy cut-off, and a list of incident energies.

    Returns:
        (n, energies) float64 probabilities in the order of the list; each row sums to 1.

    Raises:
        ValueError: If the particles were not recorded, or if the config has no energy cut-off or another distribution
            of the incident energy.

    Example:
        >>> import supa
        >>> from supa.posterior import energy_probabilities
        >>> showers = supa.simulate(1000, "critical", energy="20,25,30", seed=1, record="particles")
        >>> probabilities = energy_probabilities(showers)
        >>> right = probabilities.argmax(axis=1) == (showers.incident_energy[:, None] > [20, 25]).sum(axis=1)
        >>> round(float(right.mean()), 2), round(float(probabilities.max(axis=1).mean()), 2)
        (0.9, 0.89)
    """
    particles, share = _tree(showers, "list", "a list of energies")
    config, fate, owner = showers.config, particles["fate"], particles.group_of_row()
    with np.errstate(divide="ignore"):
        log_stop = np.log(fate_probabilities(config)[0])[particles["slice"]]
    stopped, went_on = fate == STOP, (fate != STOP) & (fate != LEAK)
    logarithms = np.empty((len(showers), len(config.spectrum.values)))
    for k, energy in enumerate(config.spectrum.values):
        above = share * energy >= config.critical_energy
        terms = np.where(stopped & above, log_stop, 0.0)
        terms[went_on & ~above] = -np.inf
        logarithms[:, k] = np.bincount(owner, np.maximum(terms, -_IMPOSSIBLE), minlength=len(showers))
    likelihood = np.exp(logarithms - logarithms.max(axis=1, keepdims=True))
    return np.asarray(likelihood / likelihood.sum(axis=1, keepdims=True))


def _tree(showers: Showers, law: str, words: str) -> tuple[Ragged, FloatArray]:
    """Return the particles and the share of the incident energy of each, after a check of the config."""
    config, particles = showers.config, showers.particles
    if particles is None:
        raise ValueError("The energy posterior needs recorded particles; simulate with record='particles'.")
    if not config.critical_energy > 0 or config.spectrum.law != law:
        raise ValueError(
            f"The energy posterior needs an energy cut-off and {words}, but the "
            f"showers have critical_energy = {config.critical_energy:g} and incident_energy = {config.spectrum}; "
            "use the preset critical."
        )
    return particles, np.divide(particles["energy"], showers.incident_energy[particles.group_of_row()])


def _moments(begin: float, end: float, stairs: FloatArray, drop: FloatArray) -> tuple[float, float, float]:
    """Compute mean, variance and fourth central moment of a density that exp(drop) multiplies at each of the stairs."""
    order = np.argsort(stairs)
    edges = np.concatenate([[begin], stairs[order].clip(begin, end), [end]])
    width, middle = np.diff(edges), (edges[1:] + edges[:-1]) / 2
    height = np.concatenate([[0.0], np.cumsum(drop[order])])
    lasts = (width > 0) & np.isfinite(height)
    if not lasts.any():
        return begin, 0.0, 0.0
    # Scale the highest step of nonzero width to 1, so that the sum is above 0.
    weight = np.where(lasts, width * np.exp(np.where(lasts, height - height[lasts].max(), -np.inf)), 0.0)
    weight /= weight.sum()
    mean = float(weight @ middle)
    distance = middle - mean
    variance = float(weight @ (distance**2 + width**2 / 12))
    fourth = float(weight @ (distance**4 + distance**2 * width**2 / 2 + width**4 / 80))
    return mean, variance, fourth
