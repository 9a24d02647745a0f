"""Kernel for the gradients of B and C, and for the contributions of each row to those of Delta, A and D."""

import triton
import triton.language as tl

from supa_mamba.ops.kernel_math import mask_if
from supa_mamba.ops.ssd.kernels.products import product, within


@triton.jit
def load_head(
    x_ptr, y_grad_ptr, step_ptr, elapsed_ptr, x_stride, y_grad_stride, first, away, of_x, of_steps, q, live_x
):  # fmt: skip
    x = tl.load(x_ptr + first * x_stride + (away * x_stride)[:, None] + of_x[None, :], live_x, 0.0)
    of_y = first * y_grad_stride + (away * y_grad_stride)[:, None]
    y_grad = tl.load(y_grad_ptr + of_y + of_x[None, :], live_x, 0.0)
    step = tl.load(step_ptr + of_steps + q)
    elapsed = tl.load(elapsed_ptr + of_steps + q)
    return x, y_grad, step, elapsed


@triton.jit(do_not_specialize=["rows", "chunk_count"])
def pairs_kernel(
    x_ptr,
    step_ptr,
    elapsed_ptr,
    B_ptr,
    C_ptr,
    offset_ptr,
    initial_ptr,
    state_ptr,
    y_grad_ptr,
    final_grad_ptr,
    state_grad_ptr,
    row_sums_ptr,
    B_grad_ptr,
    C_grad_ptr,
    x_stride,
    B_stride,
    C_stride,
    y_grad_stride,
    partial_stride,
    rows,
    chunk_count,
    HEADS: tl.constexpr,
    GROUPS: tl.constexpr,
    WIDTH: tl.constexpr,
    STATES: tl.constexpr,
    REVERSE: tl.constexpr,
    CHUNK: tl.constexpr,
    WIDTH_BLOCK: tl.constexpr,
    STATE_BLOCK: tl.constexpr,
    HEAD_BLOCK: tl.constexpr,
    STAGES: tl.constexpr,
    DTYPE: tl.constexpr,
    ROUND: tl.constexpr,
    OPERAND: tl.constexpr,
    PRECISION: tl.constexpr,
):
    slices: tl.constexpr = (WIDTH + WIDTH_BLOCK - 1) // WIDTH_BLOCK
    parts: tl.constexpr = HEADS // GROUPS // HEAD_BLOCK
    all_states: tl.constexpr = HEADS * WIDTH * STATES
    slice_ = tl.program_id(0) % slices
    part = tl.program_id(0) // slices % parts
    group = tl.program_id(0) // (slices * parts) % GROUPS
    sequence = (tl.program_id(0) // (GROUPS * parts * slices)).to(tl.int64)
    first_head = (group * parts + part) * HEAD_BLOCK
    p = slice_ * WIDTH_BLOCK + tl.arange(0, WIDTH_BLOCK)
    n = tl.arange(0, STATE_BLOCK)
    q = tl.arange(0, CHUNK)
    away = -q if REVERSE else q
    live_state = within(p < WIDTH, n, STATES, STATE_BLOCK)
    of_group = group * STATES + n
    of_partial = (part * slices + slice_).to(tl.int64) * rows
    to_next_sum = chunk_count.to(tl.int64) * (HEADS * slices * CHUNK)
    start, end = tl.load(offset_ptr + sequence), tl.load(offset_ptr + sequence + 1)
    length = end - start

    i = length * 0
    while i < length:
        first = end - 1 - i if REVERSE else start + i
        live = q < tl.minimum(length - i, CHUNK).to(tl.int32)
        live_x, live_b = within(live, p, WIDTH, WIDTH_BLOCK), within(live, n, STATES, STATE_BLOCK)
        of_chunk = start // CHUNK + sequence + i // CHUNK
        before = start // CHUNK + i // CHUNK - 1
        b = tl.load(B_ptr + first * B_stride + (away * B_stride)[:, None] + of_group[None, :], live_b, 0.0)
        c = tl.load(C_ptr + first * C_stride + (away * C_stride)[:, None] + of_group[None, :], live_b, 0.0)
        # The (CHUNK, CHUNK) matrices below have a row for each input row j and a column for each output row i.
        paired = product(b, tl.trans(c), ROUND, OPERAND, PRECISION).to(ROUND)
        self_paired = tl.sum(tl.where(q[:, None] == q[None, :], paired.to(DTYPE), 0.0), 1)
        paired = tl.where(q[:, None] < q[None, :], paired, 0.0)
        paired_grad = tl.zeros((CHUNK, CHUNK), DTYPE)
        # First pairs within the chunk, then pairs with its states: both together would exceed the registers.
        for k in tl.range(0, HEAD_BLOCK, num_stages=STAGES):
            head = first_head + k
            of_x = head * WIDTH + p
            of_steps = (head.to(tl.int64) * chunk_count + of_chunk) * CHUNK
            x, y_grad, step, elapsed = load_head(
                x_ptr, y_grad_ptr, step_ptr, elapsed_ptr, x_stride, y_grad_stride, first, away, of_x, of_steps, q,
                live_x,
            )  # fmt: skip

            product_grad = product(x, tl.trans(y_grad), ROUND, OPERAND, PRECISION)
            between = tl.where(q[:, None] <= q[None, :], elapsed[None, :] - elapsed[:, None], float("-inf"))
            decayed = product_grad * tl.exp2(between)
            paired_grad += decayed * step[:, None]
            mixed = decayed * paired.to(DTYPE)
            to_later = tl.sum(mixed, 1)
            passed = tl.sum(tl.where(q[:, None] == q[None, :], product_grad, 0.0), 1)
            sums = row_sums_ptr + (slice_.to(tl.int64) * HEADS * chunk_count * CHUNK + of_steps) + q
            tl.store(sums, to_later + self_paired * passed)
            tl.store(sums + to_next_sum, to_later)
            tl.store(sums + 2 * to_next_sum, tl.sum(mixed * step[:, None], 0))
            tl.store(sums + 3 * to_next_sum, passed)

        B_grad = product(paired_grad, c, ROUND, OPERAND, PRECISION)
        C_grad = product(tl.trans(paired_grad), b, ROUND, OPERAND, PRECISION)
        for k in tl.range(0, HEAD_BLOCK, num_stages=STAGES):
            head = first_head + k
            of_x = head * WIDTH + p
            of_state = of_x[:, None] * STATES + n[None, :]
            of_steps = (head.to(tl.int64) * chunk_count + of_chunk) * CHUNK
            x, y_grad, step, elapsed = load_head(
                x_ptr, y_grad_ptr, step_ptr, elapsed_ptr, x_stride, y_grad_stride, first, away, of_x, of_steps, q,
                live_x,
            )  # fmt: skip
            whole = tl.load(elapsed_ptr + of_steps + CHUNK - 1)
            later, earlier = i + CHUNK < length, i > 0
            state_grad = tl.load(state_grad_ptr + (before + 1) * all_states + of_state, mask_if(later, live_state), 0.0)
            state = tl.load(state_ptr + before * all_states + of_state, mask_if(earlier, live_state), 0.0)
            of_state += sequence * all_states
            if final_grad_ptr is not None:
                at_end = mask_if(i + CHUNK >= length, live_state)
                state_grad += tl.load(final_grad_ptr + of_state, at_end, 0.0).to(ROUND)
            if initial_ptr is not None:
                state += tl.load(initial_ptr + of_state, mask_if(i == 0, live_state), 0.0).to(ROUND)
            leaving, entering = tl.zeros((CHUNK,), DTYPE), tl.zeros((CHUNK,), DTYPE)
            if later | (final_grad_ptr is not None):
                gained = product(x, state_grad, ROUND, OPERAND, PRECISION)
                decay = tl.exp2(whole - elapsed)
                entering = tl.sum(gained * b.to(DTYPE), 1) * decay
                B_grad += gained * (decay * step)[:, None]
            if earlier | (initial_ptr is not None):
                left = product(y_grad, state, ROUND, OPERAND, PRECISION)
                decay = tl.exp2(elapsed)
                through = tl.sum(tl.sum(state.to(DTYPE) * state_grad.to(DTYPE), 1), 0) * tl.exp2(whole)
                leaving = tl.sum(left * c.to(DTYPE), 1) * decay + tl.where(q == CHUNK - 1, through, 0.0)
                C_grad += left * decay[:, None]
            sums = row_sums_ptr + (slice_.to(tl.int64) * HEADS * chunk_count * CHUNK + of_steps) + q
            tl.store(sums + 4 * to_next_sum, leaving)
            tl.store(sums + 5 * to_next_sum, entering)
        of_rows = (of_partial + first) * partial_stride + (away * partial_stride)[:, None] + of_group[None, :]
        tl.store(B_grad_ptr + of_rows, B_grad, live_b)
        tl.store(C_grad_ptr + of_rows, C_grad, live_b)
        i += CHUNK
