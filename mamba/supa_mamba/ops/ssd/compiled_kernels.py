"""Compiled loops of the recurrence of Mamba-2 on a CPU, forward and backward, without padding.

A sequence is processed row by row, in blocks of channels of one group whose states fit into the first-level cache. The
inner loops run over the channels of a block, and the compiler vectorises them. The backward pass starts each tile of
rows from a checkpoint, computes the states of the tile again, and then goes through them in the opposite direction.

An input that is missing has no rows.
"""

from typing import Any

import numpy as np

from supa.compiler import fast_kernel, fast_stage
from supa_mamba.ops.compiled_kernels import add_product, multiply
from supa_mamba.ops.compiled_math import exponential, sigmoid, softplus
from supa_mamba.ops.ssd.block_sizes import CPU_TILE

_BLOCK_STATES = 8192  # states of a block of channels


@fast_stage
def _add_bias(begin: int, end: int, dt: Any, bias: Any, raw: Any) -> None:
    """Copy some rows of step sizes, and add the bias."""
    for t in range(begin, end):
        for k in range(dt.shape[1]):
            raw[t, k] = dt[t, k]
        if len(bias) > 0:
            for k in range(dt.shape[1]):
                raw[t, k] += bias[k]


@fast_stage
def _prepare(
    begin: int, end: int, dt: Any, A: Any, bias: Any, use_softplus: bool, low: float, high: float, step: Any, decay: Any
) -> None:
    """Compute the step sizes of some rows, and the decays exp(step A)."""
    heads = dt.shape[1]
    least, most = A.dtype.type(low), A.dtype.type(high)
    _add_bias(begin, end, dt, bias, step)
    # Loops over all values of the rows are vectorised however few heads there are.
    steps, decays = step.reshape(-1), decay.reshape(-1)
    if use_softplus:
        for k in range(begin * heads, end * heads):
            steps[k] = softplus(steps[k])
    for k in range(begin * heads, end * heads):
        size = steps[k]
        size = least if size < least else size
        steps[k] = most if size > most else size
    for t in range(begin, end):
        for k in range(heads):
            decay[t, k] = step[t, k] * A[k]
    for k in range(begin * heads, end * heads):
        decays[k] = exponential(decays[k])


@fast_stage
def _finish(
    begin: int, end: int, dt: Any, A: Any, bias: Any, use_softplus: bool, low: float, high: float, step: Any,
    size_grad: Any, log_grad: Any, dt_grad: Any, A_grad: Any, bias_grad: Any,
) -> None:  # fmt: skip
    """Compute the gradients of the step sizes of some rows, and of the decay rates and the bias."""
    heads = dt.shape[1]
    least, most, zero, one = A.dtype.type(low), A.dtype.type(high), A.dtype.type(0), A.dtype.type(1)
    _add_bias(begin, end, dt, bias, dt_grad)
    factors = dt_grad.reshape(-1)
    for k in range(begin * heads, end * heads):
        raw = factors[k]
        size = softplus(raw) if use_softplus else raw
        # A clamped step size has no gradient.
        factor = sigmoid(raw) if use_softplus else one
        factors[k] = factor if size >= least and size <= most else zero
    for t in range(begin, end):
        for k in range(heads):
            A_grad[k] += step[t, k] * log_grad[t, k]
            dt_grad[t, k] *= size_grad[t, k] + A[k] * log_grad[t, k]
            bias_grad[k] += dt_grad[t, k]


@fast_stage
def _spread(left: int, count: int, width: int, of_heads: Any, of_channels: Any) -> None:
    """Copy the values of heads to the channels of a block, which begins at channel ``left``."""
    d, head = 0, left // width
    while d < count:
        end = min(count, (head + 1) * width - left)
        for k in range(d, end):
            of_channels[k] = of_heads[head]
        d, head = end, head + 1


@fast_stage
def _gather(left: int, count: int, width: int, of_channels: Any, of_heads: Any) -> None:
    """Add the values of the channels of a block to those of their heads."""
    d, head = 0, left // width
    while d < count:
        end = min(count, (head + 1) * width - left)
        total = of_channels.dtype.type(0)
        for k in range(d, end):
            total += of_channels[k]
        of_heads[head] += total
        d, head = end, head + 1


@fast_stage
def _advance(count: int, decay: Any, change: Any, b: Any, c: Any, h: Any, y: Any) -> None:
    """Advance the states of a block by a row, and compute its outputs."""
    for d in range(count):
        y[d] = 0.0
    for n in range(len(b)):
        enter, leave, h_n = b[n], c[n], h[n]
        for d in range(count):
            state = decay[d] * h_n[d] + change[d] * enter
            h_n[d] = state
            y[d] += state * leave


@fast_stage
def _advance_again(count: int, decay: Any, change: Any, b: Any, before: Any, after: Any) -> None:
    """Advance the states of a block by a row."""
    for n in range(len(b)):
        enter, before_n, after_n = b[n], before[n], after[n]
        for d in range(count):
            after_n[d] = decay[d] * before_n[d] + change[d] * enter


@fast_stage
def _go_back(
    count: int, y_grad: Any, decay: Any, change: Any, b: Any, c: Any, before: Any, after: Any, h_grad: Any,
    change_grad: Any, log_grad: Any, b_grad: Any, c_grad: Any,
) -> None:  # fmt: skip
    """Move the gradient of the states of a block to before a row, and compute the gradients of the row."""
    zero = decay.dtype.type(0)
    for d in range(count):
        change_grad[d] = zero
        log_grad[d] = zero
    for n in range(len(b)):
        enter, leave, h_grad_n, before_n, after_n = b[n], c[n], h_grad[n], before[n], after[n]
        of_enter = of_leave = zero
        for d in range(count):
            grad = h_grad_n[d] + leave * y_grad[d]
            of_leave += after_n[d] * y_grad[d]
            of_enter += grad * change[d]
            change_grad[d] += grad * enter
            grad *= decay[d]
            h_grad_n[d] = grad
            log_grad[d] += grad * before_n[d]
        b_grad[n] += of_enter
        c_grad[n] += of_leave


@fast_kernel
def ssd_forward(
    x: Any, dt: Any, A: Any, B: Any, C: Any, D: Any, bias: Any, offset: Any, initial: Any,
    reverse: bool, use_softplus: bool, low: float, high: float, first: int, last: int,
    step: Any, decay: Any, y: Any, final: Any, checkpoints: Any,
) -> None:  # fmt: skip
    """Apply the recurrence to some sequences. E is the number of channels of all heads.

    Args:
        x: (T, E) input.
        dt: (T, H) step sizes before bias, softplus and limits.
        A: (H,) decay rates.
        B: (T, G, N) input matrix.
        C: (T, G, N) output matrix.
        D: (H,) skip weights, or (0,).
        bias: (H,) bias of the step sizes, or (0,).
        offset: (S + 1,) int64 offsets.
        initial: (S, E, N) initial states, or (0, E, N) for zeros.
        reverse: Whether to process each sequence from its last row to its first.
        use_softplus: Whether to apply softplus.
        low: Smallest step size.
        high: Largest step size.
        first: First sequence.
        last: Sequence after the last one.
        step: (T, H) step sizes, which are written.
        decay: (T, H) decays, which are written.
        y: (T, E) output, which is written.
        final: (S, E, N) states after the last rows, which are written, or (0, E, N).
        checkpoints: (T // CPU_TILE + 2, N, E) states at the starts of tiles, which are written, or (0, N, E).
    """
    (_, groups, states), channels = B.shape, x.shape[1]
    per_head, per_group = channels // dt.shape[1], channels // groups
    _prepare(offset[first], offset[last], dt, A, bias, use_softplus, low, high, step, decay)
    width = min(per_group, max(16, _BLOCK_STATES // states))
    # Arrays of whole rows are contiguous, which the compiler must see to vectorise a loop.
    h = np.empty((states, width), x.dtype)
    sizes, decays = np.empty(width, x.dtype), np.empty(width, x.dtype)
    change, skip = np.empty(width, x.dtype), np.empty(width, x.dtype)
    blocks = -(-per_group // width)
    for block in range(groups * blocks):
        group = block // blocks
        left = group * per_group + block % blocks * width
        count = min(width, (group + 1) * per_group - left)
        right = left + count
        if len(D) > 0:
            _spread(left, count, per_head, D, skip)
        for s in range(first, last):
            start, end = offset[s], offset[s + 1]
            h[:, :] = 0.0
            if len(initial) > 0:
                h[:, :count] = initial[s, left:right].T
            for i in range(end - start):
                if len(checkpoints) > 0 and i > 0 and i % CPU_TILE == 0:
                    checkpoints[start // CPU_TILE + i // CPU_TILE - 1, :, left:right] = h[:, :count]
                t = end - 1 - i if reverse else start + i
                x_t, y_t = x[t, left:right], y[t, left:right]
                _spread(left, count, per_head, step[t], sizes)
                _spread(left, count, per_head, decay[t], decays)
                multiply(sizes, x_t, change[:count])
                _advance(count, decays, change, B[t, group], C[t, group], h, y_t)
                if len(D) > 0:
                    add_product(skip, x_t, y_t)
            if len(final) > 0:
                final[s, left:right] = h[:, :count].T


@fast_kernel
def ssd_backward(
    y_grad: Any, final_grad: Any, checkpoints: Any,
    x: Any, dt: Any, A: Any, B: Any, C: Any, D: Any, bias: Any, offset: Any, initial: Any,
    reverse: bool, use_softplus: bool, low: float, high: float, first: int, last: int,
    step: Any, decay: Any, size_grad: Any, log_grad: Any,
    x_grad: Any, dt_grad: Any, A_grad: Any, B_grad: Any, C_grad: Any, D_grad: Any, bias_grad: Any, initial_grad: Any,
) -> None:  # fmt: skip
    """Compute the gradients of some sequences.

    Args:
        y_grad: (T, E) gradient of the output.
        final_grad: (S, E, N) gradient of the states after the last rows, or (0, E, N) for zeros.
        checkpoints: States from `ssd_forward`.
        x: See `ssd_forward`.
        dt: See `ssd_forward`.
        A: See `ssd_forward`.
        B: See `ssd_forward`.
        C: See `ssd_forward`.
        D: See `ssd_forward`.
        bias: See `ssd_forward`.
        offset: See `ssd_forward`.
        initial: See `ssd_forward`.
        reverse: See `ssd_forward`.
        use_softplus: See `ssd_forward`.
        low: See `ssd_forward`.
        high: See `ssd_forward`.
        first: See `ssd_forward`.
        last: See `ssd_forward`.
        step: See `ssd_forward`.
        decay: See `ssd_forward`.
        size_grad: (T, H) gradient of the step sizes as factors of the input, zeros before the call.
        log_grad: (T, H) gradient of the logarithms of the decays, zeros before the call.
        x_grad: (T, E) gradient, which is written.
        dt_grad: (T, H) gradient, which is written.
        A_grad: (H,) gradient of A of these sequences, zeros before the call.
        B_grad: (T, G, N) gradient, zeros before the call.
        C_grad: (T, G, N) gradient, zeros before the call.
        D_grad: (H,) gradient of D of these sequences, zeros before the call.
        bias_grad: (H,) gradient of the bias of these sequences, zeros before the call.
        initial_grad: (S, E, N) gradient, which is written, or (0, E, N).
    """
    (_, groups, states), channels = B.shape, x.shape[1]
    per_head, per_group = channels // dt.shape[1], channels // groups
    _prepare(offset[first], offset[last], dt, A, bias, use_softplus, low, high, step, decay)
    width = min(per_group, max(16, _BLOCK_STATES // states))
    h, h_grad = np.empty((CPU_TILE + 1, states, width), x.dtype), np.empty((states, width), x.dtype)
    sizes, decays = np.empty((CPU_TILE, width), x.dtype), np.empty((CPU_TILE, width), x.dtype)
    change, skip, D_sum = np.empty((CPU_TILE, width), x.dtype), np.zeros(width, x.dtype), np.empty(width, x.dtype)
    change_grad, of_size, logs = np.empty(width, x.dtype), np.empty(width, x.dtype), np.empty(width, x.dtype)
    blocks = -(-per_group // width)
    for block in range(groups * blocks):
        group = block // blocks
        left = group * per_group + block % blocks * width
        count = min(width, (group + 1) * per_group - left)
        right = left + count
        D_sum[:] = 0.0
        if len(D) > 0:
            _spread(left, count, per_head, D, skip)
        for s in range(first, last):
            start, end = offset[s], offset[s + 1]
            h_grad[:, :] = 0.0
            if len(final_grad) > 0:
                h_grad[:, :count] = final_grad[s, left:right].T
            for tile in range((end - start + CPU_TILE - 1) // CPU_TILE - 1, -1, -1):
                begin = tile * CPU_TILE
                rows = min(CPU_TILE, end - start - begin)
                if tile > 0:
                    h[0, :, :count] = checkpoints[start // CPU_TILE + tile - 1, :, left:right]
                elif len(initial) > 0:
                    h[0, :, :count] = initial[s, left:right].T
                else:
                    h[0, :, :] = 0.0
                for i in range(rows):
                    t = end - 1 - begin - i if reverse else start + begin + i
                    x_t, sizes_i, change_i = x[t, left:right], sizes[i], change[i]
                    _spread(left, count, per_head, step[t], sizes_i)
                    _spread(left, count, per_head, decay[t], decays[i])
                    multiply(sizes_i, x_t, change_i[:count])
                    _advance_again(count, decays[i], change_i, B[t, group], h[i], h[i + 1])
                for i in range(rows - 1, -1, -1):
                    t = end - 1 - begin - i if reverse else start + begin + i
                    x_t, x_grad_t, grad = x[t, left:right], x_grad[t, left:right], y_grad[t, left:right]
                    _go_back(
                        count, grad, decays[i], change[i], B[t, group], C[t, group], h[i], h[i + 1], h_grad,
                        change_grad, logs, B_grad[t, group], C_grad[t, group],
                    )  # fmt: skip
                    multiply(sizes[i], change_grad, x_grad_t)
                    if len(D) > 0:
                        add_product(skip, grad, x_grad_t)
                        add_product(x_t, grad, D_sum[:count])
                    multiply(change_grad, x_t, of_size[:count])
                    _gather(left, count, per_head, of_size, size_grad[t])
                    _gather(left, count, per_head, logs, log_grad[t])
            if len(initial_grad) > 0:
                initial_grad[s, left:right] = h_grad[:, :count].T
        if len(D) > 0:
            _gather(left, count, per_head, D_sum, D_grad)
    _finish(
        offset[first], offset[last], dt, A, bias, use_softplus, low, high, step, size_grad, log_grad,
        dt_grad, A_grad, bias_grad,
    )  # fmt: skip
