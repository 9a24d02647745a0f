"""Norm with a gate on a CPU, with PyTorch's norm."""

from torch import Tensor
from torch.nn import functional

from supa_mamba.ops.dtypes import cast
from supa_mamba.ops.gated_rms_norm.inputs import GatedNormInputs, GatedNormOptions
from supa_mamba.ops.vjp import vjp


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


def backward(y_grad: Tensor, inputs: GatedNormInputs, options: GatedNormOptions) -> tuple[Tensor | None, ...]:
    """Compute the gradients of x, gate and weight for the custom operator."""
    again = lambda *x: (forward(GatedNormInputs(*x), options),)  # noqa: E731
    return vjp(again, inputs, (y_grad,))
