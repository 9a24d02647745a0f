"""Compiled loops of the selective scan on a CPU, forward and backward, without padding.

A sequence is processed row by row, in blocks of channels whose states fit into the first-level cache. The inner loops
run over the channels of a block, and the compiler vectorises them. The backward pass starts each tile of rows from a
checkpoint, computes the states of the tile again, and then goes through them in the opposite direction.
"""

from typing import Any

import numpy as np

from supa.compiler import fast_kernel, fast_stage
from supa_mamba.ops.exponential import exponential
from supa_mamba.ops.selective_scan import block_sizes

TILE = block_sizes.TILE
_BLOCK_STATES = 2048  # states of a block of channels


@fast_stage
def _row_of(start: int, end: int, step: int, reverse: bool) -> int:
    return end - 1 - step if reverse else start + step


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
def _advance_again(count: int, step: Any, change: Any, A: Any, b: Any, before: Any, after: Any, decay: Any) -> None:
    """Advance the states of a block by a row, and keep the states and their decay."""
    for n in range(len(b)):
        enter, A_n, before_n, after_n, decay_n = b[n], A[n], before[n], after[n], decay[n]
        for d in range(count):
            factor = exponential(step[d] * A_n[d])
            decay_n[d] = factor
            after_n[d] = factor * before_n[d] + change[d] * enter


@fast_stage
def _go_back(
    count: int, y_grad: Any, step: Any, change: Any, A: Any, b: Any, c: Any, before: Any, after: Any, decay: Any,
    h_grad: Any, change_grad: Any, step_grad: Any, A_grad: Any, b_grad: Any, c_grad: Any,
) -> None:  # fmt: skip
    """Move the gradient of the states of a block to before a row, and add the gradients of the row."""
    for d in range(count):
        change_grad[d] = 0.0
        step_grad[d] = 0.0
    for n in range(len(b)):
        enter, leave, A_n, h_grad_n, A_grad_n = b[n], c[n], A[n], h_grad[n], A_grad[n]
        before_n, after_n, decay_n = before[n], after[n], decay[n]
        of_enter = of_leave = step[0] * 0
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


@fast_kernel
def walk_forward(
    x: Any, step: Any, A: Any, B: Any, C: Any, offset: Any, initial: Any, reverse: bool, first: int, last: int,
    y: Any, final: Any, checkpoints: Any,
) -> None:  # fmt: skip
    """Scan some sequences.

    Args:
        x: (T, D) input.
        step: (T, D) step sizes.
        A: (N, D) decay rates.
        B: (T, N) input matrix.
        C: (T, N) output matrix.
        offset: (S + 1,) int64 offsets.
        initial: (S, N, D) initial states, or (0, N, D) for zeros.
        reverse: Whether to process each sequence from its last row to its first.
        first: First sequence.
        last: Sequence after the last one.
        y: (T, D) output, which is written.
        final: (S, N, D) states after the last rows, which are written, or (0, N, D).
        checkpoints: (T // TILE, N, D) states at the starts of tiles, which are written, or (0, N, D).
    """
    states, channels = A.shape
    width = min(channels, max(16, _BLOCK_STATES // states))
    # Arrays of whole rows are contiguous, which the compiler must see to vectorise a loop.
    A_block, h = np.empty((states, width), A.dtype), np.empty((states, width), A.dtype)
    change = np.empty(width, A.dtype)
    for left in range(0, channels, width):
        right = min(left + width, channels)
        count = right - left
        A_block[:, :count] = A[:, left:right]
        for s in range(first, last):
            start, end = offset[s], offset[s + 1]
            h[:, :] = 0.0
            if len(initial) > 0:
                h[:, :count] = initial[s, :, left:right]
            for i in range(end - start):
                if len(checkpoints) > 0 and i > 0 and i % TILE == 0:
                    checkpoints[start // TILE + i // TILE - 1, :, left:right] = h[:, :count]
                t = _row_of(start, end, i, reverse)
                for d in range(count):
                    change[d] = step[t, left + d] * x[t, left + d]
                _advance(count, step[t, left:right], change, A_block, B[t], C[t], h, y[t, left:right])
            if len(final) > 0:
                final[s, :, left:right] = h[:, :count]


@fast_kernel
def walk_backward(
    y_grad: Any, final_grad: Any, x: Any, step: Any, A: Any, B: Any, C: Any, offset: Any, initial: Any,
    checkpoints: Any, reverse: bool, first: int, last: int,
    x_grad: Any, step_grad: Any, A_grad: Any, B_grad: Any, C_grad: Any, initial_grad: Any,
) -> None:  # fmt: skip
    """Compute the gradients of some sequences.

    Args:
        y_grad: (T, D) gradient of the output.
        final_grad: (S, N, D) gradient of the states after the last rows, or (0, N, D) for zeros.
        x: (T, D) input.
        step: (T, D) step sizes.
        A: (N, D) decay rates.
        B: (T, N) input matrix.
        C: (T, N) output matrix.
        offset: (S + 1,) int64 offsets.
        initial: (S, N, D) initial states, or (0, N, D) for zeros.
        checkpoints: (T // TILE, N, D) states from `walk_forward`.
        reverse: Whether to process each sequence from its last row to its first.
        first: First sequence.
        last: Sequence after the last one.
        x_grad: (T, D) gradient of x, which is written.
        step_grad: (T, D) gradient of the step sizes, which is written.
        A_grad: (N, D) gradient of A of these sequences, which is written.
        B_grad: (T, N) gradient of B, zeros before the call.
        C_grad: (T, N) gradient of C, zeros before the call.
        initial_grad: (S, N, D) gradient of the initial states, which is written, or (0, N, D).
    """
    states, channels = A.shape
    width = min(channels, max(16, _BLOCK_STATES // states))
    A_block, A_sum = np.empty((states, width), A.dtype), np.empty((states, width), A.dtype)
    h = np.empty((TILE + 1, states, width), A.dtype)
    decay = np.empty((TILE, states, width), A.dtype)
    h_grad = np.empty((states, width), A.dtype)
    change, change_grad = np.empty((TILE, width), A.dtype), np.empty(width, A.dtype)
    for left in range(0, channels, width):
        right = min(left + width, channels)
        count = right - left
        A_block[:, :count] = A[:, left:right]
        A_sum[:, :] = 0.0
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
                    t = _row_of(start, end, begin + i, reverse)
                    for d in range(count):
                        change[i, d] = step[t, left + d] * x[t, left + d]
                    _advance_again(count, step[t, left:right], change[i], A_block, B[t], h[i], h[i + 1], decay[i])
                for i in range(rows - 1, -1, -1):
                    t = _row_of(start, end, begin + i, reverse)
                    _go_back(
                        count, y_grad[t, left:right], step[t, left:right], change[i], A_block, B[t], C[t],
                        h[i], h[i + 1], decay[i],
                        h_grad, change_grad, step_grad[t, left:right], A_sum, B_grad[t], C_grad[t],
                    )  # fmt: skip
                    for d in range(count):
                        x_grad[t, left + d] = step[t, left + d] * change_grad[d]
                        step_grad[t, left + d] += x[t, left + d] * change_grad[d]
            if len(initial_grad) > 0:
                initial_grad[s, :, left:right] = h_grad[:, :count]
        A_grad[:, left:right] = A_sum[:, :count]
