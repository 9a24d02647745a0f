"""Triton kernel for steps of the convolution. One program handles one slot and a block of channels.

A lane handles one channel, so that it needs few registers: many programs run at once and hide the latency of the loads.
Loops use ``while`` because of Triton's interpreter; see ``selective_scan.kernels``. No argument depends on the number
of slots, so specialisation of the arguments causes no recompilation.
"""

import triton
import triton.language as tl

from supa_mamba.ops.kernel_math import mask_if, sigmoid


@triton.jit
def inputs_at(
    p, live, state_ptr, cache_ptr, x_ptr, taken, begin, channels, columns, column_stride, step_stride, d, of_state,
    of_x, CIRCULAR: tl.constexpr, DTYPE: tl.constexpr,
):  # fmt: skip
    # Steps p count from the first cached input. The state holds the inputs before it, the latest one in the last column
    # or, in a circular buffer, in the column before ``begin``. The new inputs follow the accepted cached inputs.
    column = columns + p
    if CIRCULAR:
        column += begin
        column = tl.where(column >= columns, column - columns, column)
    seen = tl.load(state_ptr + of_state + column * column_stride, mask_if(p < 0, live), 0.0).to(DTYPE)
    seen += tl.load(x_ptr + (p - taken) * step_stride + of_x, mask_if(p >= taken, live), 0.0).to(DTYPE)
    if cache_ptr is not None:
        seen += tl.load(cache_ptr + p * channels + d, mask_if((p >= 0) & (p < taken), live), 0.0).to(DTYPE)
    return seen


@triton.jit
def shift(
    moved, first, state_ptr, cache_ptr, x_ptr, taken, begin, channels, columns, column_stride, step_stride, d, of_state,
    of_x, live_d, COLUMNS: tl.constexpr, DTYPE: tl.constexpr,
):  # fmt: skip
    column = (first + tl.arange(0, COLUMNS))[:, None]
    live = (column < columns) & live_d[None, :]
    seen = inputs_at(
        moved - columns + column, live, state_ptr, cache_ptr, x_ptr, taken, begin, channels, columns, column_stride,
        step_stride, d[None, :], of_state[None, :], of_x[None, :], False, DTYPE,
    )  # fmt: skip
    # One lane may read a value that another lane overwrites.
    tl.debug_barrier()
    tl.store(state_ptr + of_state[None, :] + column * column_stride, seen, live)


@triton.jit
def step_kernel(
    state_ptr,
    cache_ptr,
    x_ptr,
    weight_ptr,
    bias_ptr,
    accepted_ptr,
    begins_ptr,
    slots_ptr,
    y_ptr,
    slot_stride,
    channel_stride,
    column_stride,
    x_stride,
    step_stride,
    x_channel_stride,
    inputs,
    channels,
    columns,
    SILU: tl.constexpr,
    CIRCULAR: tl.constexpr,
    BLOCK: tl.constexpr,
    WIDTH: tl.constexpr,
    COLUMNS: tl.constexpr,
    AT_ONCE: tl.constexpr,
    DTYPE: tl.constexpr,
):
    blocks = tl.cdiv(channels, BLOCK)
    m = (tl.program_id(0) // blocks).to(tl.int64)
    d = (tl.program_id(0) % blocks) * BLOCK + tl.arange(0, BLOCK)
    slot = tl.load(slots_ptr + m)
    # A finished slot reads and modifies nothing, and its y is zero.
    live_d = mask_if(slot >= 0, d < channels)
    of_state, of_x = d.to(tl.int64) * channel_stride, d.to(tl.int64) * x_channel_stride
    state_ptr += slot * slot_stride
    x_ptr += m * x_stride
    taken = slot * 0
    begin = taken
    if cache_ptr is not None:
        cache_ptr += slot * inputs * channels
        taken = tl.load(accepted_ptr + m, slot >= 0, 0)
    if CIRCULAR:
        # The remainder has the sign of the dividend.
        begin = (tl.load(begins_ptr + m, slot >= 0, 0) % columns + columns) % columns
    bias = tl.zeros((BLOCK,), DTYPE)
    if bias_ptr is not None:
        bias += tl.load(bias_ptr + d, live_d, 0.0)

    i = slot * 0
    while i < inputs:
        y = bias
        for k in tl.static_range(WIDTH):
            weight = tl.load(weight_ptr + d * WIDTH + (WIDTH - 1 - k), live_d, 0.0)
            y += weight * inputs_at(
                taken + i - k, live_d, state_ptr, cache_ptr, x_ptr, taken, begin, channels, columns, column_stride,
                step_stride, d, of_state, of_x, CIRCULAR, DTYPE,
            )  # fmt: skip
        if SILU:
            y *= sigmoid(y)
        tl.store(y_ptr + (m * inputs + i) * channels + d, tl.where(slot >= 0, y, 0.0), d < channels)
        i += 1
    if CIRCULAR:
        # One lane may read a value that another lane overwrites.
        tl.debug_barrier()
        i = slot * 0
        while i < inputs:
            x = tl.load(x_ptr + i * step_stride + of_x, live_d, 0.0).to(DTYPE)
            tl.store(state_ptr + of_state + begin * column_stride, x, live_d)
            i += 1
            begin = tl.where(begin + 1 == columns, 0, begin + 1)
    else:
        moved = taken
        if cache_ptr is None:
            moved = taken + inputs
        # Columns are written in ascending order, and each new value comes from a later column or an input, so no column
        # is overwritten before it is read.
        if AT_ONCE:
            shift(
                moved, 0, state_ptr, cache_ptr, x_ptr, taken, begin, channels, columns, column_stride, step_stride,
                d, of_state, of_x, live_d, COLUMNS, DTYPE,
            )  # fmt: skip
        else:
            first = slot * 0
            while first < columns:
                shift(
                    moved, first, state_ptr, cache_ptr, x_ptr, taken, begin, channels, columns, column_stride,
                    step_stride, d, of_state, of_x, live_d, COLUMNS, DTYPE,
                )  # fmt: skip
                first += COLUMNS
    if cache_ptr is not None:
        i = slot * 0
        while i < inputs:
            tl.store(cache_ptr + i * channels + d, tl.load(x_ptr + i * step_stride + of_x, live_d, 0.0), live_d)
            i += 1
