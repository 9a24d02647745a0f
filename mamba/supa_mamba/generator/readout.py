"""Slices in which the hits of a shower can be."""

import numpy as np

from supa import ShowerConfig
from supa.physics import NO_LAYER, layer_of_any_slice


def readout_slices(config: ShowerConfig) -> list[int]:
    """Return the slices of the readout layers of a config.

    Args:
        config: The config.

    Returns:
        The slices in ascending order.
    """
    return np.flatnonzero(layer_of_any_slice(config) != NO_LAYER).tolist()
