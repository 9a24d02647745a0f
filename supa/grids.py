"""Grids of calorimeter cells: one part for each layer or slice.

What lies outside every cell of its layer (or slice) is the overflow.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from supa.arrays import FloatArray, IntArray
from supa.cells import Cartesian, Cells, Polar, energy_in_cells
from supa.checks import did_you_mean, format_value
from supa.ragged import counts_to_offsets
from supa.showers import Showers

Depth = Literal["layer", "slice"]


@dataclass(frozen=True, eq=False)
class Grid:
    """The cells of a calorimeter: one part for each readout layer, or for each slice.

    Args:
        parts: the cells of layer (or slice) 0, 1, ...; None for one without cells.
        depth: whether the parts are readout layers or slices.

    Raises:
        ValueError: there is no part, a part is no grid of cells, or the depth is neither.
    """

    parts: Sequence[Cells | None]
    depth: Depth = "layer"

    def __post_init__(self) -> None:
        object.__setattr__(self, "parts", tuple(self.parts))
        if not self.parts or not all(part is None or isinstance(part, Cartesian | Polar) for part in self.parts):
            raise ValueError(
                f"parts: {format_value(self.parts)} was given, but it must be Cartesian or Polar cells, one "
                "for each layer."
            )
        if self.depth not in ("layer", "slice"):
            raise ValueError(
                f"depth: {format_value(self.depth)} was given, but it must be 'layer' or 'slice'."
                f"{did_you_mean(self.depth, ('layer', 'slice'))}"
            )

    @property
    def num_cells(self) -> int:
        """Number of cells of all parts."""
        return int(self.offset[-1])

    @property
    def offset(self) -> IntArray:
        """(parts + 1,) int64: number of the first cell of each part, all cells counted through."""
        sizes = [0 if part is None else part.shape[0] * part.shape[1] for part in self.parts]
        return counts_to_offsets(np.array(sizes))

    def cell(self, showers: Showers) -> IntArray:
        """Find the cell of each hit.

        Args:
            showers: the showers.

        Returns:
            (hits,) int64 cell numbers, all cells counted through; -1 for the overflow.

        Raises:
            ValueError: the showers have hits in a layer (or slice) without a part, or know no slices.
        """
        part_of_hit = self._part_of_hit(showers)
        cells = np.full(len(part_of_hit), -1, dtype=np.int64)
        for number, part in enumerate(self.parts):
            chosen = np.flatnonzero(part_of_hit == number)
            if part is not None and len(chosen):
                local = part.cell(showers.x[chosen], showers.y[chosen])
                cells[chosen] = np.where(local < 0, -1, local + self.offset[number])
        return cells

    def energies(self, showers: Showers) -> FloatArray:
        """Sum the hits' energies in each cell.

        Args:
            showers: the showers.

        Returns:
            (n, num_cells) float64, GeV.

        Raises:
            ValueError: as for ``cell``.
        """
        group = showers.hits.group_of_row()
        return energy_in_cells(group, self.cell(showers), showers.energy, len(showers), self.num_cells)

    def images(self, showers: Showers) -> list[FloatArray]:
        """Sum the hits' energies in each cell, part by part.

        Args:
            showers: the showers.

        Returns:
            For each part (n, *shape) float64, GeV; (n, 0, 0) for one without cells.

        Raises:
            ValueError: as for ``cell``.
        """
        return self.split(self.energies(showers))

    def split(self, energies: npt.NDArray[Any]) -> list[npt.NDArray[Any]]:
        """Cut values of all cells into the parts' images.

        Args:
            energies: (n, num_cells).

        Returns:
            For each part (n, *shape), sharing memory; (n, 0, 0) for one without cells.
        """
        return [
            energies[:, a:b].reshape(len(energies), *((0, 0) if part is None else part.shape))
            for part, a, b in zip(self.parts, self.offset[:-1], self.offset[1:], strict=True)
        ]

    def overflow(self, showers: Showers) -> FloatArray:
        """Sum the energies of the hits that lie outside every cell of their layer (or slice).

        Args:
            showers: the showers.

        Returns:
            (n, parts) float64, GeV.

        Raises:
            ValueError: as for ``cell``.
        """
        outside = np.where(self.cell(showers) < 0, self._part_of_hit(showers).astype(np.int64), -1)
        return energy_in_cells(showers.hits.group_of_row(), outside, showers.energy, len(showers), len(self.parts))

    def _part_of_hit(self, showers: Showers) -> npt.NDArray[np.uint8]:
        part_of_hit = showers.layer if self.depth == "layer" else showers.slice
        deepest = int(part_of_hit.max(initial=0))
        if self.depth == "slice" and not showers.slices_known:
            raise ValueError("The grid has a part for each slice, but these showers know only their hits' layers.")
        if deepest >= len(self.parts):
            raise ValueError(
                f"The showers have hits in {self.depth} {deepest}, but the grid's {len(self.parts)} parts are numbered "
                f"from 0; give a grid with a part for each {self.depth}."
            )
        return part_of_hit


def _linspace(half_width: float, cells: int) -> FloatArray:
    return np.linspace(-half_width, half_width, cells + 1)


CALOGAN = Grid(
    (
        Cartesian(_linspace(5, 3), _linspace(5, 96)),
        Cartesian(_linspace(10, 12), _linspace(10, 12)),
        Cartesian(_linspace(15, 12), _linspace(15, 6)),
    )
)
"""The cells of CaloGAN (3 x 96, 12 x 12, 12 x 6) at the sizes that the public SUPA code gives them."""
