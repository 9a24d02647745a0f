"""Norm with a gate in operations of PyTorch, whose derivatives of every order autograd records."""

from torch import Tensor
from torch.nn import functional

from supa_mamba.ops.dtypes import cast
from supa_mamba.ops.gated_rms_norm.inputs import GatedNormInputs, GatedNormOptions


def forward(inputs: GatedNormInputs, options: GatedNormOptions) -> Tensor:
    """Apply gate and norm."""
    x, gate, weight = inputs
    groups, eps, norm_before_gate = options
    rows, channels = x.shape
    factor = functional.silu(cast(gate, weight.dtype))
    given = cast(x, weight.dtype) if norm_before_gate else cast(x, weight.dtype) * factor
    grouped = given.reshape(rows, groups, channels // groups)
    y = functional.rms_norm(grouped, grouped.shape[2:], eps=eps).flatten(1) * weight
    return cast(y * factor if norm_before_gate else y, x.dtype)
