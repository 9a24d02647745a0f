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
    inputs, y_grad = _readable(inputs), with_unit_stride(y_grad)
    x, gate, weight = inputs
    rows, channels = x.shape
    x_grad, gate_grad = (torch.empty(rows, channels, dtype=v.dtype, device=v.device) for v in (x, gate))
    tile = row_tiles.row_tile(channels // options.groups)
    programs = row_tiles.backward_programs(rows, options.groups)
    weight_partial = weight.new_empty(programs, channels)
    if programs:
        kernels.gated_norm_backward_kernel[(programs, options.groups)](
            y_grad, *inputs, x_grad, gate_grad, weight_partial, rows,
            Y_GRAD_STRIDE=y_grad.stride(0), **_constants(inputs, options, tile),
        )  # fmt: skip
    return x_grad, gate_grad, weight_partial.sum(0)
