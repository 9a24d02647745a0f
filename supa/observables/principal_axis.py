"""Principal transverse axis of the energy of each shower."""

from typing import Any

import numpy as np
import numpy.typing as npt

from supa.arrays import FloatArray


def principal_axis_frame(
    x: npt.NDArray[Any], y: npt.NDArray[Any], weights: npt.NDArray[Any], group: npt.NDArray[Any], num_groups: int
) -> tuple[FloatArray, FloatArray]:
    """Compute the coordinates of hits in the principal frame of their group.

    The origin is the weighted mean of the group. The first axis has the largest weighted second moment and points
    towards larger x.

    Args:
        x: (hits,) x coordinates.
        y: (hits,) y coordinates.
        weights: (hits,) weights, such as energies.
        group: (hits,) group number of each hit, such as the number of its shower.
        num_groups: Number of groups.

    Returns:
        u along the principal axis and v perpendicular to it, each (hits,) float64, in the unit of x and y.
    """
    x, y = (values - group_means(values, weights, group, num_groups)[group] for values in (x, y))
    xx, yy, xy = (group_means(product, weights, group, num_groups) for product in (x * x, y * y, x * y))
    angle = np.arctan2(2 * xy, xx - yy) / 2  # from -pi/2 to pi/2
    cosine, sine = np.cos(angle)[group], np.sin(angle)[group]
    return cosine * x + sine * y, cosine * y - sine * x


def group_means(
    values: npt.NDArray[Any], weights: npt.NDArray[Any], group: npt.NDArray[Any], num_groups: int
) -> FloatArray:
    """Compute the weighted mean of each group.

    Args:
        values: (rows,) values.
        weights: (rows,) weights.
        group: (rows,) group number of each row.
        num_groups: Number of groups.

    Returns:
        (num_groups,) float64. It is 0 for a group without rows or weight.
    """
    sums = np.bincount(group, weights * values, num_groups)
    return np.asarray(sums / np.maximum(np.bincount(group, weights, num_groups), 1e-300))
