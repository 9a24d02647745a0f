"""Edges between the points of a shower: nearest neighbours, all within a radius, or the true tree.

The points of a shower are ordered by depth. So from a point the search goes up and down in depth, and ends where the
depth alone is farther than what was found: the result is exact, and most pairs are never looked at.
"""

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from supa import Ragged
from supa.arrays import FloatArray, IntArray
from supa.checks import number, whole
from supa.compiler import kernel


@dataclass(frozen=True)
class Nearest:
    """Edges to each hit from its k nearest neighbours in (x, y, z).

    Args:
        k: how many; a shower of fewer hits gives all of its other hits.
    """

    k: int = 8

    def __post_init__(self) -> None:
        whole(1, 1000, "k", self.k)


@dataclass(frozen=True)
class Within:
    """Edges to each hit from every other one within a radius in (x, y, z).

    Args:
        radius: length unit.
    """

    radius: float

    def __post_init__(self) -> None:
        number(lambda r: r > 0, "above 0", "radius", self.radius)


@dataclass(frozen=True)
class Tree:
    """The true tree: the points are all particles, the edges go from parent to child."""


Edges: TypeAlias = Nearest | Within | Tree


def edges_of(kind: Edges, points: Ragged, position: FloatArray) -> tuple[IntArray, IntArray]:
    """Compute the edges of some showers.

    Args:
        kind: which edges.
        points: the showers' points.
        position: (points, 3) float64 x, y and z of each point, z ascending in every shower.

    Returns:
        (2, edges) int64, source and target as numbers in their own shower; and the offsets of the showers' edges,
        (showers + 1,) int64. Edges are ordered by target, then by distance (Nearest) or source.

    Raises:
        ValueError: the points of a shower are not ordered by depth.
    """
    steps = np.diff(position[:, 2]) < 0
    steps[points.offset[1:-1][(points.offset[1:-1] > 0) & (points.offset[1:-1] < points.num_rows)] - 1] = False
    if steps.any():
        raise ValueError("The hits of a shower are not ordered by slice, as those of a shower file are.")
    if isinstance(kind, Nearest):
        fewer = np.minimum(points.counts - 1, kind.k) * points.counts
        offset = np.concatenate([[0], np.cumsum(np.maximum(fewer, 0))])
        edges = np.empty((2, int(offset[-1])), dtype=np.int64)
        _nearest(position, points.offset, kind.k, offset, edges)
        return edges, offset
    if isinstance(kind, Within):
        degree = np.zeros(points.num_rows, dtype=np.int64)
        _count_within(position, points.offset, kind.radius, degree)
        place = np.concatenate([[0], np.cumsum(degree)])
        edges = np.empty((2, int(place[-1])), dtype=np.int64)
        _fill_within(position, points.offset, kind.radius, place, edges)
        return edges, place[points.offset]
    parent: npt.NDArray[np.int32] = points["parent"]  # type: ignore[assignment]
    child = np.flatnonzero(parent >= 0)
    shower = points.group_of_row()[child]
    edges = np.stack([parent[child].astype(np.int64), child - points.offset[shower]])
    return edges, np.concatenate([[0], np.cumsum(np.bincount(shower, minlength=len(points)))])


@kernel
def _nearest(position: FloatArray, offset: IntArray, k: int, place: IntArray, edges: IntArray) -> None:
    best = np.empty(k)
    who = np.empty(k, dtype=np.int64)
    for shower in range(len(offset) - 1):
        first, last = offset[shower], offset[shower + 1]
        most = min(k, last - first - 1)
        out = place[shower]
        for i in range(first, last):
            found = 0
            up, down = i + 1, i - 1
            while most > 0 and (up < last or down >= first):
                # The nearer in depth is looked at first, so that the search ends early.
                above = position[up, 2] - position[i, 2] if up < last else np.inf
                below = position[i, 2] - position[down, 2] if down >= first else np.inf
                depth = min(above, below)
                if found == most and depth * depth > best[most - 1]:
                    break
                if above <= below:
                    j = up
                    up += 1
                else:
                    j = down
                    down -= 1
                dx, dy = position[j, 0] - position[i, 0], position[j, 1] - position[i, 1]
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
                edges[0, out] = who[n] - first
                edges[1, out] = i - first
                out += 1


@kernel
def _count_within(position: FloatArray, offset: IntArray, radius: float, degree: IntArray) -> None:
    limit = radius * radius
    for shower in range(len(offset) - 1):
        for i in range(offset[shower], offset[shower + 1]):
            for j in range(i + 1, offset[shower + 1]):
                dz = position[j, 2] - position[i, 2]
                if dz > radius:
                    break
                dx, dy = position[j, 0] - position[i, 0], position[j, 1] - position[i, 1]
                if dx * dx + dy * dy + dz * dz <= limit:
                    degree[i] += 1
                    degree[j] += 1


@kernel
def _fill_within(position: FloatArray, offset: IntArray, radius: float, place: IntArray, edges: IntArray) -> None:
    limit = radius * radius
    filled = place.copy()
    for shower in range(len(offset) - 1):
        first = offset[shower]
        for i in range(first, offset[shower + 1]):
            for j in range(i + 1, offset[shower + 1]):
                dz = position[j, 2] - position[i, 2]
                if dz > radius:
                    break
                dx, dy = position[j, 0] - position[i, 0], position[j, 1] - position[i, 1]
                if dx * dx + dy * dy + dz * dz <= limit:
                    edges[0, filled[i]], edges[1, filled[i]] = j - first, i - first
                    edges[0, filled[j]], edges[1, filled[j]] = i - first, j - first
                    filled[i] += 1
                    filled[j] += 1
