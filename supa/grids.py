"""Grids of calorimeter cells: Cartesian or polar, one part for each layer or slice.

A cell holds its lower edges; the last cell of an axis also holds its upper edge. What lies outside every cell of its
layer is the overflow.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from supa.arrays import FloatArray, IntArray, array, is_real
from supa.checks import did_you_mean, format_value

if TYPE_CHECKING:
    from supa.showers import Showers

Depth = Literal["layer", "slice"]


class Cartesian:
    """Rectangular cells; axis 0 is x, axis 1 is y.

    Args:
        x_edges: (nx + 1,) ascending edges, length unit.
        y_edges: (ny + 1,) ascending edges, length unit.

    Raises:
        ValueError: the edges are fewer than two, not finite, or do not ascend.
    """

    def __init__(self, x_edges: npt.ArrayLike, y_edges: npt.ArrayLike) -> None:
        self.x_edges, self.y_edges = _ascending("x_edges", x_edges), _ascending("y_edges", y_edges)

    @property
    def shape(self) -> tuple[int, int]:
        """(nx, ny)."""
        return len(self.x_edges) - 1, len(self.y_edges) - 1

    def cell(self, x: npt.ArrayLike, y: npt.ArrayLike) -> IntArray:
        """Find the cells that hold some points.

        Args:
            x: (points,) length unit.
            y: (points,) length unit.

        Returns:
            (points,) int64 cell numbers, the last axis running fastest; -1 outside.
        """
        first, second = _interval(self.x_edges, x), _interval(self.y_edges, y)
        return np.where((first < 0) | (second < 0), -1, first * self.shape[1] + second)

    def centres(self) -> tuple[FloatArray, FloatArray]:
        """Give the middle of each cell.

        Returns:
            x and y, each (cells,) float64, length unit.
        """
        x, y = np.meshgrid(_middle(self.x_edges), _middle(self.y_edges), indexing="ij")
        return x.ravel(), y.ravel()

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Cartesian):
            return NotImplemented
        return np.array_equal(self.x_edges, other.x_edges) and np.array_equal(self.y_edges, other.y_edges)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        (x, y), (nx, ny) = (self.x_edges, self.y_edges), self.shape
        return f"<Cartesian {nx} x {ny} cells: x {x[0]:g} to {x[-1]:g}, y {y[0]:g} to {y[-1]:g}>"


class Polar:
    """Cells of equal angle and of given radii around the axis; axis 0 is the angle, from -pi, and axis 1 the radius.

    Args:
        r_edges: (nr + 1,) ascending edges from 0 or more, length unit.
        num_alpha: number of equal steps of the angle.

    Raises:
        ValueError: the edges are not ascending radii, or there is no step.
    """

    def __init__(self, r_edges: npt.ArrayLike, num_alpha: int) -> None:
        self.r_edges = _ascending("r_edges", r_edges)
        if self.r_edges[0] < 0:
            raise ValueError(f"r_edges: {format_value(r_edges)} was given, but a radius is at least 0.")
        if isinstance(num_alpha, bool) or not isinstance(num_alpha, int | np.integer) or num_alpha < 1:
            raise ValueError(
                f"num_alpha: {format_value(num_alpha)} was given, but it must be a whole number of at least 1."
            )
        self.num_alpha = int(num_alpha)

    @property
    def shape(self) -> tuple[int, int]:
        """(num_alpha, nr)."""
        return self.num_alpha, len(self.r_edges) - 1

    def cell(self, x: npt.ArrayLike, y: npt.ArrayLike) -> IntArray:
        """Find the cells that hold some points.

        Args:
            x: (points,) length unit.
            y: (points,) length unit.

        Returns:
            (points,) int64 cell numbers, the last axis running fastest; -1 outside.
        """
        x, y = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
        turn = (np.arctan2(y, x) + np.pi) / (2 * np.pi)
        step = np.minimum((turn * self.num_alpha).astype(np.int64), self.num_alpha - 1)
        ring = _interval(self.r_edges, np.hypot(x, y))
        return np.where(ring < 0, -1, step * self.shape[1] + ring)

    def centres(self) -> tuple[FloatArray, FloatArray]:
        """Give the middle of each cell.

        Returns:
            x and y, each (cells,) float64, length unit.
        """
        steps = 2 * np.pi * (np.arange(self.num_alpha) + 0.5) / self.num_alpha - np.pi
        alpha, r = np.meshgrid(steps, _middle(self.r_edges), indexing="ij")
        return (r * np.cos(alpha)).ravel(), (r * np.sin(alpha)).ravel()

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Polar):
            return NotImplemented
        return self.num_alpha == other.num_alpha and np.array_equal(self.r_edges, other.r_edges)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"<Polar {self.num_alpha} x {self.shape[1]} cells: radius {self.r_edges[0]:g} to {self.r_edges[-1]:g}>"


Cells = Cartesian | Polar


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
        return np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)])

    def cell(self, showers: "Showers") -> IntArray:
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

    def energies(self, showers: "Showers") -> FloatArray:
        """Sum the hits' energies in each cell.

        Args:
            showers: the showers.

        Returns:
            (n, num_cells) float64, GeV.

        Raises:
            ValueError: as for ``cell``.
        """
        cell = self.cell(showers)
        inside = cell >= 0
        cells = showers.hits.group_of_row()[inside] * self.num_cells + cell[inside]
        sums = np.bincount(cells, weights=showers.energy[inside], minlength=len(showers) * self.num_cells)
        return sums.astype(np.float64).reshape(len(showers), self.num_cells)

    def images(self, showers: "Showers") -> list[FloatArray]:
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

    def overflow(self, showers: "Showers") -> FloatArray:
        """Sum the energies of the hits that lie outside every cell of their layer (or slice).

        Args:
            showers: the showers.

        Returns:
            (n, parts) float64, GeV.

        Raises:
            ValueError: as for ``cell``.
        """
        outside = self.cell(showers) < 0
        parts = len(self.parts)
        cells = showers.hits.group_of_row()[outside] * parts + self._part_of_hit(showers)[outside]
        sums = np.bincount(cells, weights=showers.energy[outside], minlength=len(showers) * parts)
        return sums.astype(np.float64).reshape(len(showers), parts)

    def _part_of_hit(self, showers: "Showers") -> npt.NDArray[np.uint8]:
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


def _ascending(name: str, given: npt.ArrayLike) -> FloatArray:
    values = array(name, given)
    edges = values.astype(np.float64) if is_real(values) else np.empty(0)
    if edges.ndim != 1 or len(edges) < 2 or not np.isfinite(edges).all() or not (np.diff(edges) > 0).all():
        raise ValueError(f"{name}: {format_value(given)} was given, but an axis needs 2 or more ascending numbers.")
    edges.flags.writeable = False
    return edges


def _interval(edges: FloatArray, values: npt.ArrayLike) -> IntArray:
    """Number the interval of each value, -1 outside."""
    values = np.asarray(values)
    number = np.searchsorted(edges, values, side="right") - 1 - (values == edges[-1])
    return np.where(number < len(edges) - 1, number, -1).astype(np.int64)


def _middle(edges: FloatArray) -> FloatArray:
    return np.asarray((edges[1:] + edges[:-1]) / 2)


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
