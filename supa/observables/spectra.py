"""The energies of single hits, as fractions of the incident energy."""

import math

import numpy as np
import numpy.typing as npt

from supa.arrays import FloatArray, IntArray
from supa.observables.sums import bins_of, checked_edges, counts_by_cell, in_float64, maxima, ratio, sums
from supa.showers import Showers


def hit_fraction(showers: Showers) -> FloatArray:
    """Divide the energy of each hit by its shower's incident energy.

    Args:
        showers: the showers.

    Returns:
        (hits,) float64.
    """
    return ratio(in_float64(showers.energy), np.repeat(showers.incident_energy, showers.num_hits))


def hit_spectrum(showers: Showers, edges: npt.ArrayLike) -> IntArray:
    """Count each shower's hits in bins of their part of the incident energy.

    Hits below the first or above the last edge are left out; with the edges 0 and infinity at the ends all count.

    Args:
        showers: the showers.
        edges: (bins + 1,) ascending parts of the incident energy, usually ``numpy.geomspace(1e-6, 1, 31)``. A bin
            holds its lower edge; the last one also its upper edge.

    Returns:
        (n, bins) int64.

    Raises:
        ValueError: the edges are fewer than two, or do not ascend.
    """
    edges = checked_edges("edges", edges)
    return counts_by_cell(showers.offset, bins_of(edges, hit_fraction(showers)), len(edges) - 1)


def mean_log_hit_energy(showers: Showers) -> FloatArray:
    """Average log10(hit energy / incident energy) over each shower's hits with energy.

    Args:
        showers: the showers.

    Returns:
        (n,) float64; NaN without such a hit.
    """
    fraction = hit_fraction(showers)
    positive = fraction > 0
    logarithm = np.log(fraction, out=np.zeros_like(fraction), where=positive)
    return ratio(sums(showers.offset, logarithm), math.log(10) * sums(showers.offset, positive.astype(np.float64)))


def largest_hit_fraction(showers: Showers) -> FloatArray:
    """Divide the energy of each shower's hottest hit by its incident energy.

    Args:
        showers: the showers.

    Returns:
        (n,) float64; NaN without a hit.
    """
    return ratio(maxima(showers.offset, in_float64(showers.energy)), showers.incident_energy)
