"""How the hits fill the cells of a grid."""

from typing import NamedTuple

import numpy as np

from supa.arrays import FloatArray, IntArray
from supa.compiler import kernel
from supa.grids import Grid
from supa.observables.fields import field_function
from supa.observables.sums import in_float64, ratio
from supa.showers import Showers


class Filling(NamedTuple):
    """The observables of the cells, each (n, parts) float64."""

    occupancy: FloatArray
    cell_ratio: FloatArray


def filling_of(showers: Showers, grid: Grid) -> Filling:
    """Compute all observables of the cells together, which takes as long as one.

    Args:
        showers: the showers.
        grid: the cells.

    Returns:
        The occupancy and the ratio of the two hottest cells.

    Raises:
        ValueError: the showers have hits in a layer (or slice) without a part, or know no slices.
    """
    sizes = np.diff(grid.offset)
    part_of_cell = np.repeat(np.arange(len(sizes)), sizes)
    occupied, hottest, second = _fill(
        showers.offset, grid.cell(showers), in_float64(showers.energy), part_of_cell, len(sizes)
    )
    return Filling(
        occupancy=ratio(occupied, sizes),
        cell_ratio=np.where(sizes > 1, ratio(hottest - second, hottest + second), np.nan),
    )


occupancy = field_function(
    filling_of,
    "occupancy",
    "Compute the fraction of the cells that hold energy, for each part of the grid.",
    "(n, parts) float64; NaN for a part without cells.",
)
cell_ratio = field_function(
    filling_of,
    "cell_ratio",
    "Compare the two hottest cells, (E1 - E2) / (E1 + E2), in each part of the grid.",
    "(n, parts) float64 from 0 (equal) to 1 (one cell alone); NaN without energy or with fewer than two cells.",
)


def sparsity(showers: Showers, grid: Grid) -> FloatArray:
    """Return the part of the cells that hold no energy: 1 - occupancy, for each part of the grid.

    Args:
        showers: the showers.
        grid: the cells.

    Returns:
        (n, parts) float64; NaN for a part without cells.

    Raises:
        ValueError: the showers have hits in a layer (or slice) without a part, or know no slices.
    """
    return 1.0 - filling_of(showers, grid).occupancy


@kernel
def _fill(
    offset: IntArray, cell: IntArray, energy: FloatArray, part_of_cell: IntArray, num_parts: int
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Count the cells with energy and find the two largest energies, each (groups, num_parts).

    One shower's cells are held at a time: those of all would be large, and most of them empty.
    """
    shape = (len(offset) - 1, num_parts)
    occupied, hottest, second = np.zeros(shape), np.zeros(shape), np.zeros(shape)
    content = np.zeros(len(part_of_cell))
    for group in range(len(offset) - 1):
        rows = range(offset[group], offset[group + 1])
        for row in rows:
            if cell[row] >= 0:
                content[cell[row]] += energy[row]
        for row in rows:
            number = cell[row]
            if number >= 0 and content[number] > 0.0:
                inside, part = content[number], part_of_cell[number]
                content[number] = 0.0  # each cell is looked at once, and is empty for the next shower
                occupied[group, part] += 1
                if inside > hottest[group, part]:
                    second[group, part] = hottest[group, part]
                    hottest[group, part] = inside
                elif inside > second[group, part]:
                    second[group, part] = inside
    return occupied, hottest, second
