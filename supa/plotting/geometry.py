"""Positions at which figures draw the hits of showers."""

import numpy as np

from supa.arrays import FloatArray, IntArray
from supa.physics import UNKNOWN_SLICE
from supa.plotting.encoding import drawn_depth
from supa.showers import Showers


def hit_depths(showers: Showers) -> FloatArray:
    """Return the depth at which each hit is drawn.

    Args:
        showers: The showers.

    Returns:
        (hits,) depth in the length unit; the middle of the layer for hits of imported showers without a slice.
    """
    return drawn_depth(showers.z, showers.layer.astype(np.int64), showers.config)


def hit_slices(showers: Showers) -> IntArray:
    """Return the slice at which each hit is drawn.

    Args:
        showers: The showers.

    Returns:
        (hits,) int64 slice; the middle of the layer for hits of imported showers without a slice.
    """
    middle = np.array([(first + last) // 2 for first, last in showers.config.readout_layers])
    return np.where(showers.slice == UNKNOWN_SLICE, middle[showers.layer], showers.slice).astype(np.int64)
