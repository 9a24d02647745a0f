"""Encoding of data in figures of single showers: colours of layers, depths of hits, and the scale of energies."""

import math

import numpy as np

from supa.arrays import FloatArray, IntArray
from supa.config import ShowerConfig

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
"""The palette of Okabe and Ito, whose colours colour-blind readers can distinguish."""


def drawn_depth(z: FloatArray, layer: IntArray, config: ShowerConfig) -> FloatArray:
    """Return the depth at which each hit is drawn.

    Args:
        z: (hits,) depth in the length unit, NaN if unknown.
        layer: (hits,) readout layer.
        config: Config of the showers.

    Returns:
        (hits,) depth; the middle of the layer if it is unknown.
    """
    middle = config.slice_spacing * np.mean(config.readout_layers, axis=1)
    return np.where(np.isnan(z), middle[layer], z)


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
