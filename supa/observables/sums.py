"""Sums over the hits of each shower: the loops under the observables."""

from typing import Any

import numpy as np
import numpy.typing as npt

from supa.arrays import Array, FloatArray, IntArray
from supa.checks import format_value
from supa.compiler import kernel


@kernel
def sums(offset: IntArray, values: FloatArray) -> FloatArray:
    """Sum the values of each group, (groups,); 0 for one without rows."""
    result = np.zeros(len(offset) - 1)
    for group in range(len(result)):
        for row in range(offset[group], offset[group + 1]):
            result[group] += values[row]
    return result


@kernel
def maxima(offset: IntArray, values: FloatArray) -> FloatArray:
    """Find the largest value of each group, (groups,); NaN for one without rows."""
    result = np.full(len(offset) - 1, np.nan)
    for group in range(len(result)):
        for row in range(offset[group], offset[group + 1]):
            if not values[row] <= result[group]:
                result[group] = values[row]
    return result


@kernel
def counts_by_cell(offset: IntArray, cell: npt.NDArray[Any], num_cells: int) -> IntArray:
    """Count the rows of each group in each cell, (groups, num_cells); rows of other cells count nowhere."""
    result = np.zeros((len(offset) - 1, num_cells), dtype=np.int64)
    for group in range(len(result)):
        for row in range(offset[group], offset[group + 1]):
            if 0 <= cell[row] < num_cells:
                result[group, cell[row]] += 1
    return result


@kernel
def sums_by_cell(offset: IntArray, cell: npt.NDArray[Any], num_cells: int, values: FloatArray) -> FloatArray:
    """Sum the values of each group in each cell, (groups, num_cells); rows of other cells count nowhere."""
    result = np.zeros((len(offset) - 1, num_cells))
    for group in range(len(result)):
        for row in range(offset[group], offset[group + 1]):
            if 0 <= cell[row] < num_cells:
                result[group, cell[row]] += values[row]
    return result


def in_float64(values: Array) -> FloatArray:
    """Return a column as float64, so that sums are exact to rounding and each kernel is compiled once.

    Args:
        values: a column of numbers.

    Returns:
        The same values, sharing memory where they are float64 already.
    """
    return values.astype(np.float64, copy=False)


def ratio(numerator: npt.NDArray[Any], denominator: npt.NDArray[Any]) -> FloatArray:
    """Divide, with NaN where the denominator is 0.

    Args:
        numerator: any shape.
        denominator: a shape that broadcasts with it.

    Returns:
        float64 of the common shape.
    """
    shape = np.broadcast_shapes(numerator.shape, denominator.shape)
    return np.asarray(np.divide(numerator, denominator, out=np.full(shape, np.nan), where=denominator != 0))


def checked_edges(name: str, given: npt.ArrayLike) -> FloatArray:
    """Check the edges of bins; the outermost may be infinite.

    Args:
        name: what they are called.
        given: the edges.

    Returns:
        (bins + 1,) float64.

    Raises:
        ValueError: they are fewer than two numbers, or do not ascend.
    """
    try:
        edges = np.array(given, dtype=np.float64)
    except (TypeError, ValueError):
        edges = np.empty(0)
    if edges.ndim != 1 or len(edges) < 2 or not (edges[:-1] < edges[1:]).all():
        raise ValueError(f"{name}: {format_value(given)} was given, but bins need 2 or more ascending edges.")
    return edges


def bins_of(edges: FloatArray, values: FloatArray) -> IntArray:
    """Number the bin of each value.

    Args:
        edges: (bins + 1,), ascending. A bin holds its lower edge; the last bin also holds its upper edge.
        values: (rows,).

    Returns:
        (rows,) int64; -1 or the number of bins for what lies below or above.
    """
    return np.asarray(np.searchsorted(edges, values, side="right") - 1 - (values == edges[-1]))
