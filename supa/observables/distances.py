"""The two-point distribution: the distances between the hits of a shower, taken in pairs.

The work grows with the square of the number of hits; no pair is ever stored.
"""

import math

import numpy as np
import numpy.typing as npt

from supa.arrays import FloatArray, IntArray
from supa.compiler import kernel
from supa.observables.sums import checked_edges, in_float64, ratio
from supa.showers import Showers


def pair_distances(showers: Showers, edges: npt.ArrayLike, *, lateral: bool = False) -> IntArray:
    """Count the pairs of each shower's hits in bins of their distance.

    Pairs nearer than the first or farther than the last edge are left out; with the edges 0 and infinity at the ends
    every one of the N (N - 1) / 2 pairs of N hits counts.

    Args:
        showers: the showers.
        edges: (bins + 1,) ascending distances, length unit. A bin holds its lower edge; the last one also its upper
            edge.
        lateral: whether to leave out the depth: distances in (x, y) in place of (x, y, z).

    Returns:
        (n, bins) int64.

    Raises:
        ValueError: the edges are fewer than two, or do not ascend; or the depth is wanted and not known.
    """
    edges = checked_edges("edges", edges)
    if not lateral and not showers.slices_known:
        raise ValueError(
            "pair_distances needs the hits' slices, but these showers know only their layers; use lateral=True."
        )
    edges[-1] = np.nextafter(edges[-1], np.inf)  # the last bin holds its upper edge
    return _counts(showers.offset, *_points(showers, lateral), edges)


def mean_pair_distance(showers: Showers, *, lateral: bool = False) -> FloatArray:
    """Average the distance between two hits over all pairs of each shower's hits.

    Args:
        showers: the showers.
        lateral: whether to leave out the depth: distances in (x, y) in place of (x, y, z).

    Returns:
        (n,) float64, length unit; NaN with fewer than two hits or where the depth is wanted and a hit's slice is not
        known.
    """
    hits = showers.num_hits
    return ratio(_sums(showers.offset, *_points(showers, lateral)), hits * (hits - 1) / 2)


def _points(showers: Showers, lateral: bool) -> tuple[FloatArray, FloatArray, FloatArray]:
    x, y = in_float64(showers.x), in_float64(showers.y)
    return x, y, np.zeros(len(x)) if lateral else showers.z


@kernel
def _sums(offset: IntArray, x: FloatArray, y: FloatArray, z: FloatArray) -> FloatArray:
    """Sum the distances of all pairs of each group, (groups,)."""
    result = np.zeros(len(offset) - 1)
    for group in range(len(result)):
        # One sum for each second hit, and slices in place of shifted indices: so the inner loop compiles to vectors.
        sums = np.zeros(offset[group + 1] - offset[group])
        for first in range(offset[group], offset[group + 1]):
            others = slice(first + 1, offset[group + 1])
            other_x, other_y, other_z = x[others], y[others], z[others]
            to_hit = sums[first + 1 - offset[group] :]
            for second in range(len(to_hit)):
                dx, dy, dz = other_x[second] - x[first], other_y[second] - y[first], other_z[second] - z[first]
                to_hit[second] += math.sqrt(dx * dx + dy * dy + dz * dz)
        for distance in sums:
            result[group] += distance
    return result


@kernel
def _counts(offset: IntArray, x: FloatArray, y: FloatArray, z: FloatArray, edges: FloatArray) -> IntArray:
    """Count the pairs of each group in each bin, (groups, bins).

    What lies below each edge is counted, as vector instructions do fast, where a search for each distance would branch.
    """
    below = np.zeros((len(offset) - 1, len(edges)), dtype=np.int64)
    for group in range(len(below)):
        distances = np.empty(offset[group + 1] - offset[group])
        for first in range(offset[group], offset[group + 1]):
            others = slice(first + 1, offset[group + 1])
            other_x, other_y, other_z = x[others], y[others], z[others]
            to_hit = distances[first + 1 - offset[group] :]
            for second in range(len(to_hit)):
                dx, dy, dz = other_x[second] - x[first], other_y[second] - y[first], other_z[second] - z[first]
                to_hit[second] = math.sqrt(dx * dx + dy * dy + dz * dz)
            for number in range(len(edges)):
                count = 0
                for second in range(len(to_hit)):
                    count += to_hit[second] < edges[number]
                below[group, number] += count
    return below[:, 1:] - below[:, :-1]
