"""Orders of hits: by depth and energy, or by a walk through the tree."""

from typing import Any

import numpy as np

from supa import Showers
from supa.arrays import Array, IntArray
from supa.compiler import kernel
from supa.physics import STOP

_LONG = 64
"""Number of hits of a slice above which a merge sort is faster than an insertion sort."""


def by_depth(showers: Showers) -> IntArray:
    """Order hits by slice (by layer if the slice is unknown), and within a slice by descending energy.

    Args:
        showers: The showers.

    Returns:
        (hits,) int64 rows of the hits, shower by shower.
    """
    order = np.arange(showers.hits.num_rows)
    if _sort_slices(showers.offset, showers.layer, showers.slice, showers.energy, order):
        return order
    # The caller built the showers itself, or the layers of the config are not in the order of the slices.
    return np.lexsort((-showers.energy, showers.slice, showers.layer, showers.hits.group_of_row()))


@kernel
def _sort_slices(offset: IntArray, layer: Array, slice_: Array, energy: Any, order: IntArray) -> bool:
    """Order the hits of each slice by descending energy; return False if the slices themselves are not in order."""
    for shower in range(len(offset) - 1):
        begin, stop = offset[shower], offset[shower + 1]
        while begin < stop:
            end = begin + 1
            while end < stop and layer[end] == layer[begin] and slice_[end] == slice_[begin]:
                end += 1
            if end < stop and (layer[end], slice_[end]) < (layer[begin], slice_[begin]):
                return False
            if end - begin > _LONG:
                order[begin:end] = begin + np.argsort(-energy[begin:end], kind="mergesort")
            else:
                for i in range(begin + 1, end):  # insertion sort
                    place = i
                    while place > begin and energy[order[place - 1]] < energy[i]:
                        order[place] = order[place - 1]
                        place -= 1
                    order[place] = i
            begin = end
    return True


def along_tree(showers: Showers) -> IntArray:
    """Order hits by a depth-first walk through the tree, with children in the order of their creation.

    Args:
        showers: Showers with recorded particles.

    Returns:
        (hits,) int64 rows of the hits, shower by shower.
    """
    particles = showers.particles
    assert particles is not None
    order = np.empty(showers.hits.num_rows, dtype=np.int64)
    _walk(particles["parent"], particles["fate"], particles.offset, showers.offset, order)
    return order


@kernel
def _walk(parent: Array, fate: Array, offset: IntArray, hit_offset: IntArray, order: IntArray) -> None:
    most = 0
    for shower in range(len(offset) - 1):
        most = max(most, offset[shower + 1] - offset[shower])
    leaves = np.empty(most, dtype=np.int64)
    place = np.empty(most, dtype=np.int64)
    for shower in range(len(offset) - 1):
        first, count = offset[shower], offset[shower + 1] - offset[shower]
        # Children follow their parents, so a backward pass completes the count of each child before its parent's.
        leaves[:count] = 0
        for i in range(count - 1, -1, -1):
            if fate[first + i] == STOP:
                leaves[i] += 1
            if parent[first + i] >= 0:
                leaves[parent[first + i]] += leaves[i]
        start = hit_offset[shower]
        hit = start
        for i in range(count):
            above = parent[first + i]
            if above < 0:
                place[i] = start
                start += leaves[i]
            else:
                place[i] = place[above]
                place[above] += leaves[i]
            if fate[first + i] == STOP:
                order[place[i]] = hit
                hit += 1
