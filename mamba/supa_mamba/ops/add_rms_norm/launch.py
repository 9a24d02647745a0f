"""Launch of the Triton kernels of the sum and its norm, without host-device synchronisation."""

import torch
from torch import Tensor

from supa_mamba.ops import row_tiles
from supa_mamba.ops.add_rms_norm import kernels
from supa_mamba.ops.add_rms_norm.inputs import AddNormGradientOptions, AddNormGradients, AddNormInputs, AddNormOptions
from supa_mamba.ops.kernel_inputs import triton_dtype, with_unit_stride


def forward(inputs: AddNormInputs, options: AddNormOptions) -> tuple[Tensor, Tensor]:
    """Add and normalise rows. The sum is empty without an update."""
    residual, update, weight = inputs
    rows, width = residual.shape
    residual = with_unit_stride(residual)
    update = None if update is None else with_unit_stride(update)
    y, total = torch.empty(rows, width, dtype=options.dtype, device=residual.device), inputs.new_sum()
    tile = row_tiles.row_tile(width)
    programs = row_tiles.forward_programs(rows, tile)
    if programs:
        kernels.add_norm_forward_kernel[(programs,)](
            residual, update, weight.contiguous(), y, total, rows,
            RESIDUAL_STRIDE=residual.stride(0), UPDATE_STRIDE=0 if update is None else update.stride(0), WIDTH=width,
            EPS=options.eps, ROWS=tile.rows, BLOCK=tile.columns, DTYPE=triton_dtype(weight), num_warps=tile.warps,
        )  # fmt: skip
    return y, total


def backward(given: AddNormGradients, options: AddNormGradientOptions) -> tuple[Tensor, Tensor, Tensor]:
    """Compute the gradients of residual, update and weight."""
    rows, width = given.sum.shape
    y_grad, total, weight = with_unit_stride(given.y_grad), with_unit_stride(given.sum), given.weight
    sum_grad = None if given.sum_grad is None else with_unit_stride(given.sum_grad)
    grad = torch.empty(rows, width, dtype=total.dtype, device=total.device)
    update_grad = options.new_update_grad(total)
    tile = row_tiles.row_tile(width)
    programs = row_tiles.backward_programs(rows)
    weight_partial = weight.new_empty(programs, width)
    if programs:
        kernels.add_norm_backward_kernel[(programs,)](
            y_grad, sum_grad, total, weight.contiguous(),
            grad, update_grad if update_grad.shape == grad.shape else None, weight_partial, rows,
            Y_GRAD_STRIDE=y_grad.stride(0), SUM_GRAD_STRIDE=0 if sum_grad is None else sum_grad.stride(0),
            SUM_STRIDE=total.stride(0), WIDTH=width, EPS=options.eps, ROWS=tile.rows, BLOCK=tile.columns,
            DTYPE=triton_dtype(weight), num_warps=tile.warps,
        )  # fmt: skip
    return grad, update_grad, weight_partial.sum(0)
