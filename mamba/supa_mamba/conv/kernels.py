"""Triton kernels of the causal convolution: one program walks over one sequence with a block of channels.

Loops are written as ``while`` for the interpreter's sake, as in ``scan.kernels``.
"""

import triton
import triton.language as tl

from supa_mamba.kernel_math import sigmoid


@triton.jit
def taps(x_ptr, initial_ptr, start, end, step, x_stride, width, d, live_d, TAPS: tl.constexpr, REVERSE: tl.constexpr):
    # Row k of the block is the input k steps earlier; before the first step that is the initial state.
    k = tl.arange(0, TAPS)
    p = step - k
    t = start + p
    if REVERSE:
        t = end - 1 - p
    inside = (k < width) & (p >= 0)
    block = tl.load(x_ptr + (t * x_stride)[:, None] + d[None, :], inside[:, None] & live_d[None, :], 0.0)
    if initial_ptr is not None:
        before = (k < width) & (p < 0) & (p > -width)
        earlier = initial_ptr + d[None, :] * (width - 1) + (width - 1 + p)[:, None]
        block = block.to(initial_ptr.dtype.element_ty) + tl.load(earlier, before[:, None] & live_d[None, :], 0.0)
    return block


@triton.jit(do_not_specialize=["x_stride", "channels", "width"])
def forward_kernel(
    x_ptr,
    weight_ptr,
    bias_ptr,
    offset_ptr,
    initial_ptr,
    y_ptr,
    final_ptr,
    x_stride,
    channels,
    width,
    REVERSE: tl.constexpr,
    SILU: tl.constexpr,
    BLOCK: tl.constexpr,
    TAPS: tl.constexpr,
    DTYPE: tl.constexpr,
):
    blocks = tl.cdiv(channels, BLOCK)
    sequence = tl.program_id(0).to(tl.int64) // blocks
    d = (tl.program_id(0) % blocks) * BLOCK + tl.arange(0, BLOCK)
    k = tl.arange(0, TAPS)
    live_d = d < channels
    start, end = tl.load(offset_ptr + sequence), tl.load(offset_ptr + sequence + 1)
    of_sequence = sequence * channels * (width - 1)
    if initial_ptr is not None:
        initial_ptr += of_sequence
    weight = tl.load(
        weight_ptr + d[None, :] * width + (width - 1 - k)[:, None], (k < width)[:, None] & live_d[None, :], 0.0
    )
    bias = tl.zeros((BLOCK,), DTYPE)
    if bias_ptr is not None:
        bias += tl.load(bias_ptr + d, live_d, 0.0)

    i = (end - start) * 0
    while i < end - start:
        seen = taps(x_ptr, initial_ptr, start, end, i, x_stride, width, d, live_d, TAPS, REVERSE).to(DTYPE)
        y = tl.sum(weight * seen, 0) + bias
        if SILU:
            y *= sigmoid(y)
        t = start + i
        if REVERSE:
            t = end - 1 - i
        tl.store(y_ptr + t * channels + d, y, live_d)
        i += 1
    seen = taps(x_ptr, initial_ptr, start, end, end - start - 1, x_stride, width, d, live_d, TAPS, REVERSE).to(DTYPE)
    kept = (k < width - 1)[:, None] & live_d[None, :]
    tl.store(final_ptr + of_sequence + d[None, :] * (width - 1) + (width - 2 - k)[:, None], seen, kept)


@triton.jit(do_not_specialize=["x_stride", "y_grad_stride", "channels", "width"])
def backward_kernel(
    x_ptr,
    weight_ptr,
    bias_ptr,
    offset_ptr,
    initial_ptr,
    y_grad_ptr,
    final_grad_ptr,
    x_grad_ptr,
    weight_grad_ptr,
    bias_grad_ptr,
    initial_grad_ptr,
    x_stride,
    y_grad_stride,
    channels,
    width,
    REVERSE: tl.constexpr,
    SILU: tl.constexpr,
    BLOCK: tl.constexpr,
    TAPS: tl.constexpr,
    DTYPE: tl.constexpr,
):
    blocks = tl.cdiv(channels, BLOCK)
    sequence = tl.program_id(0).to(tl.int64) // blocks
    d = (tl.program_id(0) % blocks) * BLOCK + tl.arange(0, BLOCK)
    k = tl.arange(0, TAPS)
    live_d = d < channels
    live = (k < width)[:, None] & live_d[None, :]
    start, end = tl.load(offset_ptr + sequence), tl.load(offset_ptr + sequence + 1)
    of_sequence = sequence * channels * (width - 1)
    if initial_ptr is not None:
        initial_ptr += of_sequence
    weight = tl.load(weight_ptr + d[None, :] * width + (width - 1 - k)[:, None], live, 0.0)
    bias = tl.zeros((BLOCK,), DTYPE)
    if bias_ptr is not None:
        bias += tl.load(bias_ptr + d, live_d, 0.0)
    weight_grad = tl.zeros((TAPS, BLOCK), DTYPE)
    bias_grad = tl.zeros((BLOCK,), DTYPE)

    # The gradients of the latest steps stand in a ring: that of step i at row i mod TAPS. Registers cannot be turned,
    # so the weights are loaded turned.
    ring = tl.zeros((TAPS, BLOCK), DTYPE)
    i = end - start - 1
    while i > -width:
        t = start + i
        if REVERSE:
            t = end - 1 - i
        inside = live_d & (i >= 0)
        seen = taps(x_ptr, initial_ptr, start, end, i, x_stride, width, d, live_d, TAPS, REVERSE).to(DTYPE)
        grad = tl.load(y_grad_ptr + t * y_grad_stride + d, inside, 0.0).to(DTYPE)
        if SILU:
            y = tl.sum(weight * seen, 0) + bias
            open_ = sigmoid(y)
            grad *= open_ * (1.0 + y * (1.0 - open_))
        weight_grad += grad[None, :] * seen
        bias_grad += grad
        ring = tl.where((k == (i & (TAPS - 1)))[:, None], grad[None, :], ring)
        tap = (k - i) & (TAPS - 1)
        turned = tl.load(
            weight_ptr + d[None, :] * width + (width - 1 - tap)[:, None], (tap < width)[:, None] & live_d[None, :], 0.0
        )
        x_grad = tl.sum(turned * ring, 0)
        if final_grad_ptr is not None:
            place = i - (end - start) + width - 1
            kept = live_d & (place >= 0)
            x_grad += tl.load(final_grad_ptr + of_sequence + d * (width - 1) + place, kept, 0.0)
        tl.store(x_grad_ptr + t * channels + d, x_grad, inside)
        tl.store(initial_grad_ptr + of_sequence + d * (width - 1) + width - 1 + i, x_grad, live_d & (i < 0))
        i -= 1
    tl.store(
        weight_grad_ptr + sequence * channels * width + d[None, :] * width + (width - 1 - k)[:, None], weight_grad, live
    )
    tl.store(bias_grad_ptr + sequence * channels + d, bias_grad, live_d)
