"""Choice of cells for the image of one layer."""

import itertools
import math

import numpy as np

from supa.arrays import FloatArray
from supa.cells import Cartesian, Cells, Polar
from supa.showers import Showers

_MOST_CELLS = 256  # along an axis, or number of rings
_MOST_ANGLES = 128
_FEWEST_PLACES = 4
_TOLERANCE = 1e-3  # in units of a cell, since files store float32
_SQUARES = 60  # approximate number along an axis


def image_cells(showers: Showers, layer: int) -> Cells:
    """Choose cells for the image of a layer.

    Args:
        showers: The showers.
        layer: Index of the readout layer.

    Returns:
        Rectangular or polar cells if every hit lies at the centre of one, as in data of a segmented detector; else
        squares that contain almost all hits.
    """
    chosen = showers.layer == layer
    x, y = (np.asarray(column[chosen], dtype=np.float64) for column in (showers.x, showers.y))
    return _rectangles(x, y) or _rings(x, y) or _squares(x, y)


def _rectangles(x: FloatArray, y: FloatArray) -> Cartesian | None:
    x_edges, y_edges = _regular_edges(np.unique(x)), _regular_edges(np.unique(y))
    return None if x_edges is None or y_edges is None else Cartesian(x_edges, y_edges)


def _regular_edges(centres: FloatArray) -> FloatArray | None:
    """Return the edges of equal cells, or None if the centres do not fit equal cells; cells may be missing."""
    if len(centres) < 3:
        return None
    width = np.diff(centres).min()
    places = (centres - centres[0]) / width
    if places[-1] >= _MOST_CELLS or (np.abs(places - places.round()) > _TOLERANCE).any():
        return None
    width = (centres[-1] - centres[0]) / places[-1].round()
    return np.asarray(centres[0] + width * (np.arange(places[-1].round() + 2) - 0.5))


def _rings(x: FloatArray, y: FloatArray) -> Polar | None:
    radius = np.hypot(x, y)
    if len(np.unique(np.stack([x, y]), axis=1).T) < _FEWEST_PLACES or not radius.min() > 0:
        return None
    ordered = np.sort(radius)
    centres = ordered[np.concatenate([[True], np.diff(ordered) > 1e-5 * ordered[1:]])]
    turn = (np.unique(np.arctan2(y, x).astype(np.float32)) + np.pi) / (2 * np.pi)
    for angles in range(1, _MOST_ANGLES + 1):
        place = turn * angles - 0.5
        if (np.abs(place - place.round()) < _TOLERANCE).all():
            return Polar(_ring_edges(centres), angles) if len(centres) <= min(_MOST_CELLS, len(x) // 2) else None
    return None


def _ring_edges(centres: FloatArray) -> FloatArray:
    """Return the edges of rings with these middles; exact if the first ring starts at the axis and none is missing."""
    edges = [0.0]
    for centre in centres:
        edges.append(2 * centre - edges[-1])
    if all(a < b for a, b in itertools.pairwise(edges)):
        return np.array(edges)
    between = (centres[1:] + centres[:-1]) / 2
    return np.concatenate([[0.0], between, [2 * centres[-1] - between[-1]]])


def _squares(x: FloatArray, y: FloatArray) -> Cartesian:
    """Return squares that contain almost all hits; their width is 1, 2 or 5 times a power of ten."""
    if not len(x):
        return Cartesian([-1, 1], [-1, 1])
    ends = [np.quantile(values, [0.0025, 0.9975]) for values in (x, y)]
    span = max(high - low for low, high in ends) or max(1.0, *(abs(low) for low, _ in ends))
    width = _round_up(1.1 * span / _SQUARES)

    def edges(ends: FloatArray) -> FloatArray:
        middle = float(np.mean(ends))
        first, last = math.floor((middle - 0.55 * span) / width), math.ceil((middle + 0.55 * span) / width)
        return np.asarray(width * np.arange(first, last + 1))

    return Cartesian(edges(ends[0]), edges(ends[1]))


def _round_up(width: float) -> float:
    place = 10.0 ** math.floor(math.log10(width))
    return next(step * place for step in (1, 2, 5, 10) if step * place >= width)
