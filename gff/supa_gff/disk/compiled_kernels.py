"""Compiled loops over the edges of a graph on disk.

All sums are added in the order of the sources, so the results depend neither on the blocks nor on the threads.
"""

import numpy as np
import numpy.typing as npt

from supa.arrays import IntArray
from supa.compiler import kernel


@kernel
def add_neighbours(
    x: npt.NDArray[np.float32],
    sources: IntArray,
    offset: IntArray,
    position: IntArray,
    scale: npt.NDArray[np.float32],
    skip_loops: bool,
    first: int,
    last: int,
    start: int,
    source_end: int,
    total: npt.NDArray[np.float32],
) -> None:
    """Add the rows of the sources below ``source_end`` to the sums of the nodes ``start + first .. start + last``.

    ``position`` has the next edge of each row and is moved on. An empty ``scale`` means that all weights are 1.
    """
    channels = x.shape[1]
    for row in range(first, last):
        node = start + row
        edge, end = position[row], offset[node + 1]
        while edge < end and sources[edge] < source_end:
            source = sources[edge]
            if not (skip_loops and source == node):
                if len(scale) > 0:
                    weight = scale[source]
                    for channel in range(channels):
                        total[row, channel] += x[source, channel] * weight
                else:
                    for channel in range(channels):
                        total[row, channel] += x[source, channel]
            edge += 1
        position[row] = edge


@kernel
def count_other_sources(sources: IntArray, offset: IntArray, first: int, last: int, counts: IntArray) -> None:
    """Count the edges of the nodes ``first .. last`` that are no self-loops."""
    for node in range(first, last):
        count = 0
        for edge in range(offset[node], offset[node + 1]):
            count += sources[edge] != node
        counts[node - first] = count
