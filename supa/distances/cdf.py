"""The distance between two cumulative distributions, for many weightings of the same sorted values at once."""

import numpy as np
import numpy.typing as npt

from supa.arrays import ByteArray, FloatArray
from supa.compiler import kernel


@kernel
def cdf_distances(
    order: npt.NDArray[np.int32],
    gaps: FloatArray,
    absent: npt.NDArray[np.int32],
    weights: ByteArray,
    totals: FloatArray,
) -> FloatArray:
    """Integrate the distance between two cumulative distributions, for every repeat of the weights.

    One sort serves all repeats. The weights of one row lie beside each other, so that each row is one access to the
    memory and the inner loop becomes vector instructions.

    Args:
        order: (d,) rows in ascending order of their value.
        gaps: (d,) distance to the next value, 0 in the last place.
        absent: (rows - d,) rows without a value.
        weights: (rows, 2, repeats) how often each row stands in the first and in the second sample.
        totals: (2, repeats) sum of the weights over all rows.

    Returns:
        (repeats,) float64, the sum of |F_first - F_second| times the gaps; 0 where both samples are empty, infinite
        where one of them is.
    """
    repeats = weights.shape[2]
    present = totals.copy()
    for row in absent:
        present -= weights[row]
    result = np.zeros(repeats)
    for r in range(repeats):
        if (present[0, r] == 0) != (present[1, r] == 0):
            result[r] = np.inf
    scale = 1 / np.maximum(present, 1.0)
    first, second = np.zeros((2, repeats), dtype=np.int32)
    first_scale, second_scale = scale
    for place in range(len(order)):
        row, gap = np.uint64(order[place]), gaps[place]  # an unsigned index needs no check for a negative one
        for r in range(repeats):
            first[r] += weights[row, 0, r]
            second[r] += weights[row, 1, r]
        if gap > 0:
            for r in range(repeats):
                result[r] += abs(first[r] * first_scale[r] - second[r] * second_scale[r]) * gap
    return result
