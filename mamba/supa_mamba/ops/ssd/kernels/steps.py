"""Kernels for the step sizes and their gradients."""

import triton
import triton.language as tl

from supa_mamba.ops.kernel_math import LOG2_E, sigmoid, softplus


@triton.jit
def steps_of(
    dt_ptr, bias_ptr, row, h, live, stride,
    SOFTPLUS: tl.constexpr, LIMITED: tl.constexpr, DT_MIN: tl.constexpr, DT_MAX: tl.constexpr, DTYPE: tl.constexpr,
):  # fmt: skip
    raw = tl.load(dt_ptr + (row * stride)[:, None] + h[None, :], live, 0.0).to(DTYPE)
    if bias_ptr is not None:
        raw += tl.load(bias_ptr + h)[None, :]
    step = raw
    if SOFTPLUS:
        step = softplus(raw)
    free = live  # step sizes that are not clamped
    if LIMITED:
        low, high = tl.full((), DT_MIN, DTYPE), tl.full((), DT_MAX, DTYPE)
        free = live & (step >= low) & (step <= high)
        step = tl.where(step < low, low, tl.where(step > high, high, step))
    return raw, tl.where(live, step, 0.0), free


@triton.jit(do_not_specialize=["chunk_count"])
def steps_kernel(
    dt_ptr,
    A_ptr,
    bias_ptr,
    offset_ptr,
    step_ptr,
    elapsed_ptr,
    dt_stride,
    chunk_count,
    HEADS: tl.constexpr,
    REVERSE: tl.constexpr,
    SOFTPLUS: tl.constexpr,
    LIMITED: tl.constexpr,
    DT_MIN: tl.constexpr,
    DT_MAX: tl.constexpr,
    CHUNK: tl.constexpr,
    LANES: tl.constexpr,
    DTYPE: tl.constexpr,
):
    sequence = tl.program_id(0).to(tl.int64)
    h = tl.program_id(1) * LANES + tl.arange(0, LANES)
    real = h < HEADS
    h = tl.where(real, h, HEADS - 1)
    q = tl.arange(0, CHUNK)
    start, end = tl.load(offset_ptr + sequence), tl.load(offset_ptr + sequence + 1)
    rate = tl.load(A_ptr + h) * LOG2_E
    i = (end - start) * 0
    while i < end - start:
        row = start + i + q
        if REVERSE:
            row = end - 1 - i - q
        live = (i + q < end - start)[:, None] & real[None, :]
        _, step, _ = steps_of(dt_ptr, bias_ptr, row, h, live, dt_stride, SOFTPLUS, LIMITED, DT_MIN, DT_MAX, DTYPE)
        at = ((start // CHUNK + sequence) * CHUNK + i + q)[:, None] + (h.to(tl.int64) * chunk_count * CHUNK)[None, :]
        tl.store(step_ptr + at, step, real[None, :])
        tl.store(elapsed_ptr + at, tl.cumsum(step * rate[None, :], 0), real[None, :])
        i += CHUNK


@triton.jit(do_not_specialize=["chunk_count", "sequences"])
def step_gradients_kernel(
    dt_ptr,
    A_ptr,
    bias_ptr,
    offset_ptr,
    row_sums_ptr,
    dt_grad_ptr,
    head_sums_ptr,
    dt_stride,
    dt_grad_stride,
    chunk_count,
    sequences,
    HEADS: tl.constexpr,
    SLICES: tl.constexpr,
    REVERSE: tl.constexpr,
    SOFTPLUS: tl.constexpr,
    LIMITED: tl.constexpr,
    DT_MIN: tl.constexpr,
    DT_MAX: tl.constexpr,
    CHUNK: tl.constexpr,
    LANES: tl.constexpr,
    DTYPE: tl.constexpr,
):
    h = tl.program_id(1) * LANES + tl.arange(0, LANES)
    real = h < HEADS
    h = tl.where(real, h, HEADS - 1)
    q = tl.arange(0, CHUNK)
    A = tl.load(A_ptr + h)
    A_grad = tl.zeros((LANES,), DTYPE)
    D_grad, bias_grad = A_grad, A_grad
    to_next_sum = chunk_count.to(tl.int64) * (HEADS * SLICES * CHUNK)
    sequence = tl.program_id(0).to(tl.int64)
    while sequence < sequences:
        start, end = tl.load(offset_ptr + sequence), tl.load(offset_ptr + sequence + 1)
        i = (end - start) * 0
        while i < end - start:
            row = start + i + q
            if REVERSE:
                row = end - 1 - i - q
            live = (i + q < end - start)[:, None] & real[None, :]
            raw, step, free = steps_of(
                dt_ptr, bias_ptr, row, h, live, dt_stride, SOFTPLUS, LIMITED, DT_MIN, DT_MAX, DTYPE
            )
            pairs = tl.zeros((CHUNK, LANES), DTYPE)
            entering, direct, passed = pairs, pairs, pairs
            for slice_ in tl.static_range(SLICES):
                of_head = (h + slice_ * HEADS).to(tl.int64) * chunk_count * CHUNK
                at = row_sums_ptr + of_head[None, :] + ((start // CHUNK + sequence) * CHUNK + i + q)[:, None]
                to_states = tl.load(at + 5 * to_next_sum)
                direct += tl.load(at) + to_states
                entering += step * to_states
                pairs += tl.load(at + 2 * to_next_sum) - step * tl.load(at + to_next_sum)
                pairs += tl.load(at + 4 * to_next_sum)
                passed += tl.load(at + 3 * to_next_sum)
            decay_grad = tl.cumsum(pairs, 0, reverse=True) + tl.cumsum(entering, 0) - entering
            step_grad = direct + A[None, :] * decay_grad
            if SOFTPLUS:
                step_grad *= tl.where(raw > 20.0, 1.0, sigmoid(raw))
            step_grad = tl.where(free, step_grad, 0.0)
            tl.store(dt_grad_ptr + (row * dt_grad_stride)[:, None] + h[None, :], step_grad, live)
            A_grad += tl.sum(step * decay_grad, 0)
            D_grad += tl.sum(passed, 0)
            bias_grad += tl.sum(step_grad, 0)
            i += CHUNK
        sequence += tl.num_programs(0)
    of_sums = tl.program_id(0) * HEADS + h
    size = tl.num_programs(0) * HEADS
    tl.store(head_sums_ptr + of_sums, A_grad, real)
    tl.store(head_sums_ptr + size + of_sums, D_grad, real)
    tl.store(head_sums_ptr + 2 * size + of_sums, bias_grad, real)
