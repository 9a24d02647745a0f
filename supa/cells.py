"""Calorimeter cells in a plane, Cartesian or polar.

A cell includes its lower edges; the last cell of an axis also includes its upper edge.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from supa.arrays import FloatArray, IntArray, array, is_real
from supa.checks import format_value


class Cartesian:
    """Rectangular cells of a plane. Axis 0 is x, axis 1 is y.

    A cell includes its lower edges; the last cell of an axis also includes its upper edge.

    Args:
        x_edges: (nx + 1,) ascending edges along x (length unit).
        y_edges: (ny + 1,) ascending edges along y (length unit).

    Raises:
        ValueError: If an axis has fewer than two edges, or if its edges are not finite or do not ascend.

    Example:
        >>> import supa
        >>> cells = supa.Cartesian(x_edges=[-1, 0, 1], y_edges=[-2, 0, 2, 4])
        >>> cells.shape
        (2, 3)
        >>> cells.cell(x=[-0.5, 0.5, 9.0], y=[1.0, 3.0, 0.0]).tolist()  # the last point is outside
        [1, 5, -1]
    """

    def __init__(self, x_edges: npt.ArrayLike, y_edges: npt.ArrayLike) -> None:
        self.x_edges, self.y_edges = _ascending("x_edges", x_edges), _ascending("y_edges", y_edges)

    @property
    def shape(self) -> tuple[int, int]:
        """Number of cells (nx, ny)."""
        return len(self.x_edges) - 1, len(self.y_edges) - 1

    def cell(self, x: npt.ArrayLike, y: npt.ArrayLike) -> IntArray:
        """Return the cell of each point.

        Args:
            x: (points,) x of each point (length unit).
            y: (points,) y of each point (length unit).

        Returns:
            (points,) int64, cell numbers in row-major order; -1 for points outside.
        """
        first, second = _interval(self.x_edges, x), _interval(self.y_edges, y)
        return np.where((first < 0) | (second < 0), -1, first * self.shape[1] + second)

    def centres(self) -> tuple[FloatArray, FloatArray]:
        """Return the centre of each cell.

        Returns:
            x and y of the centres, each (cells,) float64 (length unit).
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
    """Polar cells around the axis. Axis 0 is the azimuth, starting at -pi, and axis 1 is the radius.

    A cell includes its lower edges; the outermost cell also includes its outer radius.

    Args:
        r_edges: (nr + 1,) ascending radii of at least 0 (length unit).
        num_alpha: Number of equal steps of the azimuth.

    Raises:
        ValueError: If the radii are negative or do not ascend, or if ``num_alpha`` is not a positive integer.

    Example:
        >>> import supa
        >>> cells = supa.Polar(r_edges=[0, 1, 4], num_alpha=4)
        >>> cells.shape
        (4, 2)
        >>> cells.cell(x=[0.5, 3.0, 5.0], y=[0.1, 0.1, 0.0]).tolist()  # the last point is outside
        [4, 5, -1]
    """

    def __init__(self, r_edges: npt.ArrayLike, num_alpha: int) -> None:
        self.r_edges = _ascending("r_edges", r_edges)
        if self.r_edges[0] < 0:
            raise ValueError(f"r_edges: {format_value(r_edges)} was given, but a radius must be at least 0.")
        if isinstance(num_alpha, bool) or not isinstance(num_alpha, int | np.integer) or num_alpha < 1:
            raise ValueError(
                f"num_alpha: {format_value(num_alpha)} was given, but it must be a whole number of at least 1."
            )
        self.num_alpha = int(num_alpha)

    @property
    def shape(self) -> tuple[int, int]:
        """Number of cells (num_alpha, nr)."""
        return self.num_alpha, len(self.r_edges) - 1

    def cell(self, x: npt.ArrayLike, y: npt.ArrayLike) -> IntArray:
        """Return the cell of each point.

        Args:
            x: (points,) x of each point (length unit).
            y: (points,) y of each point (length unit).

        Returns:
            (points,) int64, cell numbers in row-major order; -1 for points outside.
        """
        x, y = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
        turn = (np.arctan2(y, x) + np.pi) / (2 * np.pi)
        step = np.minimum((turn * self.num_alpha).astype(np.int64), self.num_alpha - 1)
        ring = _interval(self.r_edges, np.hypot(x, y))
        return np.where(ring < 0, -1, step * self.shape[1] + ring)

    def centres(self) -> tuple[FloatArray, FloatArray]:
        """Return the centre of each cell.

        Returns:
            x and y of the centres, each (cells,) float64 (length unit).
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


def energy_in_cells(
    group: npt.NDArray[Any], cell: npt.NDArray[Any], energy: npt.NDArray[Any], num_groups: int, num_cells: int
) -> FloatArray:
    """Sum the energies of hits by group and cell.

    Args:
        group: (hits,) group of each hit.
        cell: (hits,) cell of each hit; hits with a negative cell are ignored.
        energy: (hits,) energy of each hit.
        num_groups: Number of groups.
        num_cells: Number of cells.

    Returns:
        (num_groups, num_cells) float64, sums in the unit of the energies.
    """
    inside = cell >= 0
    place = group[inside] * num_cells + cell[inside]
    sums = np.bincount(place, weights=energy[inside], minlength=num_groups * num_cells)
    return sums.astype(np.float64).reshape(num_groups, num_cells)


def _ascending(name: str, given: npt.ArrayLike) -> FloatArray:
    values = array(name, given)
    edges = values.astype(np.float64) if is_real(values) else np.empty(0)
    if edges.ndim != 1 or len(edges) < 2 or not np.isfinite(edges).all() or not (np.diff(edges) > 0).all():
        raise ValueError(f"{name}: {format_value(given)} was given, but it must be 2 or more ascending numbers.")
    edges.flags.writeable = False
    return edges


def _interval(edges: FloatArray, values: npt.ArrayLike) -> IntArray:
    """Return the interval of each value, or -1 for values outside."""
    values = np.asarray(values)
    number = np.searchsorted(edges, values, side="right") - 1 - (values == edges[-1])
    return np.where(number < len(edges) - 1, number, -1).astype(np.int64)


def _middle(edges: FloatArray) -> FloatArray:
    return np.asarray((edges[1:] + edges[:-1]) / 2)
