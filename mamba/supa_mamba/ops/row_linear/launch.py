"""Launch of the Triton kernel of a linear layer, without host-device synchronisation."""

import torch
from torch import Tensor

from supa_mamba.ops.kernel_inputs import contiguous, with_unit_stride
from supa_mamba.ops.row_linear import kernels

ROWS = 64
"""Rows of a tile. If the sizes of a tile depended on the number of rows, so would the bits of a row."""


def tile(outputs: int) -> tuple[int, int]:
    """Return the numbers of outputs and features of a tile: narrow ones, so that there are enough of them."""
    return (64, 32) if outputs > 512 else (32, 64)


def multiply(x: Tensor, weight: Tensor, bias: Tensor | None, use_silu: bool) -> Tensor:
    """Multiply rows by a matrix, add a bias, and apply an activation."""
    (rows, features), outputs = x.shape, weight.shape[0]
    y = torch.empty(rows, outputs, dtype=x.dtype, device=x.device)
    columns, depth = tile(outputs)
    programs = -(-rows // ROWS) * -(-outputs // columns)
    if programs:
        x = with_unit_stride(x)
        kernels.linear_kernel[(programs,)](
            x, weight.contiguous(), contiguous(bias), y, x.stride(0), rows,
            INPUTS=features, OUTPUTS=outputs, SILU=use_silu, ROWS=ROWS, COLUMNS=columns, FEATURES=depth,
            num_warps=4, num_stages=3,
        )  # fmt: skip
    return y
