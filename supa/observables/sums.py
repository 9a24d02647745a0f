"""Sums over the hits of each shower, from which the observables are computed."""

from typing import Any

import numpy as np
import numpy.typing as npt

from supa.arrays import Array, FloatArray, IntArray
from supa.checks import format_value
from supa.compiler import kernel


@kernel
def sums(offset: IntArray, values: FloatArray) -> FloatArray:
    """Sum the values of each group, (groups,); 0 for a group without rows."""
    result = np.zeros(len(offset) - 1)
    for group in range(len(result)):
        for row in range(offset[group], offset[group + 1]):
            result[group] += values[row]
    return result


@kernel
def maxima(offset: IntArray, values: FloatArray) -> FloatArray:
    """Find the largest value of each group, (groups,); NaN for a group without rows."""
    result = np.full(len(offset) - 1, np.nan)
    for group in range(len(result)):
        for row in range(offset[group], offset[group + 1]):
            if not values[row] <= result[group]:
                result[group] = values[row]
    return result


@kernel
def counts_by_cell(offset: IntArray, cell: npt.NDArray[Any], num_cells: int) -> IntArray:
    """Count the rows of each group in each cell, (groups, num_cells); ignore rows of other cells."""
    result = np.zeros((len(offset) - 1, num_cells), dtype=np.int64)
    for group in range(len(result)):
        for row in range(offset[group], offset[group + 1]):
            if 0 <= cell[row] < num_cells:
                result[group, cell[row]] += 1
    return result


@kernel
def sums_by_cell(offset: IntArray, cell: npt.NDArray[Any], num_cells: int, values: FloatArray) -> FloatArray:
    """Sum the values of each group in each cell, (groups, num_cells); ignore rows of other cells."""
    result = np.zeros((len(offset) - 1, num_cells))
    for group in range(len(result)):
        for row in range(offset[group], offset[group + 1]):
            if 0 <= cell[row] < num_cells:
                result[group, cell[row]] += values[row]
    return result


def in_float64(values: Array) -> FloatArray:
    """Convert a column to float64.

    Sums are then exact to rounding, and each kernel is compiled only once.

    Args:
        values: Column of numbers.

    Returns:
        The same values. They share memory with the column if it is float64 already.
    """
    return values.astype(np.float64, copy=False)


def ratio(numerator: npt.NDArray[Any], denominator: npt.NDArray[Any]) -> FloatArray:
    """Divide two arrays, with NaN as the result of a division by 0.

    Args:
        numerator: Array of any shape.
        denominator: Array that broadcasts with the numerator.

    Returns:
        float64 array of the common shape.
    """
    shape = np.broadcast_shapes(numerator.shape, denominator.shape)
    return np.asarray(np.divide(numerator, denominator, out=np.full(shape, np.nan), where=denominator != 0))


def checked_edges(name: str, given: npt.ArrayLike) -> FloatArray:
    """Check the edges of bins; the outermost edges may be infinite.

    Args:
        name: Name of the argument, for the error message.
        given: The edges.

    Returns:
        (bins + 1,) float64.

    Raises:
        ValueError: If there are fewer than two edges, or if they do not ascend.
    """
    try:
        edges = np.array(given, dtype=np.float64)
    except (TypeError, ValueError):
        edges = np.empty(0)
    if edges.ndim != 1 or len(edges) < 2 or not (edges[:-1] < edges[1:]).all():
        raise ValueError(f"{name} must be 2 or more ascending numbers, got {format_value(given)}.")
    return edges


def bins_of(edges: FloatArray, values: FloatArray) -> IntArray:
    """Return the bin number of each value.

    Args:
        edges: (bins + 1,) ascending edges. A bin includes its lower edge; the last bin also includes its upper edge.
        values: (rows,) values.

    Returns:
        (rows,) int64. Values below the first edge have -1; values above the last edge have the number of bins.
    """
    return np.asarray(np.searchsorted(edges, values, side="right") - 1 - (values == edges[-1]))
