"""Occupancy, sparsity and cell ratio of the cells of a grid."""

from typing import NamedTuple

import numpy as np

from supa.arrays import FloatArray, IntArray
from supa.compiler import kernel
from supa.grids import Grid
from supa.observables.fields import field_function
from supa.observables.sums import in_float64, ratio
from supa.showers import Showers


class Filling(NamedTuple):
    """The observables of cells, each (n, parts) float64."""

    occupancy: FloatArray
    cell_ratio: FloatArray


def filling_of(showers: Showers, grid: Grid) -> Filling:
    """Compute all observables of cells together, in the time that one of them takes.

    Args:
        showers: n showers.
        grid: Grid with one part per readout layer (or per slice).

    Returns:
        The occupancy and the cell ratio.

    Raises:
        ValueError: If a hit is in a layer (or slice) for which the grid has no part, or if the grid has parts per
            slice and the slices of the hits are unknown.
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
    "Compute the fraction of cells with energy, for each part of the grid.",
    "(n, parts) float64. NaN for a part without cells.",
    """
    >>> import supa
    >>> from supa import observables
    >>> showers = supa.simulate(1000, seed=1)
    >>> observables.occupancy(showers, supa.CALOGAN).mean(axis=0).round(3).tolist()
    [0.056, 0.104, 0.009]
    """,
)
cell_ratio = field_function(
    filling_of,
    "cell_ratio",
    "Compute (E1 - E2) / (E1 + E2) of the two cells with the largest energies, for each part of the grid.",
    "(n, parts) float64 from 0 (equal energies) to 1 (a single cell with energy). NaN for a part without energy or\n"
    "with fewer than two cells.",
    """
    >>> import numpy as np
    >>> import supa
    >>> from supa import observables
    >>> showers = supa.simulate(1000, seed=1)
    >>> np.nanmean(observables.cell_ratio(showers, supa.CALOGAN), axis=0).round(2).tolist()
    [0.23, 0.25, 0.69]
    """,
)


def sparsity(showers: Showers, grid: Grid) -> FloatArray:
    """Compute the fraction of cells without energy, 1 - occupancy, for each part of the grid.

    Args:
        showers: n showers.
        grid: Grid with one part per readout layer (or per slice).

    Returns:
        (n, parts) float64. NaN for a part without cells.

    Raises:
        ValueError: If a hit is in a layer (or slice) for which the grid has no part, or if the grid has parts per
            slice and the slices of the hits are unknown.

    Example:
        >>> import supa
        >>> from supa import observables
        >>> showers = supa.simulate(1000, seed=1)
        >>> observables.sparsity(showers, supa.CALOGAN).mean(axis=0).round(3).tolist()
        [0.944, 0.896, 0.991]
    """
    return 1.0 - filling_of(showers, grid).occupancy


@kernel
def _fill(
    offset: IntArray, cell: IntArray, energy: FloatArray, part_of_cell: IntArray, num_parts: int
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Count the cells with energy and find the two largest energies, each (groups, num_parts).

    The memory holds the cells of one shower at a time. The cells of all showers would take much memory, and most of
    them are empty.
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
                content[number] = 0.0  # visit each cell once, and leave it empty for the next shower
                occupied[group, part] += 1
                if inside > hottest[group, part]:
                    second[group, part] = hottest[group, part]
                    hottest[group, part] = inside
                elif inside > second[group, part]:
                    second[group, part] = inside
    return occupied, hottest, second
