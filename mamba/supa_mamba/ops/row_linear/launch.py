"""Launch of the Triton kernel of a linear layer, without host-device synchronisation."""

import torch
from torch import Tensor

from supa_mamba.ops.kernel_inputs import contiguous, with_unit_stride
from supa_mamba.ops.row_linear import kernels

ROWS, OUTPUTS, FEATURES = 64, 64, 32
"""Sizes of a tile. If they depended on the number of rows, so would the bits of a row."""


def multiply(x: Tensor, weight: Tensor, bias: Tensor | None, use_silu: bool) -> Tensor:
    """Multiply rows by a matrix, add a bias, and apply an activation."""
    (rows, features), outputs = x.shape, weight.shape[0]
    y = torch.empty(rows, outputs, dtype=x.dtype, device=x.device)
    programs = -(-rows // ROWS) * -(-outputs // OUTPUTS)
    if programs:
        x = with_unit_stride(x)
        kernels.linear_kernel[(programs,)](
            x, weight.contiguous(), contiguous(bias), y, x.stride(0), rows,
            INPUTS=features, OUTPUTS=outputs, SILU=use_silu, ROWS=ROWS, COLUMNS=OUTPUTS, FEATURES=FEATURES,
            num_warps=4, num_stages=3,
        )  # fmt: skip
    return y
