"""Distances between all pairs of hits of a shower.

The time grows with the square of the number of hits. Pairs are never stored.
"""

import math

import numpy as np
import numpy.typing as npt

from supa.arrays import FloatArray, IntArray
from supa.compiler import kernel
from supa.observables.sums import checked_edges, in_float64, ratio
from supa.showers import Showers


def pair_distances(showers: Showers, edges: npt.ArrayLike, *, lateral: bool = False) -> IntArray:
    """Count the pairs of hits of each shower in bins of their distance.

    Pairs closer than the first edge or farther apart than the last edge are not counted. With 0 and infinity as the
    outermost edges, all N (N - 1) / 2 pairs of N hits are counted.

    Args:
        showers: n showers.
        edges: (bins + 1,) ascending distances, length unit. A bin includes its lower edge; the last bin also includes
            its upper edge.
        lateral: Whether to ignore the depth and measure distances in (x, y) instead of (x, y, z).

    Returns:
        (n, bins) int64.

    Raises:
        ValueError: If there are fewer than two edges, if they do not ascend, or if ``lateral`` is False and the
            slices of the hits are unknown.

    Example:
        >>> import supa
        >>> from supa import observables
        >>> observables.pair_distances(supa.simulate(2, seed=1), [0, 1, 3, 10]).tolist()
        [[45, 391, 998], [121, 1252, 5256]]
    """
    edges = checked_edges("edges", edges)
    if not lateral and not showers.slices_known:
        raise ValueError(
            "pair_distances needs the slices of the hits, but these showers store only the layers; use lateral=True."
        )
    edges[-1] = np.nextafter(edges[-1], np.inf)  # the last bin includes its upper edge
    return _counts(showers.offset, *_points(showers, lateral), edges)


def mean_pair_distance(showers: Showers, *, lateral: bool = False) -> FloatArray:
    """Compute the mean distance between two hits over all pairs of hits of each shower.

    Args:
        showers: n showers.
        lateral: Whether to ignore the depth and measure distances in (x, y) instead of (x, y, z).

    Returns:
        (n,) float64, length unit. NaN if a shower has fewer than two hits, or if ``lateral`` is False and the slice of
        one of its hits is unknown.

    Example:
        >>> import supa
        >>> from supa import observables
        >>> observables.mean_pair_distance(supa.simulate(3, seed=1), lateral=True).round(3).tolist()
        [2.126, 3.244, 1.526]
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
        # One sum per second hit and array slices instead of shifted indices let the compiler vectorise the inner loop.
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

    The kernel counts the distances below each edge with vector instructions. A search for the bin of each distance
    would need branches and be slower.
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
