"""Conversion of energies in cells to showers with one hit per non-empty cell."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from supa import Grid, ShowerConfig, Showers, from_hits
from supa.arrays import FloatArray
from supa.ragged import counts_to_offsets
from supa_datasets.conversion.untrusted_input import MAX_CHUNK_ROWS

MEV = 1000.0
"""MeV per GeV."""


def pieces(showers: Showers, cells: int) -> Iterator[Showers]:
    """Divide showers into pieces with a bounded number of cells.

    Args:
        showers: The showers.
        cells: Number of cells per shower.

    Returns:
        Iterator over pieces.
    """
    size = max(1, MAX_CHUNK_ROWS // max(cells, 1))
    for start in range(0, len(showers), size):
        yield showers[start : start + size]


def showers_of(grid: Grid, config: ShowerConfig, energies: Any, incident: Any, first: int) -> Showers:
    """Return showers with one hit at the centre of each non-empty cell.

    Args:
        grid: The cells.
        config: Physics of the showers.
        energies: (n, num_cells) energies in GeV.
        incident: (n,) incident energies in GeV.
        first: Index of the first shower.

    Returns:
        The showers.

    Raises:
        ValueError: If an energy is negative or not finite.
    """
    if not (np.isfinite(energies) & (energies >= 0)).all():
        raise ValueError("a cell's energy is negative or not finite")
    x, y, part = _centres(grid)
    row, cell = np.nonzero(energies)
    depth: dict[str, Any] = {grid.depth: part[cell]}
    return from_hits(
        config,
        offset=counts_to_offsets(np.bincount(row, minlength=len(energies))),
        incident_energy=incident,
        x=x[cell],
        y=y[cell],
        energy=energies[row, cell],
        **depth,
        index=first + np.arange(len(energies)),
    )


def _centres(grid: Grid) -> tuple[FloatArray, FloatArray, Any]:
    centres = [(np.empty(0), np.empty(0)) if part is None else part.centres() for part in grid.parts]
    x, y = (np.concatenate([centre[axis] for centre in centres]) for axis in (0, 1))
    return x, y, np.repeat(np.arange(len(grid.parts)), np.diff(grid.offset))
