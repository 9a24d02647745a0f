"""Compiled loops of the selective scan on a CPU, forward and backward, without padding.

A sequence is processed row by row, in blocks of channels whose states fit into the first-level cache. The inner loops
run over the channels of a block, and the compiler vectorises them. The backward pass starts each tile of rows from a
checkpoint, computes the states of the tile again, and then goes through them in the opposite direction.

An input that is missing has no rows.
"""

from typing import Any

import numpy as np

from supa.compiler import fast_kernel, fast_stage
from supa_mamba.ops.compiled_kernels import add, add_product, gate, multiply
from supa_mamba.ops.compiled_math import exponential, sigmoid, softplus
from supa_mamba.ops.selective_scan.block_sizes import TILE

_BLOCK_STATES = 2048  # states of a block of channels


@fast_stage
def _prepare(count: int, u: Any, delta: Any, bias: Any, use_softplus: bool, step: Any, change: Any) -> None:
    """Compute the step sizes of a row, and their products with the input."""
    for d in range(count):
        step[d] = delta[d]
    if len(bias) > 0:
        for d in range(count):
            step[d] += bias[d]
    if use_softplus:
        for d in range(count):
            step[d] = softplus(step[d])
    for d in range(count):
        change[d] = step[d] * u[d]


@fast_stage
def _advance(count: int, step: Any, change: Any, A: Any, b: Any, c: Any, h: Any, y: Any) -> None:
    """Advance the states of a block by a row, and compute its outputs."""
    for d in range(count):
        y[d] = 0.0
    for n in range(len(b)):
        enter, leave, A_n, h_n = b[n], c[n], A[n], h[n]
        for d in range(count):
            state = exponential(step[d] * A_n[d]) * h_n[d] + change[d] * enter
            h_n[d] = state
            y[d] += state * leave


@fast_stage
def _advance_again(
    count: int, step: Any, change: Any, A: Any, b: Any, c: Any, before: Any, after: Any, decay: Any, y: Any
) -> None:
    """Do the same as `_advance`, and keep the states before and after the row, and their decay."""
    for d in range(count):
        y[d] = 0.0
    for n in range(len(b)):
        enter, leave, A_n, before_n, after_n, decay_n = b[n], c[n], A[n], before[n], after[n], decay[n]
        for d in range(count):
            factor = exponential(step[d] * A_n[d])
            state = factor * before_n[d] + change[d] * enter
            decay_n[d] = factor
            after_n[d] = state
            y[d] += state * leave


@fast_stage
def _go_back(
    count: int, y_grad: Any, step: Any, change: Any, A: Any, b: Any, c: Any, before: Any, after: Any, decay: Any,
    h_grad: Any, change_grad: Any, step_grad: Any, A_grad: Any, b_grad: Any, c_grad: Any,
) -> None:  # fmt: skip
    """Move the gradient of the states of a block to before a row, and compute the gradients of the row."""
    zero = A.dtype.type(0)
    for d in range(count):
        change_grad[d] = zero
        step_grad[d] = zero
    for n in range(len(b)):
        enter, leave, A_n, h_grad_n, A_grad_n = b[n], c[n], A[n], h_grad[n], A_grad[n]
        before_n, after_n, decay_n = before[n], after[n], decay[n]
        of_enter = of_leave = zero
        for d in range(count):
            grad = h_grad_n[d] + leave * y_grad[d]
            of_leave += after_n[d] * y_grad[d]
            of_enter += grad * change[d]
            change_grad[d] += grad * enter
            grad *= decay_n[d]
            h_grad_n[d] = grad
            of_log = grad * before_n[d]
            step_grad[d] += of_log * A_n[d]
            A_grad_n[d] += of_log * step[d]
        b_grad[n] += of_enter
        c_grad[n] += of_leave


@fast_stage
def _open(y_grad: Any, y: Any, z: Any, grad: Any, z_grad: Any) -> None:
    """Compute the gradients of the output before the gate, and of the gate."""
    one = z.dtype.type(1)  # Numba would convert the result of a float32 and an integer to float64
    for d in range(len(z)):
        opened = sigmoid(z[d])
        grad[d] = z[d] * opened
        z_grad[d] = opened * (one + z[d] * (one - opened))
    for d in range(len(z)):
        grad[d] *= y_grad[d]
        z_grad[d] *= y_grad[d] * y[d]


@fast_stage
def _differentiate_softplus(raw: Any, grad: Any) -> None:
    """Multiply gradients by the derivative of softplus."""
    for d in range(len(grad)):
        grad[d] *= sigmoid(raw[d])


@fast_kernel
def scan_forward(
    u: Any, delta: Any, A: Any, B: Any, C: Any, D: Any, z: Any, bias: Any, offset: Any, initial: Any,
    reverse: bool, use_softplus: bool, first: int, last: int, y: Any, final: Any, checkpoints: Any,
) -> None:  # fmt: skip
    """Scan some sequences.

    Args:
        u: (T, D) input.
        delta: (T, D) step sizes before bias and softplus.
        A: (N, D) decay rates.
        B: (T, N) input matrix.
        C: (T, N) output matrix.
        D: (D,) skip weights, or (0,).
        z: (T, D) gate, or (0, D).
        bias: (D,) bias of the step sizes, or (0,).
        offset: (S + 1,) int64 offsets.
        initial: (S, N, D) initial states, or (0, N, D) for zeros.
        reverse: Whether to process each sequence from its last row to its first.
        use_softplus: Whether to apply softplus.
        first: First sequence.
        last: Sequence after the last one.
        y: (T, D) output, which is written.
        final: (S, N, D) states after the last rows, which are written, or (0, N, D).
        checkpoints: (T // TILE + 2, N, D) states at the starts of tiles, which are written, or (0, N, D).
    """
    states, channels = A.shape
    width = min(channels, max(16, _BLOCK_STATES // states))
    # Arrays of whole rows are contiguous, which the compiler must see to vectorise a loop.
    A_block, h = np.empty((states, width), A.dtype), np.empty((states, width), A.dtype)
    step, change = np.empty(width, A.dtype), np.empty(width, A.dtype)
    for left in range(0, channels, width):
        right = min(left + width, channels)
        count = right - left
        A_block[:, :count] = A[:, left:right]
        D_block, bias_block = D[left:right], bias[left:right]
        for s in range(first, last):
            start, end = offset[s], offset[s + 1]
            h[:, :] = 0.0
            if len(initial) > 0:
                h[:, :count] = initial[s, :, left:right]
            for i in range(end - start):
                if len(checkpoints) > 0 and i > 0 and i % TILE == 0:
                    checkpoints[start // TILE + i // TILE - 1, :, left:right] = h[:, :count]
                t = end - 1 - i if reverse else start + i
                u_t, y_t = u[t, left:right], y[t, left:right]
                _prepare(count, u_t, delta[t, left:right], bias_block, use_softplus, step, change)
                _advance(count, step, change, A_block, B[t], C[t], h, y_t)
                if len(D) > 0:
                    add_product(D_block, u_t, y_t)
                if len(z) > 0:
                    gate(z[t, left:right], y_t)
            if len(final) > 0:
                final[s, :, left:right] = h[:, :count]


@fast_kernel
def scan_backward(
    y_grad: Any, final_grad: Any, u: Any, delta: Any, A: Any, B: Any, C: Any, D: Any, z: Any, bias: Any, offset: Any,
    initial: Any, checkpoints: Any, reverse: bool, use_softplus: bool, first: int, last: int,
    u_grad: Any, delta_grad: Any, A_grad: Any, B_grad: Any, C_grad: Any, D_grad: Any, z_grad: Any, bias_grad: Any,
    initial_grad: Any,
) -> None:  # fmt: skip
    """Compute the gradients of some sequences.

    Args:
        y_grad: (T, D) gradient of the output.
        final_grad: (S, N, D) gradient of the states after the last rows, or (0, N, D) for zeros.
        u: See `scan_forward`.
        delta: See `scan_forward`.
        A: See `scan_forward`.
        B: See `scan_forward`.
        C: See `scan_forward`.
        D: See `scan_forward`.
        z: See `scan_forward`.
        bias: See `scan_forward`.
        offset: See `scan_forward`.
        initial: See `scan_forward`.
        checkpoints: States from `scan_forward`.
        reverse: See `scan_forward`.
        use_softplus: See `scan_forward`.
        first: First sequence.
        last: Sequence after the last one.
        u_grad: (T, D) gradient, which is written.
        delta_grad: (T, D) gradient, which is written.
        A_grad: (N, D) gradient of A of these sequences, which is written.
        B_grad: (T, N) gradient, zeros before the call.
        C_grad: (T, N) gradient, zeros before the call.
        D_grad: (D,) gradient of D of these sequences, zeros before the call.
        z_grad: (T, D) gradient, which is written, or (0, D).
        bias_grad: (D,) gradient of the bias of these sequences, zeros before the call.
        initial_grad: (S, N, D) gradient, which is written, or (0, N, D).
    """
    states, channels = A.shape
    width = min(channels, max(16, _BLOCK_STATES // states))
    A_block, A_sum = np.empty((states, width), A.dtype), np.empty((states, width), A.dtype)
    h = np.empty((TILE + 1, states, width), A.dtype)
    decay = np.empty((TILE, states, width), A.dtype)
    h_grad = np.empty((states, width), A.dtype)
    step, change = np.empty((TILE, width), A.dtype), np.empty((TILE, width), A.dtype)
    y = np.empty((TILE, width), A.dtype)
    grad, change_grad, raw = np.empty(width, A.dtype), np.empty(width, A.dtype), np.empty(width, A.dtype)
    for left in range(0, channels, width):
        right = min(left + width, channels)
        count = right - left
        A_block[:, :count] = A[:, left:right]
        A_sum[:, :] = 0.0
        D_block, bias_block = D[left:right], bias[left:right]
        D_sum, bias_sum = D_grad[left:right], bias_grad[left:right]
        for s in range(first, last):
            start, end = offset[s], offset[s + 1]
            h_grad[:, :] = 0.0
            if len(final_grad) > 0:
                h_grad[:, :count] = final_grad[s, :, left:right]
            for tile in range((end - start + TILE - 1) // TILE - 1, -1, -1):
                begin = tile * TILE
                rows = min(TILE, end - start - begin)
                if tile > 0:
                    h[0, :, :count] = checkpoints[start // TILE + tile - 1, :, left:right]
                elif len(initial) > 0:
                    h[0, :, :count] = initial[s, :, left:right]
                else:
                    h[0, :, :] = 0.0
                for i in range(rows):
                    t = end - 1 - begin - i if reverse else start + begin + i
                    _prepare(
                        count, u[t, left:right], delta[t, left:right], bias_block, use_softplus, step[i], change[i]
                    )
                    _advance_again(
                        count, step[i], change[i], A_block, B[t], C[t], h[i], h[i + 1], decay[i], y[i]
                    )  # fmt: skip
                for i in range(rows - 1, -1, -1):
                    t = end - 1 - begin - i if reverse else start + begin + i
                    u_t, u_grad_t, delta_grad_t = u[t, left:right], u_grad[t, left:right], delta_grad[t, left:right]
                    y_grad_t, y_i, step_i = y_grad[t, left:right], y[i], step[i]
                    grad[:count] = y_grad_t
                    if len(z) > 0:
                        if len(D) > 0:
                            add_product(D_block, u_t, y_i[:count])
                        _open(y_grad_t, y_i, z[t, left:right], grad, z_grad[t, left:right])
                    _go_back(
                        count, grad, step_i, change[i], A_block, B[t], C[t], h[i], h[i + 1], decay[i],
                        h_grad, change_grad, delta_grad_t, A_sum, B_grad[t], C_grad[t],
                    )  # fmt: skip
                    multiply(step_i, change_grad, u_grad_t)
                    add_product(u_t, change_grad, delta_grad_t)
                    if len(D) > 0:
                        add_product(D_block, grad, u_grad_t)
                        add_product(u_t, grad, D_sum)
                    if use_softplus:
                        raw[:count] = delta[t, left:right]
                        if len(bias) > 0:
                            add(bias_block, raw[:count])
                        _differentiate_softplus(raw, delta_grad_t)
                    if len(bias) > 0:
                        add(delta_grad_t, bias_sum)
            if len(initial_grad) > 0:
                initial_grad[s, :, left:right] = h_grad[:, :count]
        A_grad[:, left:right] = A_sum[:, :count]
