"""Slices in which the hits of a shower can be."""

from collections.abc import Collection, Sequence

import numpy as np

from supa import ShowerConfig
from supa.arrays import IntArray
from supa.physics import NO_LAYER, layer_of_any_slice


def readout_slices(config: ShowerConfig) -> list[int]:
    """Return the slices of the readout layers of a config.

    Args:
        config: The config.

    Returns:
        The slices in ascending order.
    """
    return np.flatnonzero(layer_of_any_slice(config) != NO_LAYER).tolist()


def slice_order(coded: Sequence[int], slices: Collection[int]) -> IntArray:
    """Return the numbers of slices in a coding.

    Args:
        coded: Slices of the coding, in ascending order.
        slices: Slices that a hit can be in.

    Returns:
        int64 number, from 0, of each slice from the first to the last one of the coding, or -1 for a slice that no hit
        can be in.
    """
    first = coded[0]
    return np.array([s - first if s in slices else -1 for s in range(first, coded[-1] + 1)])
