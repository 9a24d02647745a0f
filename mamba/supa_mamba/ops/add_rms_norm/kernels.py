"""Triton kernels of the sum and its norm. A program processes tiles of whole rows.

Widths and strides are constants of the compiled code, so that loads are vectorised whenever they allow it; the number
of rows is not, so that new lengths cause no compilation. The backward kernel computes the mean squares again, which
costs no bytes. It has no atomics: each program stores its sum of the weight's gradient.
"""

import triton
import triton.language as tl


@triton.jit(do_not_specialize=["count"])
def add_norm_forward_kernel(
    residual_ptr,
    update_ptr,
    weight_ptr,
    y_ptr,
    sum_ptr,
    count,
    RESIDUAL_STRIDE: tl.constexpr,
    UPDATE_STRIDE: tl.constexpr,
    WIDTH: tl.constexpr,
    EPS: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
    DTYPE: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)[:, None]
    d = tl.arange(0, BLOCK)[None, :]
    live = (row < count) & (d < WIDTH)
    x = tl.load(residual_ptr + row * RESIDUAL_STRIDE + d, live, 0.0)
    weight = tl.load(weight_ptr + d, d < WIDTH, 0.0)
    if update_ptr is not None:
        x += tl.load(update_ptr + row * UPDATE_STRIDE + d, live, 0.0).to(DTYPE)
        tl.store(sum_ptr + row * WIDTH + d, x, live)
    scale = 1.0 / tl.sqrt(tl.sum(x * x, 1, keep_dims=True) / WIDTH + EPS)
    tl.store(y_ptr + row * WIDTH + d, x * scale * weight, live)


@triton.jit(do_not_specialize=["count"])
def add_norm_backward_kernel(
    y_grad_ptr,
    sum_grad_ptr,
    sum_ptr,
    weight_ptr,
    grad_ptr,
    update_grad_ptr,
    weight_partial_ptr,
    count,
    Y_GRAD_STRIDE: tl.constexpr,
    SUM_GRAD_STRIDE: tl.constexpr,
    SUM_STRIDE: tl.constexpr,
    WIDTH: tl.constexpr,
    EPS: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
    DTYPE: tl.constexpr,
):
    d = tl.arange(0, BLOCK)[None, :]
    weight = tl.load(weight_ptr + d, d < WIDTH, 0.0)
    weight_grad = tl.zeros((ROWS, BLOCK), DTYPE)
    first = tl.program_id(0).to(tl.int64) * ROWS
    while first < count:
        row = first + tl.arange(0, ROWS)[:, None]
        live = (row < count) & (d < WIDTH)
        x = tl.load(sum_ptr + row * SUM_STRIDE + d, live, 0.0)
        y_grad = tl.load(y_grad_ptr + row * Y_GRAD_STRIDE + d, live, 0.0).to(DTYPE)
        grad = tl.zeros((ROWS, BLOCK), DTYPE)
        if sum_grad_ptr is not None:
            grad += tl.load(sum_grad_ptr + row * SUM_GRAD_STRIDE + d, live, 0.0)
        scale = 1.0 / tl.sqrt(tl.sum(x * x, 1, keep_dims=True) / WIDTH + EPS)
        x *= scale
        weight_grad += y_grad * x
        y_grad *= weight
        grad += scale * (y_grad - x * (tl.sum(y_grad * x, 1, keep_dims=True) / WIDTH))
        tl.store(grad_ptr + row * WIDTH + d, grad, live)
        if update_grad_ptr is not None:
            tl.store(update_grad_ptr + row * WIDTH + d, grad, live)
        first += tl.num_programs(0) * ROWS
    partial = weight_partial_ptr + tl.program_id(0).to(tl.int64) * WIDTH + d
    tl.store(partial, tl.sum(weight_grad, 0, keep_dims=True), d < WIDTH)
