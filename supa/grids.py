"""Grids of calorimeter cells, with one set of cells for each readout layer or slice.

Hits outside all cells of their layer (or slice) belong to the overflow.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from supa.arrays import FloatArray, IntArray
from supa.cells import Cartesian, Cells, Polar, energy_in_cells
from supa.checks import counted, did_you_mean, format_value
from supa.ragged import counts_to_offsets
from supa.showers import Showers

Depth = Literal["layer", "slice"]


@dataclass(frozen=True, eq=False)
class Grid:
    """Cells of a calorimeter, for each readout layer or for each slice.

    Args:
        parts: `Cartesian` or `Polar` cells of layer (or slice) 0, 1, ...; None for a layer without cells.
        depth: ``"layer"`` if each part is a readout layer, ``"slice"`` if each part is a slice.

    Raises:
        ValueError: If there are no parts, if a part is neither Cartesian, Polar nor None, or if the depth is unknown.

    Example:
        >>> import numpy as np
        >>> import supa
        >>> edges = np.linspace(-10, 10, 21)
        >>> grid = supa.Grid([supa.Cartesian(edges, edges), supa.Polar([0, 2, 5, 10], num_alpha=8), None])
        >>> grid.num_cells
        424
        >>> showers = supa.simulate(50, "standard", seed=1)
        >>> first, second, third = grid.images(showers)
        >>> first.shape, second.shape, third.shape
        ((50, 20, 20), (50, 8, 3), (50, 0, 0))
        >>> total = first.sum() + second.sum() + grid.overflow(showers).sum()
        >>> bool(np.isclose(total, showers.energy.sum()))
        True
    """

    parts: Sequence[Cells | None]
    depth: Depth = "layer"

    def __post_init__(self) -> None:
        object.__setattr__(self, "parts", tuple(self.parts))
        if not self.parts or not all(part is None or isinstance(part, Cartesian | Polar) for part in self.parts):
            raise ValueError(
                f"parts: {format_value(self.parts)} was given, but it must be a list of Cartesian or Polar cells, one "
                "for each layer."
            )
        if self.depth not in ("layer", "slice"):
            raise ValueError(
                f"depth: {format_value(self.depth)} was given, but it must be 'layer' or 'slice'."
                f"{did_you_mean(self.depth, ('layer', 'slice'))}"
            )

    @property
    def num_cells(self) -> int:
        """Number of cells in all parts."""
        return int(self.offset[-1])

    @property
    def offset(self) -> IntArray:
        """(parts + 1,) int64, number of the first cell of each part; the numbers are consecutive over all parts."""
        sizes = [0 if part is None else part.shape[0] * part.shape[1] for part in self.parts]
        return counts_to_offsets(np.array(sizes))

    def cell(self, showers: Showers) -> IntArray:
        """Return the cell of each hit.

        Args:
            showers: Showers with the hits.

        Returns:
            (hits,) int64, cell numbers, consecutive over all parts; -1 for hits in the overflow.

        Raises:
            ValueError: If the showers have hits in a layer (or slice) beyond the last part, or if the depth is
                ``"slice"`` and the slices of the hits are unknown.
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
        """Return the energy in each cell.

        Args:
            showers: Showers with the hits.

        Returns:
            (n, num_cells) float64, energies (GeV).

        Raises:
            ValueError: See ``cell``.
        """
        group = showers.hits.group_of_row()
        return energy_in_cells(group, self.cell(showers), showers.energy, len(showers), self.num_cells)

    def images(self, showers: Showers) -> list[FloatArray]:
        """Return the energy in each cell as one array of images for each part.

        Args:
            showers: Showers with the hits.

        Returns:
            List with one array ``(n, *shape)`` float64 of energies (GeV) for each part; (n, 0, 0) for a part without
            cells.

        Raises:
            ValueError: See ``cell``.
        """
        return self.split(self.energies(showers))

    def split(self, energies: npt.NDArray[Any]) -> list[npt.NDArray[Any]]:
        """Split values of all cells into the images of the parts.

        Args:
            energies: (n, num_cells) values.

        Returns:
            List with one view ``(n, *shape)`` for each part; (n, 0, 0) for a part without cells.
        """
        return [
            energies[:, a:b].reshape(len(energies), *((0, 0) if part is None else part.shape))
            for part, a, b in zip(self.parts, self.offset[:-1], self.offset[1:], strict=True)
        ]

    def overflow(self, showers: Showers) -> FloatArray:
        """Return the energy outside all cells of each layer (or slice).

        Args:
            showers: Showers with the hits.

        Returns:
            (n, parts) float64, energies (GeV).

        Raises:
            ValueError: See ``cell``.
        """
        outside = np.where(self.cell(showers) < 0, self._part_of_hit(showers).astype(np.int64), -1)
        return energy_in_cells(showers.hits.group_of_row(), outside, showers.energy, len(showers), len(self.parts))

    def _part_of_hit(self, showers: Showers) -> npt.NDArray[np.uint8]:
        part_of_hit = showers.layer if self.depth == "layer" else showers.slice
        deepest = int(part_of_hit.max(initial=0))
        if self.depth == "slice" and not showers.slices_known:
            raise ValueError(
                "The grid has one part for each slice, but only the layers of these hits are known, not their slices."
            )
        if deepest >= len(self.parts):
            raise ValueError(
                f"The showers have hits in {self.depth} {deepest}, but the grid has only "
                f"{counted(len(self.parts), 'part')}, numbered from 0; use a grid with one part for each {self.depth}."
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
"""Cells of CaloGAN (3 x 96, 12 x 12 and 12 x 6), with the sizes that the public SUPA code uses."""
