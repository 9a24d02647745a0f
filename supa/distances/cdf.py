"""Distance between two cumulative distribution functions, for many weightings of the same sorted values."""

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
    """Integrate the distance between two cumulative distribution functions, for every repeat of the weights.

    All repeats share one sort. The weights of a row are contiguous in memory, so each row needs a single access, and
    the compiler vectorises the inner loop.

    Args:
        order: (d,) row numbers in ascending order of their values.
        gaps: (d,) distance to the next value; the last one is 0.
        absent: (rows - d,) numbers of rows without a value.
        weights: (rows, 2, repeats) how often each row occurs in the first and in the second sample.
        totals: (2, repeats) sums of the weights over all rows.

    Returns:
        (repeats,) float64, the sum of |F_first - F_second| times the gaps. It is 0 if both samples are empty, and
        infinite if one of them is empty.
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
        row, gap = np.uint64(order[place]), gaps[place]  # an unsigned index needs no check for negative values
        for r in range(repeats):
            first[r] += weights[row, 0, r]
            second[r] += weights[row, 1, r]
        if gap > 0:
            for r in range(repeats):
                result[r] += abs(first[r] * first_scale[r] - second[r] * second_scale[r]) * gap
    return result
