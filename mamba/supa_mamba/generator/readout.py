"""Slices in which the hits of a shower can be."""

from typing import Any

import torch
from torch import Tensor

from supa_mamba.generator.coding import HitCoding


def slice_order(coding: HitCoding, device: Any) -> Tensor:
    """Return the numbers of the slices that belong to a readout layer.

    Args:
        coding: Conversion of showers into sequences.
        device: Device of the result.

    Returns:
        (slices,) int64 number of each slice, from 0 for the first slice of the readout layers, or -1 for a slice that
        belongs to no layer.
    """
    order = [s if s + coding.slices[0] in coding.slices else -1 for s in range(coding.num_slices)]
    return torch.tensor(order, device=device)


def slices_of_configs(coding: HitCoding, device: Any) -> Tensor | None:
    """Return the slices of the readout layers of each training config.

    Args:
        coding: Conversion of showers into sequences.
        device: Device of the result.

    Returns:
        (configs, slices) float32 indicators of the slices, or None if all configs have the same.
    """
    configs = coding.conditions.configs
    if len({config.readout_layers for config in configs}) == 1:
        return None
    slices = range(coding.slices[0], coding.slices[-1] + 1)
    rows = [[any(a <= s <= b for a, b in config.readout_layers) for s in slices] for config in configs]
    return torch.tensor(rows, dtype=torch.float32, device=device)
