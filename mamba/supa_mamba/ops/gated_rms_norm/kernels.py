"""Triton kernels of the norm with a gate. A program processes tiles of whole rows of one group of channels.

The conventions are those of the kernels of `add_rms_norm`. The gate is a view of the input projection; its stride is a
constant of the compiled code.
"""

import triton
import triton.language as tl

from supa_mamba.ops.kernel_math import sigmoid


@triton.jit(do_not_specialize=["count"])
def gated_norm_forward_kernel(
    x_ptr,
    gate_ptr,
    weight_ptr,
    y_ptr,
    count,
    X_STRIDE: tl.constexpr,
    GATE_STRIDE: tl.constexpr,
    CHANNELS: tl.constexpr,
    WIDTH: tl.constexpr,
    EPS: tl.constexpr,
    NORM_FIRST: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
    DTYPE: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)[:, None]
    d = tl.arange(0, BLOCK)[None, :]
    live = (row < count) & (d < WIDTH)
    c = tl.program_id(1) * WIDTH + d
    x = tl.load(x_ptr + row * X_STRIDE + c, live, 0.0).to(DTYPE)
    gate = tl.load(gate_ptr + row * GATE_STRIDE + c, live, 0.0).to(DTYPE)
    weight = tl.load(weight_ptr + c, d < WIDTH, 0.0)
    factor = gate * sigmoid(gate)
    if not NORM_FIRST:
        x *= factor
    x *= 1.0 / tl.sqrt(tl.sum(x * x, 1, keep_dims=True) / WIDTH + EPS)
    x *= weight
    if NORM_FIRST:
        x *= factor
    tl.store(y_ptr + row * CHANNELS + c, x, live)


@triton.jit
def load_rows(
    y_grad_ptr, x_ptr, gate_ptr, row, c, live,
    Y_GRAD_STRIDE: tl.constexpr, X_STRIDE: tl.constexpr, GATE_STRIDE: tl.constexpr,
):  # fmt: skip
    y_grad = tl.load(y_grad_ptr + row * Y_GRAD_STRIDE + c, live, 0.0)
    x = tl.load(x_ptr + row * X_STRIDE + c, live, 0.0)
    gate = tl.load(gate_ptr + row * GATE_STRIDE + c, live, 0.0)
    return y_grad, x, gate


@triton.jit(do_not_specialize=["count"])
def gated_norm_backward_kernel(
    y_grad_ptr,
    x_ptr,
    gate_ptr,
    weight_ptr,
    x_grad_ptr,
    gate_grad_ptr,
    weight_partial_ptr,
    count,
    Y_GRAD_STRIDE: tl.constexpr,
    GATE_GRAD_STRIDE: tl.constexpr,
    X_STRIDE: tl.constexpr,
    GATE_STRIDE: tl.constexpr,
    CHANNELS: tl.constexpr,
    WIDTH: tl.constexpr,
    EPS: tl.constexpr,
    NORM_FIRST: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
    DTYPE: tl.constexpr,
):
    d = tl.arange(0, BLOCK)[None, :]
    c = tl.program_id(1) * WIDTH + d
    weight = tl.load(weight_ptr + c, d < WIDTH, 0.0)
    weight_grad = tl.zeros((ROWS, BLOCK), DTYPE)
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)[:, None]
    live = (row < count) & (d < WIDTH)
    y_grad_ahead, x_ahead, gate_ahead = load_rows(
        y_grad_ptr, x_ptr, gate_ptr, row, c, live, Y_GRAD_STRIDE, X_STRIDE, GATE_STRIDE
    )
    first = tl.program_id(0).to(tl.int64) * ROWS
    while first < count:
        y_grad, x, gate = y_grad_ahead.to(DTYPE), x_ahead.to(DTYPE), gate_ahead.to(DTYPE)
        here, live_here = row, live
        row += tl.num_programs(0) * ROWS
        live = (row < count) & (d < WIDTH)
        y_grad_ahead, x_ahead, gate_ahead = load_rows(
            y_grad_ptr, x_ptr, gate_ptr, row, c, live, Y_GRAD_STRIDE, X_STRIDE, GATE_STRIDE
        )
        open_ = sigmoid(gate)
        factor = gate * open_
        slope = open_ * (1.0 + gate * (1.0 - open_))
        if NORM_FIRST:
            scale = 1.0 / tl.sqrt(tl.sum(x * x, 1, keep_dims=True) / WIDTH + EPS)
            x *= scale
            gate_grad = y_grad * x * weight * slope
            y_grad *= factor
            weight_grad += y_grad * x
            y_grad *= weight
            x_grad = scale * (y_grad - x * (tl.sum(y_grad * x, 1, keep_dims=True) / WIDTH))
        else:
            gated = x * factor
            scale = 1.0 / tl.sqrt(tl.sum(gated * gated, 1, keep_dims=True) / WIDTH + EPS)
            gated *= scale
            weight_grad += y_grad * gated
            y_grad *= weight
            grad = scale * (y_grad - gated * (tl.sum(y_grad * gated, 1, keep_dims=True) / WIDTH))
            x_grad = grad * factor
            gate_grad = grad * x * slope
        tl.store(x_grad_ptr + here * CHANNELS + c, x_grad, live_here)
        tl.store(gate_grad_ptr + here * GATE_GRAD_STRIDE + c, gate_grad, live_here)
        first += tl.num_programs(0) * ROWS
    partial = weight_partial_ptr + tl.program_id(0).to(tl.int64) * CHANNELS + c
    tl.store(partial, tl.sum(weight_grad, 0, keep_dims=True), d < WIDTH)
