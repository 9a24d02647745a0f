"""Positions of hits and scales of energies, for figures of single showers."""

import math

import numpy as np

from supa.arrays import FloatArray, IntArray
from supa.physics import UNKNOWN_SLICE
from supa.showers import Showers


def hit_depths(showers: Showers) -> FloatArray:
    """Return the depth at which each hit is drawn.

    Args:
        showers: The showers.

    Returns:
        (hits,) depth in the length unit; the middle of the layer for hits of imported showers without a slice.
    """
    middle = showers.config.slice_spacing * np.mean(showers.config.readout_layers, axis=1)
    z = showers.z
    return np.where(np.isnan(z), middle[showers.layer], z)


def hit_slices(showers: Showers) -> IntArray:
    """Return the slice at which each hit is drawn.

    Args:
        showers: The showers.

    Returns:
        (hits,) int64 slice; the middle of the layer for hits of imported showers without a slice.
    """
    middle = np.array([(first + last) // 2 for first, last in showers.config.readout_layers])
    return np.where(showers.slice == UNKNOWN_SLICE, middle[showers.layer], showers.slice).astype(np.int64)


def relative_log(energy: FloatArray, largest: float) -> FloatArray:
    """Map energies to a logarithmic scale.

    Args:
        energy: Energies.
        largest: The energy that becomes 1, in the same unit.

    Returns:
        Numbers from 0 (a thousandth of the largest energy, or less) to 1.
    """
    if not largest > 0:
        return np.zeros(len(energy))
    return np.asarray(np.clip(1 + np.log10(np.maximum(energy / largest, 1e-3)) / 3, 0, 1))


def energy_decades(largest: float) -> list[float]:
    """Return energies whose markers explain a logarithmic scale in a legend.

    Args:
        largest: The largest energy of the figure, above 0.

    Returns:
        Three powers of ten, in the same unit, the largest first.
    """
    decade = 10.0 ** math.floor(math.log10(largest) + 1e-9)
    return [decade, decade / 10, decade / 100]
