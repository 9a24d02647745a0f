"""Triton kernels of the causal convolution. One program of one warp processes one sequence and a block of channels.

The inputs in the window stay in registers. Several rows are prefetched at once to hide the memory latency. The strides
are constants of the compiled code, so that loads of a view of a projection are vectorised; lengths are not.

Loops use ``while`` because of Triton's interpreter; see ``selective_scan.kernels``.
"""

import triton
import triton.language as tl

from supa_mamba.ops.kernel_math import mask_if, sigmoid


@triton.jit
def load_inputs(
    x_ptr, initial_ptr, start, end, step, d, live_d,
    STRIDE: tl.constexpr, WIDTH: tl.constexpr, REVERSE: tl.constexpr, DTYPE: tl.constexpr,
):  # fmt: skip
    # Steps before the first read the initial state, or zeros; steps after the last read zeros.
    t = end - 1 - step if REVERSE else start + step
    x = tl.load(x_ptr + t * STRIDE + d, mask_if((step >= 0) & (step < end - start), live_d), 0.0)
    if initial_ptr is not None:
        earlier = initial_ptr + d * (WIDTH - 1) + WIDTH - 1 + step
        x = x.to(DTYPE) + tl.load(earlier, mask_if((step < 0) & (step > -WIDTH), live_d), 0.0)
    return x


@triton.jit
def load_weights(weight_ptr, d, live_d, WIDTH: tl.constexpr):
    # The weight of the current input comes first.
    weights = ()
    for k in tl.static_range(WIDTH):
        weights += (tl.load(weight_ptr + d * WIDTH + WIDTH - 1 - k, live_d, 0.0),)
    return weights


@triton.jit
def weighted_sum(weights, inputs, WIDTH: tl.constexpr):
    total = weights[0] * inputs[0]
    for k in tl.static_range(1, WIDTH):
        total += weights[k] * inputs[k]
    return total


@triton.jit
def conv_forward_kernel(
    x_ptr,
    weight_ptr,
    bias_ptr,
    offset_ptr,
    initial_ptr,
    y_ptr,
    final_ptr,
    channels,
    X_STRIDE: tl.constexpr,
    WIDTH: tl.constexpr,
    REVERSE: tl.constexpr,
    SILU: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
    DTYPE: tl.constexpr,
):
    blocks = tl.cdiv(channels, BLOCK)
    sequence = (tl.program_id(0) // blocks).to(tl.int64)
    d = (tl.program_id(0) % blocks) * BLOCK + tl.arange(0, BLOCK)
    live_d = d < channels
    start, end = tl.load(offset_ptr + sequence), tl.load(offset_ptr + sequence + 1)
    of_state = sequence * channels * (WIDTH - 1)
    if initial_ptr is not None:
        initial_ptr += of_state
    weights = load_weights(weight_ptr, d, live_d, WIDTH)
    bias = tl.zeros((BLOCK,), DTYPE)
    if bias_ptr is not None:
        bias += tl.load(bias_ptr + d, live_d, 0.0)

    i = (end - start) * 0
    seen = ()
    for k in tl.static_range(WIDTH - 1):
        x = load_inputs(x_ptr, initial_ptr, start, end, i - 1 - k, d, live_d, X_STRIDE, WIDTH, REVERSE, DTYPE)
        seen += (x.to(DTYPE),)
    ahead = ()
    for r in tl.static_range(ROWS):
        ahead += (load_inputs(x_ptr, None, start, end, i + r, d, live_d, X_STRIDE, WIDTH, REVERSE, DTYPE),)
    while i < end - start:
        rows = ahead
        ahead = ()
        for r in tl.static_range(ROWS):
            ahead += (load_inputs(x_ptr, None, start, end, i + ROWS + r, d, live_d, X_STRIDE, WIDTH, REVERSE, DTYPE),)
        for r in tl.static_range(ROWS):
            inputs = (rows[r].to(DTYPE),) + seen  # noqa: RUF005 Triton does not support unpacking
            y = weighted_sum(weights, inputs, WIDTH) + bias
            if SILU:
                y *= sigmoid(y)
            t = end - 1 - i - r if REVERSE else start + i + r
            tl.store(y_ptr + t * channels + d, y, mask_if(i + r < end - start, live_d))
            seen = inputs[: WIDTH - 1]
        i += ROWS
    if final_ptr is not None:
        for k in tl.static_range(WIDTH - 1):
            i = end - start - 1 - k
            x = load_inputs(x_ptr, initial_ptr, start, end, i, d, live_d, X_STRIDE, WIDTH, REVERSE, DTYPE)
            tl.store(final_ptr + of_state + d * (WIDTH - 1) + WIDTH - 2 - k, x.to(DTYPE), live_d)


@triton.jit
def load_backward(
    x_ptr, initial_ptr, y_grad_ptr, start, end, step, d, live_d,
    X_STRIDE: tl.constexpr, Y_GRAD_STRIDE: tl.constexpr, WIDTH: tl.constexpr, REVERSE: tl.constexpr,
    ROWS: tl.constexpr, DTYPE: tl.constexpr,
):  # fmt: skip
    # Per step, in descending order: the earliest input in its window, and the gradient of its output.
    inputs = ()
    grads = ()
    for r in tl.static_range(ROWS):
        inputs += (
            load_inputs(
                x_ptr, initial_ptr, start, end, step - r - WIDTH + 1, d, live_d, X_STRIDE, WIDTH, REVERSE, DTYPE
            ),
        )
        grads += (load_inputs(y_grad_ptr, None, start, end, step - r, d, live_d, Y_GRAD_STRIDE, WIDTH, REVERSE, DTYPE),)
    return inputs, grads


@triton.jit
def conv_backward_kernel(
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
    channels,
    X_STRIDE: tl.constexpr,
    Y_GRAD_STRIDE: tl.constexpr,
    X_GRAD_STRIDE: tl.constexpr,
    WIDTH: tl.constexpr,
    REVERSE: tl.constexpr,
    SILU: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
    DTYPE: tl.constexpr,
):
    blocks = tl.cdiv(channels, BLOCK)
    sequence = (tl.program_id(0) // blocks).to(tl.int64)
    d = (tl.program_id(0) % blocks) * BLOCK + tl.arange(0, BLOCK)
    live_d = d < channels
    start, end = tl.load(offset_ptr + sequence), tl.load(offset_ptr + sequence + 1)
    of_state = sequence * channels * (WIDTH - 1)
    if initial_ptr is not None:
        initial_ptr += of_state
    weights = load_weights(weight_ptr, d, live_d, WIDTH)
    bias = tl.zeros((BLOCK,), DTYPE)
    if bias_ptr is not None:
        bias += tl.load(bias_ptr + d, live_d, 0.0)

    i = end - start - 1
    first = i * 0
    if initial_grad_ptr is not None:
        first -= WIDTH - 1
    seen = ()
    later = ()
    weight_grads = (tl.zeros((BLOCK,), DTYPE),)
    bias_grad = tl.zeros((BLOCK,), DTYPE)
    for k in tl.static_range(WIDTH - 1):
        x = load_inputs(x_ptr, initial_ptr, start, end, i - k, d, live_d, X_STRIDE, WIDTH, REVERSE, DTYPE)
        seen += (x.to(DTYPE),)
        later += (tl.zeros((BLOCK,), DTYPE),)
        weight_grads += (tl.zeros((BLOCK,), DTYPE),)
    x_ahead, grad_ahead = load_backward(
        x_ptr, initial_ptr, y_grad_ptr, start, end, i, d, live_d, X_STRIDE, Y_GRAD_STRIDE, WIDTH, REVERSE, ROWS, DTYPE
    )
    while i >= first:
        xs, grads = x_ahead, grad_ahead
        x_ahead, grad_ahead = load_backward(
            x_ptr, initial_ptr, y_grad_ptr, start, end, i - ROWS, d, live_d,
            X_STRIDE, Y_GRAD_STRIDE, WIDTH, REVERSE, ROWS, DTYPE,
        )  # fmt: skip
        for r in tl.static_range(ROWS):
            inputs = seen + (xs[r].to(DTYPE),)  # noqa: RUF005
            grad = grads[r].to(DTYPE)
            if SILU:
                y = weighted_sum(weights, inputs, WIDTH) + bias
                open_ = sigmoid(y)
                grad *= open_ * (1.0 + y * (1.0 - open_))
            bias_grad += grad
            summed = ()
            for k in tl.static_range(WIDTH):
                summed += (weight_grads[k] + grad * inputs[k],)
            weight_grads = summed
            later_grads = (grad,) + later  # noqa: RUF005
            x_grad = weighted_sum(weights, later_grads, WIDTH)
            if final_grad_ptr is not None:
                place = i - r - (end - start) + WIDTH - 1
                kept = mask_if((place >= 0) & (i - r > -WIDTH), live_d)
                x_grad += tl.load(final_grad_ptr + of_state + d * (WIDTH - 1) + place, kept, 0.0)
            # The gradient of this row of y was read before, so the row may be overwritten.
            t = end - 1 - i + r if REVERSE else start + i - r
            tl.store(x_grad_ptr + t * X_GRAD_STRIDE + d, x_grad, mask_if(i >= r, live_d))
            if initial_grad_ptr is not None:
                before = mask_if((i < r) & (i - r > -WIDTH), live_d)
                tl.store(initial_grad_ptr + of_state + d * (WIDTH - 1) + WIDTH - 1 + i - r, x_grad, before)
            seen = inputs[1:]
            later = later_grads[: WIDTH - 1]
        i -= ROWS
    for k in tl.static_range(WIDTH):
        tl.store(weight_grad_ptr + (sequence * channels + d) * WIDTH + WIDTH - 1 - k, weight_grads[k], live_d)
    tl.store(bias_grad_ptr + sequence * channels + d, bias_grad, live_d)
