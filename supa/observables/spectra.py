"""Energies of single hits as fractions of the incident energy."""

import math

import numpy as np
import numpy.typing as npt

from supa.arrays import FloatArray, IntArray
from supa.observables.sums import bins_of, checked_edges, counts_by_cell, in_float64, maxima, ratio, sums
from supa.showers import Showers


def hit_fraction(showers: Showers) -> FloatArray:
    """Compute the energy of each hit divided by the incident energy of its shower.

    Args:
        showers: n showers.

    Returns:
        (hits,) float64.

    Example:
        >>> import supa
        >>> from supa import observables
        >>> showers = supa.simulate(100, seed=1)
        >>> fraction = observables.hit_fraction(showers)
        >>> fraction.shape == (showers.num_hits.sum(),)
        True
        >>> float(fraction.max().round(3))
        0.467
    """
    return ratio(in_float64(showers.energy), np.repeat(showers.incident_energy, showers.num_hits))


def hit_spectrum(showers: Showers, edges: npt.ArrayLike) -> IntArray:
    """Count the hits of each shower in bins of their fraction of the incident energy.

    Hits below the first edge or above the last edge are not counted. Use 0 and infinity as the outermost edges to
    count every hit.

    Args:
        showers: n showers.
        edges: (bins + 1,) ascending fractions of the incident energy, for example ``numpy.geomspace(1e-6, 1, 31)``.
            A bin includes its lower edge; the last bin also includes its upper edge.

    Returns:
        (n, bins) int64.

    Raises:
        ValueError: If there are fewer than two edges, or if they do not ascend.

    Example:
        >>> import supa
        >>> from supa import observables
        >>> showers = supa.simulate(1000, seed=1)
        >>> observables.hit_spectrum(showers, [0, 1e-4, 1e-3, 1e-2, 1]).mean(axis=0).round(1).tolist()
        [5.3, 13.5, 29.1, 22.4]
    """
    edges = checked_edges("edges", edges)
    return counts_by_cell(showers.offset, bins_of(edges, hit_fraction(showers)), len(edges) - 1)


def mean_log_hit_energy(showers: Showers) -> FloatArray:
    """Compute the mean of log10(hit energy / incident energy) over the hits with energy, for each shower.

    Args:
        showers: n showers.

    Returns:
        (n,) float64. NaN if no hit has energy.

    Example:
        >>> import supa
        >>> from supa import observables
        >>> observables.mean_log_hit_energy(supa.simulate(3, seed=1)).round(3).tolist()
        [-2.244, -2.868, -1.704]
    """
    fraction = hit_fraction(showers)
    positive = fraction > 0
    logarithm = np.log(fraction, out=np.zeros_like(fraction), where=positive)
    return ratio(sums(showers.offset, logarithm), math.log(10) * sums(showers.offset, positive.astype(np.float64)))


def largest_hit_fraction(showers: Showers) -> FloatArray:
    """Compute the largest hit energy divided by the incident energy, for each shower.

    Args:
        showers: n showers.

    Returns:
        (n,) float64. NaN if a shower has no hit.

    Example:
        >>> import supa
        >>> from supa import observables
        >>> observables.largest_hit_fraction(supa.simulate(3, seed=1)).round(3).tolist()
        [0.184, 0.134, 0.305]
    """
    return ratio(maxima(showers.offset, in_float64(showers.energy)), showers.incident_energy)
