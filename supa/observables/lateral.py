"""Transverse extent of a shower: centre, width, radius and anisotropy per readout layer, and the radial profile."""

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
    """The transverse observables, each (n, num_layers) float64."""

    centre_x: FloatArray
    centre_y: FloatArray
    width_x: FloatArray
    width_y: FloatArray
    mean_radius: FloatArray
    width_r: FloatArray
    anisotropy: FloatArray


def lateral_of(showers: Showers) -> Lateral:
    """Compute all transverse observables together, in the time that one of them takes.

    Args:
        showers: n showers.

    Returns:
        The observables.
    """
    columns = in_float64(showers.x), in_float64(showers.y), in_float64(showers.energy)
    return Lateral(*_moments(showers.offset, showers.layer, *columns, showers.config.num_layers))


_LENGTH = "(n, num_layers) float64, length unit. NaN for a layer without energy."


def _example(name: str, means: str) -> str:
    return f"""
    >>> import numpy as np
    >>> import supa
    >>> from supa import observables
    >>> values = observables.{name}(supa.simulate(1000, seed=1))
    >>> np.nanmean(values, axis=0).round(3).tolist()  # means of the three layers
    {means}
    """


centre_x = field_function(
    lateral_of,
    "centre_x",
    "Compute the energy-weighted mean of x in each readout layer.",
    _LENGTH,
    _example("centre_x", "[-0.001, -0.009, 0.153]"),
)
centre_y = field_function(
    lateral_of,
    "centre_y",
    "Compute the energy-weighted mean of y in each readout layer.",
    _LENGTH,
    _example("centre_y", "[0.0, 0.02, 0.086]"),
)
width_x = field_function(
    lateral_of,
    "width_x",
    "Compute the energy-weighted standard deviation of x in each readout layer.",
    _LENGTH,
    _example("width_x", "[0.938, 1.458, 0.725]"),
)
width_y = field_function(
    lateral_of,
    "width_y",
    "Compute the energy-weighted standard deviation of y in each readout layer.",
    _LENGTH,
    _example("width_y", "[0.93, 1.439, 0.657]"),
)
mean_radius = field_function(
    lateral_of,
    "mean_radius",
    "Compute the energy-weighted mean distance of the hits from the axis in each readout layer.",
    _LENGTH,
    _example("mean_radius", "[1.25, 2.018, 5.811]"),
)
width_r = field_function(
    lateral_of,
    "width_r",
    "Compute the energy-weighted standard deviation of the distance from the axis in each readout layer.",
    _LENGTH,
    _example("width_r", "[0.599, 1.016, 0.583]"),
)
# All hits have the same weight, and the sums are taken about the axis. The mean over showers is therefore 0 if no
# direction is preferred. The rotation of the public reference code (``frame="reference"``) shows up here.
anisotropy = field_function(
    lateral_of,
    "anisotropy",
    "Compute the anisotropy of each readout layer, (sum y^2 - sum x^2) / (sum y^2 + sum x^2) over its hits.",
    "(n, num_layers) float64 from -1 (all hits on the x axis) to 1 (all hits on the y axis). NaN for a layer\n"
    "without a hit off the shower axis.",
    """
    With the transposed rotation of the public reference code, showers extend farther along y than along x:

    >>> import numpy as np
    >>> import supa
    >>> from supa import observables
    >>> for name in ("standard", "reference"):
    ...     showers = supa.simulate(5000, name, seed=3)
    ...     print(name, np.nanmean(observables.anisotropy(showers), axis=0).round(3).tolist())
    standard [-0.003, 0.001, 0.004]
    reference [0.008, 0.033, 0.058]
    """,
)


def radial_profile(showers: Showers, edges: npt.ArrayLike) -> FloatArray:
    """Compute the fraction of the incident energy in each ring around the axis, summed over all layers.

    Hits inside the first edge or outside the last edge are not counted. With 0 and infinity as the outermost edges,
    each row adds up to the response.

    Args:
        showers: n showers.
        edges: (bins + 1,) ascending radii, length unit. A ring includes its inner edge; the last ring also includes
            its outer edge.

    Returns:
        (n, bins) float64.

    Raises:
        ValueError: If there are fewer than two edges, or if they do not ascend.

    Example:
        >>> import supa
        >>> from supa import observables
        >>> showers = supa.simulate(1000, seed=1)
        >>> observables.radial_profile(showers, [0, 1, 2, 5]).mean(axis=0).round(3).tolist()
        [0.347, 0.406, 0.239]
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

    A second pass sums the squared distances from the centre. For a narrow layer far from the axis, the difference of
    two moments would suffer from cancellation.
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
