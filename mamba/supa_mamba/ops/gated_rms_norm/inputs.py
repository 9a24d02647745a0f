"""Inputs of the backends of the norm with a gate."""

from typing import NamedTuple

from torch import Tensor


class GatedNormInputs(NamedTuple):
    """Tensors of `gated_rms_norm`.

    Args:
        x: (T, C) rows.
        gate: (T, C) gate before SiLU, usually a view of a wider tensor.
        weight: (C,) weight in the precision of sums.
    """

    x: Tensor
    gate: Tensor
    weight: Tensor


class GatedNormOptions(NamedTuple):
    """Options of `gated_rms_norm`.

    Args:
        groups: Number of groups of channels of equal size.
        eps: Value added to the mean square.
        norm_before_gate: Whether to apply the gate after the norm instead of before it.
    """

    groups: int
    eps: float
    norm_before_gate: bool
