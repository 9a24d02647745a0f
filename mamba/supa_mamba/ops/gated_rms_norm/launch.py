"""Launch of the Triton kernels of the norm with a gate, without host-device synchronisation."""

from typing import Any

import torch
from torch import Tensor

from supa_mamba.ops import row_tiles
from supa_mamba.ops.gated_rms_norm import kernels
from supa_mamba.ops.gated_rms_norm.inputs import GatedNormInputs, GatedNormOptions
from supa_mamba.ops.kernel_inputs import triton_dtype, with_unit_stride


def _constants(inputs: GatedNormInputs, options: GatedNormOptions, tile: row_tiles.RowTile) -> dict[str, Any]:
    channels = inputs.x.shape[1]
    return {
        "X_STRIDE": inputs.x.stride(0), "GATE_STRIDE": inputs.gate.stride(0), "CHANNELS": channels,
        "WIDTH": channels // options.groups, "EPS": options.eps, "NORM_FIRST": options.norm_before_gate,
        "ROWS": tile.rows, "BLOCK": tile.columns, "DTYPE": triton_dtype(inputs.weight), "num_warps": tile.warps,
    }  # fmt: skip


def _readable(inputs: GatedNormInputs) -> GatedNormInputs:
    return GatedNormInputs(with_unit_stride(inputs.x), with_unit_stride(inputs.gate), inputs.weight.contiguous())


def forward(inputs: GatedNormInputs, options: GatedNormOptions) -> Tensor:
    """Apply gate and norm."""
    inputs = _readable(inputs)
    rows, channels = inputs.x.shape
    y = torch.empty(rows, channels, dtype=inputs.x.dtype, device=inputs.x.device)
    tile = row_tiles.row_tile(channels // options.groups)
    if programs := row_tiles.forward_programs(rows, tile):
        constants = _constants(inputs, options, tile)
        kernels.gated_norm_forward_kernel[(programs, options.groups)](*inputs, y, rows, **constants)
    return y


def backward(y_grad: Tensor, inputs: GatedNormInputs, options: GatedNormOptions) -> tuple[Tensor, Tensor, Tensor]:
    """Compute the gradients of x, gate and weight."""
    x_grad, gate_grad = (torch.empty(v.shape, dtype=v.dtype, device=v.device) for v in (inputs.x, inputs.gate))
    return x_grad, gate_grad, backward_into(x_grad, gate_grad, y_grad, inputs, options)


def backward_into(
    x_grad: Tensor, gate_grad: Tensor, y_grad: Tensor, inputs: GatedNormInputs, options: GatedNormOptions
) -> Tensor:
    """Compute the gradients, and write those of x and gate into given tensors.

    Args:
        x_grad: (T, C) contiguous tensor for the gradient of x.
        gate_grad: (T, C) tensor for the gradient of the gate, whose last dimension has stride 1.
        y_grad: (T, C) gradient of y.
        inputs: Inputs of the norm.
        options: Options of the norm.

    Returns:
        (C,) gradient of the weight.
    """
    inputs, y_grad = _readable(inputs), with_unit_stride(y_grad)
    weight = inputs.weight
    rows, channels = inputs.x.shape
    tile = row_tiles.row_tile(channels // options.groups, prefetched=True)
    programs = row_tiles.backward_programs(rows, options.groups)
    weight_partial = weight.new_empty(programs, channels)
    if programs:
        kernels.gated_norm_backward_kernel[(programs, options.groups)](
            y_grad, *inputs, x_grad, gate_grad, weight_partial, rows,
            Y_GRAD_STRIDE=y_grad.stride(0), GATE_GRAD_STRIDE=gate_grad.stride(0), **_constants(inputs, options, tile),
        )  # fmt: skip
    return weight_partial.sum(0)
