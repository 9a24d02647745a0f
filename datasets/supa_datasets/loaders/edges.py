"""Edges between the points of a shower: nearest neighbours, neighbours within a radius, or the true tree.

The points of a shower are ordered by depth. The search therefore starts at a point and moves up and down in depth. It
ends when the difference in depth alone exceeds the distance of the neighbours found so far. The result is exact,
although most pairs are never compared.
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
    """Edges to each hit from its k nearest neighbours in (x, y, z), for `GraphDataset`.

    Args:
        k: Number of neighbours, 1 to 1000. In a shower with at most k hits, each hit is connected to all others.

    Raises:
        ValueError: If ``k`` is not an integer from 1 to 1000.

    Example:
        >>> import supa
        >>> from supa_datasets import GraphDataset, Nearest
        >>> showers = supa.simulate(10, "standard", seed=1)
        >>> graph = GraphDataset(showers, edges=Nearest(3))[0]
        >>> graph.num_nodes, graph.num_edges
        (57, 171)
    """

    k: int = 8

    def __post_init__(self) -> None:
        check_int(1, 1000, "k", self.k)


@dataclass(frozen=True)
class Within:
    """Edges to each hit from all other hits within a radius in (x, y, z), for `GraphDataset`.

    Args:
        radius: Largest distance (length unit); above 0.

    Raises:
        ValueError: If ``radius`` is not a positive number.

    Example:
        >>> import supa
        >>> from supa_datasets import GraphDataset, Within
        >>> showers = supa.simulate(10, "standard", seed=1)
        >>> graph = GraphDataset(showers, edges=Within(2.0))[0]
        >>> bool((graph.edge_attr[:, 3] <= 2.0).all())
        True
    """

    radius: float

    def __post_init__(self) -> None:
        check_real(lambda r: r > 0, "above 0", "radius", self.radius)


@dataclass(frozen=True)
class Tree:
    """The true tree as a graph, for `GraphDataset`: nodes are all particles, edges point from parent to child.

    The showers must contain recorded particles (``record="particles"``).

    Example:
        >>> import supa
        >>> from supa_datasets import GraphDataset, Tree
        >>> showers = supa.simulate(10, "standard", seed=1, record="particles")
        >>> graph = GraphDataset(showers, edges=Tree())[0]
        >>> graph.num_nodes, graph.num_edges
        (150, 149)
    """


Positions: TypeAlias = npt.NDArray[np.float32]
Edges: TypeAlias = Nearest | Within | Tree


def edges_of(kind: Edges, points: Ragged, position: Positions) -> tuple[IntArray, npt.NDArray[np.float32], IntArray]:
    """Compute the edges of several showers.

    Args:
        kind: The kind of edges.
        points: The points of the showers.
        position: (points, 3) float32 x, y and z of each point; z ascends within each shower.

    Returns:
        Three arrays: (edges, 2) int64 source and target, numbered within their shower; (edges, 4) float32 position of
        the target minus that of the source, and their distance; and (showers + 1,) int64 offsets of the edges. The
        edges are ordered by target, then by distance (Nearest) or source.

    Raises:
        ValueError: If the points of a shower are not ordered by depth.
    """
    downwards = np.diff(position[:, 2]) < 0
    begins = points.offset[1:-1]
    downwards[begins[(begins > 0) & (begins < points.num_rows)] - 1] = False
    if downwards.any():
        raise ValueError("The hits of each shower must be ordered by slice, as in a shower file.")
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
                # Compare the point that is closer in depth first, so that the search ends early.
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
                # Break ties between equal distances by number, so that the result does not depend on the search order.
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
