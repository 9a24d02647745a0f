"""Edges between the points of a shower: nearest neighbours, all within a radius, or the true tree.

The points of a shower are ordered by depth. So from a point the search goes up and down in depth, and ends where the
depth alone is farther than what was found: the result is exact, and most pairs are never looked at.
"""

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from supa import Ragged
from supa.arrays import IntArray
from supa.checks import check_int, check_real
from supa.compiler import kernel
from supa.ragged import counts_to_offsets


@dataclass(frozen=True)
class Nearest:
    """Edges to each hit from its k nearest neighbours in (x, y, z).

    Args:
        k: how many; a shower of fewer hits gives all of its other hits.
    """

    k: int = 8

    def __post_init__(self) -> None:
        check_int(1, 1000, "k", self.k)


@dataclass(frozen=True)
class Within:
    """Edges to each hit from every other one within a radius in (x, y, z).

    Args:
        radius: length unit.
    """

    radius: float

    def __post_init__(self) -> None:
        check_real(lambda r: r > 0, "above 0", "radius", self.radius)


@dataclass(frozen=True)
class Tree:
    """The true tree: the points are all particles, the edges go from parent to child."""


Positions: TypeAlias = npt.NDArray[np.float32]
Edges: TypeAlias = Nearest | Within | Tree


def edges_of(kind: Edges, points: Ragged, position: Positions) -> tuple[IntArray, npt.NDArray[np.float32], IntArray]:
    """Compute the edges of some showers.

    Args:
        kind: which edges.
        points: the showers' points.
        position: (points, 3) float32 x, y and z of each point, z ascending in every shower.

    Returns:
        (edges, 2) int64, source and target as numbers in their own shower; (edges, 4) float32, the target's position
        minus the source's, and their distance; and the offsets of the showers' edges, (showers + 1,) int64. Edges are
        ordered by target, then by distance (Nearest) or source.

    Raises:
        ValueError: the points of a shower are not ordered by depth.
    """
    downwards = np.diff(position[:, 2]) < 0
    begins = points.offset[1:-1]
    downwards[begins[(begins > 0) & (begins < points.num_rows)] - 1] = False
    if downwards.any():
        raise ValueError("The hits of a shower are not ordered by slice, as those of a shower file are.")
    if isinstance(kind, Nearest):
        offset = counts_to_offsets(np.maximum(np.minimum(points.counts - 1, kind.k), 0) * points.counts)
        edges = np.empty((offset[-1], 2), dtype=np.int64)
        _nearest(position, points.offset, kind.k, offset, edges)
    elif isinstance(kind, Within):
        degree = np.zeros(points.num_rows, dtype=np.int64)
        _count_within(position, points.offset, kind.radius, degree)
        place = counts_to_offsets(degree)
        offset = place[points.offset]
        edges = np.empty((offset[-1], 2), dtype=np.int64)
        _fill_within(position, points.offset, kind.radius, place, edges)
    else:
        parent: npt.NDArray[np.int32] = points["parent"]  # type: ignore[assignment]
        child = np.flatnonzero(parent >= 0)
        shower = points.group_of_row()[child]
        edges = np.column_stack([parent[child].astype(np.int64), child - points.offset[shower]])
        offset = counts_to_offsets(np.bincount(shower, minlength=len(points)))
    steps = np.empty((len(edges), 4), dtype=np.float32)
    _steps(position, points.offset, edges, offset, steps)
    return edges, steps, offset


@kernel
def _nearest(position: Positions, offset: IntArray, k: int, place: IntArray, edges: IntArray) -> None:
    best = np.empty(k)
    who = np.empty(k, dtype=np.int64)
    for shower in range(len(offset) - 1):
        first, last = offset[shower], offset[shower + 1]
        most = min(k, last - first - 1)
        out = place[shower]
        for i in range(first, last):
            x, y, z = np.float64(position[i, 0]), np.float64(position[i, 1]), np.float64(position[i, 2])
            found = 0
            up, down = i + 1, i - 1
            while most > 0 and (up < last or down >= first):
                # The nearer in depth is looked at first, so that the search ends early.
                above = np.float64(position[up, 2]) - z if up < last else np.inf
                below = z - position[down, 2] if down >= first else np.inf
                depth = min(above, below)
                if found == most and depth * depth > best[most - 1]:
                    break
                if above <= below:
                    j = up
                    up += 1
                else:
                    j = down
                    down -= 1
                dx, dy = position[j, 0] - x, position[j, 1] - y
                distance = dx * dx + dy * dy + depth * depth
                # Equal distances are ordered by number, so that the result does not depend on the search.
                if found < most:
                    slot = found
                    found += 1
                elif distance < best[most - 1] or (distance == best[most - 1] and j < who[most - 1]):
                    slot = most - 1
                else:
                    continue
                while slot > 0 and (best[slot - 1] > distance or (best[slot - 1] == distance and who[slot - 1] > j)):
                    best[slot], who[slot] = best[slot - 1], who[slot - 1]
                    slot -= 1
                best[slot], who[slot] = distance, j
            for n in range(found):
                edges[out, 0] = who[n] - first
                edges[out, 1] = i - first
                out += 1


@kernel
def _count_within(position: Positions, offset: IntArray, radius: float, degree: IntArray) -> None:
    limit = radius * radius
    for shower in range(len(offset) - 1):
        for i in range(offset[shower], offset[shower + 1]):
            x, y, z = np.float64(position[i, 0]), np.float64(position[i, 1]), np.float64(position[i, 2])
            for j in range(i + 1, offset[shower + 1]):
                dz = position[j, 2] - z
                if dz > radius:
                    break
                dx, dy = position[j, 0] - x, position[j, 1] - y
                if dx * dx + dy * dy + dz * dz <= limit:
                    degree[i] += 1
                    degree[j] += 1


@kernel
def _fill_within(position: Positions, offset: IntArray, radius: float, place: IntArray, edges: IntArray) -> None:
    limit = radius * radius
    filled = place.copy()
    for shower in range(len(offset) - 1):
        first = offset[shower]
        for i in range(first, offset[shower + 1]):
            x, y, z = np.float64(position[i, 0]), np.float64(position[i, 1]), np.float64(position[i, 2])
            for j in range(i + 1, offset[shower + 1]):
                dz = position[j, 2] - z
                if dz > radius:
                    break
                dx, dy = position[j, 0] - x, position[j, 1] - y
                if dx * dx + dy * dy + dz * dz <= limit:
                    edges[filled[i], 0], edges[filled[i], 1] = j - first, i - first
                    edges[filled[j], 0], edges[filled[j], 1] = i - first, j - first
                    filled[i] += 1
                    filled[j] += 1


@kernel
def _steps(
    position: Positions,
    offset: IntArray,
    edges: IntArray,
    edge_offset: IntArray,
    steps: npt.NDArray[np.float32],
) -> None:
    for shower in range(len(offset) - 1):
        for e in range(edge_offset[shower], edge_offset[shower + 1]):
            source, target = offset[shower] + edges[e, 0], offset[shower] + edges[e, 1]
            square = 0.0
            for axis in range(3):
                step = position[target, axis] - position[source, axis]
                steps[e, axis] = step
                square += step * step
            steps[e, 3] = np.sqrt(square)
