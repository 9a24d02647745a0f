"""The shower's extent across the axis: centre, width, radius and isotropy in each readout layer; the radial profile."""

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from supa.arrays import ByteArray, FloatArray, IntArray
from supa.compiler import kernel
from supa.observables.fields import field_function
from supa.observables.sums import bins_of, checked_edges, in_float64, ratio, sums_by_cell
from supa.showers import Showers


class Lateral(NamedTuple):
    """The observables across the axis, each (n, num_layers) float64."""

    centre_x: FloatArray
    centre_y: FloatArray
    width_x: FloatArray
    width_y: FloatArray
    mean_radius: FloatArray
    width_r: FloatArray
    anisotropy: FloatArray


def lateral_of(showers: Showers) -> Lateral:
    """Compute all observables across the axis together, which takes as long as one.

    Args:
        showers: the showers.

    Returns:
        The observables.
    """
    columns = in_float64(showers.x), in_float64(showers.y), in_float64(showers.energy)
    return Lateral(*_moments(showers.offset, showers.layer, *columns, showers.config.num_layers))


_LENGTH = "(n, num_layers) float64, length unit; NaN for a layer without energy."
centre_x = field_function(lateral_of, "centre_x", "Compute the energy-weighted mean of x in each layer.", _LENGTH)
centre_y = field_function(lateral_of, "centre_y", "Compute the energy-weighted mean of y in each layer.", _LENGTH)
width_x = field_function(
    lateral_of, "width_x", "Compute the energy-weighted standard deviation of x in each layer.", _LENGTH
)
width_y = field_function(
    lateral_of, "width_y", "Compute the energy-weighted standard deviation of y in each layer.", _LENGTH
)
mean_radius = field_function(
    lateral_of, "mean_radius", "Compute the energy-weighted mean distance from the axis in each layer.", _LENGTH
)
width_r = field_function(
    lateral_of,
    "width_r",
    "Compute the energy-weighted standard deviation of the distance from the axis in each layer.",
    _LENGTH,
)
# Every hit counts alike and the sums are about the axis, so that the mean over showers is 0 where no direction is
# preferred. The rotation of the public reference code shows here (``frame="reference"``).
anisotropy = field_function(
    lateral_of,
    "anisotropy",
    "Compare the extents of each layer along y and x: (sum y^2 - sum x^2) / (sum y^2 + sum x^2).",
    "(n, num_layers) float64 from -1 (all along x) to 1 (all along y); NaN for a layer without a hit off the axis.",
)


def radial_profile(showers: Showers, edges: npt.ArrayLike) -> FloatArray:
    """Return the part of the incident energy in each ring around the axis, all layers together.

    What lies inside the first or outside the last edge is left out; with the edges 0 and infinity at the ends, each row
    adds up to the response.

    Args:
        showers: the showers.
        edges: (bins + 1,) ascending radii, length unit. A ring holds its inner edge; the last one also its outer edge.

    Returns:
        (n, bins) float64.

    Raises:
        ValueError: the edges are fewer than two, or do not ascend.
    """
    edges = checked_edges("edges", edges)
    ring = bins_of(edges, np.hypot(in_float64(showers.x), in_float64(showers.y)))
    energy = sums_by_cell(showers.offset, ring, len(edges) - 1, in_float64(showers.energy))
    return ratio(energy, showers.incident_energy[:, None])


@kernel
def _moments(
    offset: IntArray, layer: ByteArray, x: FloatArray, y: FloatArray, energy: FloatArray, num_layers: int
) -> FloatArray:
    """Compute the fields of ``Lateral``, (7, groups, num_layers).

    The widths are sums of squared distances from the centre, in a second pass: a difference of two moments would
    cancel for a narrow layer far from the axis.
    """
    result = np.full((7, len(offset) - 1, num_layers), np.nan)
    for group in range(len(offset) - 1):
        rows = range(offset[group], offset[group + 1])
        total, about_axis = np.zeros(num_layers), np.zeros((2, num_layers))
        first, second = np.zeros((3, num_layers)), np.zeros((3, num_layers))
        for row in rows:
            l, e = layer[row], energy[row]
            xx, yy = x[row] * x[row], y[row] * y[row]
            total[l] += e
            first[0, l] += e * x[row]
            first[1, l] += e * y[row]
            first[2, l] += e * math.sqrt(xx + yy)
            about_axis[0, l] += xx
            about_axis[1, l] += yy
        first /= total
        for row in rows:
            l, e = layer[row], energy[row]
            second[0, l] += e * (x[row] - first[0, l]) ** 2
            second[1, l] += e * (y[row] - first[1, l]) ** 2
            second[2, l] += e * (math.sqrt(x[row] * x[row] + y[row] * y[row]) - first[2, l]) ** 2
        for l in range(num_layers):
            if total[l] > 0.0:
                result[0, group, l], result[1, group, l] = first[0, l], first[1, l]
                result[2, group, l] = math.sqrt(second[0, l] / total[l])
                result[3, group, l] = math.sqrt(second[1, l] / total[l])
                result[4, group, l] = first[2, l]
                result[5, group, l] = math.sqrt(second[2, l] / total[l])
            extent = about_axis[0, l] + about_axis[1, l]
            if extent > 0.0:
                result[6, group, l] = (about_axis[1, l] - about_axis[0, l]) / extent
    return result
