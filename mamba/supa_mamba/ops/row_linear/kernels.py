"""Triton kernel of a linear layer whose result for a row does not depend on the other rows.

One program multiplies a tile of rows by a tile of the matrix. All tiles have the same size and add up the features in
the same order, whatever the number of rows; rows beyond the last one are zeros. A library of matrix products chooses
both by the number of rows.

Each factor is split into two numbers of 11 bits (``tf32x3``), so that tensor cores compute products nearly as precise
as those in single precision. The sizes of the layer are constants of the program; the number of rows is an argument
that is not specialised, so that another number causes no compilation. The limits of the loop are constants, so that
Triton prefetches the next tiles.
"""

import triton
import triton.language as tl

from supa_mamba.ops.kernel_math import sigmoid


@triton.jit(do_not_specialize=["count"])
def linear_kernel(
    x_ptr,
    weight_ptr,
    bias_ptr,
    y_ptr,
    x_stride,
    count,
    INPUTS: tl.constexpr,
    OUTPUTS: tl.constexpr,
    SILU: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    FEATURES: tl.constexpr,
):
    blocks: tl.constexpr = (OUTPUTS + COLUMNS - 1) // COLUMNS
    # Programs that follow each other share their rows.
    row = (tl.program_id(0) // blocks).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    column = tl.program_id(0) % blocks * COLUMNS + tl.arange(0, COLUMNS)
    k = tl.arange(0, FEATURES)
    live_row, live_column = row < count, column < OUTPUTS
    x_ptr += row[:, None] * x_stride + k[None, :]
    weight_ptr += column[None, :] * INPUTS + k[:, None]
    y = tl.zeros((ROWS, COLUMNS), tl.float32)
    for first in tl.range(0, INPUTS, FEATURES):
        inside = first + k < INPUTS
        x = tl.load(x_ptr + first, live_row[:, None] & inside[None, :], 0.0)
        weight = tl.load(weight_ptr + first, live_column[None, :] & inside[:, None], 0.0)
        y = tl.dot(x, weight, y, input_precision="tf32x3")
    if bias_ptr is not None:
        y += tl.load(bias_ptr + column, live_column, 0.0)[None, :]
    if SILU:
        y *= sigmoid(y)
    tl.store(y_ptr + row[:, None] * OUTPUTS + column[None, :], y, live_row[:, None] & live_column[None, :])
