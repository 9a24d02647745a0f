"""Triton kernels of Mamba-2's recurrence: chunks of steps by matrix products, the state between them in one program.

Within a chunk let s_i be the sum of Delta A over its steps up to and with i, and H its first state. Then::

    y_i = sum over j <= i of exp(s_i - s_j) <C_i, B_j> Delta_j x_j + exp(s_i) H C_i

and the state behind the chunk is exp(s_last) H + sum over j of exp(s_last - s_j) Delta_j x_j B_j^T. Only differences of
sums are exponentiated, which are not positive where A is not, so that nothing overflows.

A first kernel makes the steps and their sums. Forward, one program walks over one sequence with one head. Backward,
one program walks from the end of a sequence over its chunks, and in each chunk over several heads, whose gradients of B
and C it sums; what a chunk hands back to the one before it waits in a scratch that belongs to the program alone. All
sums run in one order, without atomics.

The gradient with respect to Delta_t A is the sum over all pairs (i, j), j < t <= i, of what s_i - s_j gets, where a
state before the chunk is a j and a state behind it an i. The pair (t, t) would cancel and is left out. The backward
kernel gives what each step gets as i and as j, and a last kernel sums it.

Loops to a loaded number are written as ``while``: Triton 3.6's interpreter cannot count to one with ``range`` under
NumPy 2.4.
"""

import triton
import triton.language as tl

from supa_mamba.kernel_math import sigmoid, softplus

LOG2_E = tl.constexpr(1.4426950408889634)


@triton.jit
def product(a, b, ROUND: tl.constexpr, OPERAND: tl.constexpr, PRECISION: tl.constexpr):
    return tl.dot(a.to(ROUND).to(OPERAND), b.to(ROUND).to(OPERAND), input_precision=PRECISION)


@triton.jit
def plus_product(c, a, b, ROUND: tl.constexpr, OPERAND: tl.constexpr, PRECISION: tl.constexpr):
    return tl.dot(a.to(ROUND).to(OPERAND), b.to(ROUND).to(OPERAND), c, input_precision=PRECISION, out_dtype=c.dtype)


@triton.jit
def steps_of(delta_ptr, bias_ptr, row, h, live, stride, SOFTPLUS: tl.constexpr, DTYPE: tl.constexpr):
    raw = tl.load(delta_ptr + (row * stride)[:, None] + h[None, :], live, 0.0).to(DTYPE)
    if bias_ptr is not None:
        raw += tl.load(bias_ptr + h)[None, :]
    step = raw
    if SOFTPLUS:
        step = softplus(raw)
    return raw, tl.where(live, step, 0.0)


@triton.jit(do_not_specialize=["rows"])
def steps_kernel(
    delta_ptr,
    A_ptr,
    bias_ptr,
    offset_ptr,
    step_ptr,
    elapsed_ptr,
    delta_stride,
    rows,
    HEADS: tl.constexpr,
    REVERSE: tl.constexpr,
    SOFTPLUS: tl.constexpr,
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
        _, step = steps_of(delta_ptr, bias_ptr, row, h, live, delta_stride, SOFTPLUS, DTYPE)
        at = row[:, None] + (h.to(tl.int64) * rows)[None, :]
        tl.store(step_ptr + at, step, live)
        tl.store(elapsed_ptr + at, tl.cumsum(step * rate[None, :], 0), live)
        i += CHUNK


@triton.jit(do_not_specialize=["rows"])
def forward_kernel(
    x_ptr,
    step_ptr,
    elapsed_ptr,
    B_ptr,
    C_ptr,
    D_ptr,
    offset_ptr,
    initial_ptr,
    y_ptr,
    final_ptr,
    checkpoint_ptr,
    x_stride,
    B_stride,
    C_stride,
    rows,
    HEADS: tl.constexpr,
    GROUPS: tl.constexpr,
    WIDTH: tl.constexpr,
    STATES: tl.constexpr,
    REVERSE: tl.constexpr,
    CHUNK: tl.constexpr,
    SAVED: tl.constexpr,
    WIDTH_BLOCK: tl.constexpr,
    STATE_BLOCK: tl.constexpr,
    DTYPE: tl.constexpr,
    ROUND: tl.constexpr,
    OPERAND: tl.constexpr,
    PRECISION: tl.constexpr,
):
    slices: tl.constexpr = (WIDTH + WIDTH_BLOCK - 1) // WIDTH_BLOCK
    all_states: tl.constexpr = HEADS * WIDTH * STATES
    head = tl.program_id(0) % (HEADS * slices) // slices
    sequence = (tl.program_id(0) // (HEADS * slices)).to(tl.int64)
    p = tl.program_id(0) % slices * WIDTH_BLOCK + tl.arange(0, WIDTH_BLOCK)
    n = tl.arange(0, STATE_BLOCK)
    q = tl.arange(0, CHUNK)
    away = -q if REVERSE else q
    live_p, live_n = p < WIDTH, n < STATES
    live_state = live_p[:, None] & live_n[None, :]
    of_group = head // (HEADS // GROUPS) * STATES + n
    of_state = (head * WIDTH + p)[:, None] * STATES + n[None, :]
    x_ptr += head * WIDTH
    y_ptr += head * WIDTH
    step_ptr += head.to(tl.int64) * rows
    elapsed_ptr += head.to(tl.int64) * rows
    start, end = tl.load(offset_ptr + sequence), tl.load(offset_ptr + sequence + 1)
    length = end - start

    if D_ptr is not None:
        skip = tl.load(D_ptr + head)
    h = tl.zeros((WIDTH_BLOCK, STATE_BLOCK), DTYPE)
    if initial_ptr is not None:
        h += tl.load(initial_ptr + sequence * all_states + of_state, live_state, 0.0)

    i = length * 0
    while i < length:
        # Only the first row is addressed in 64 bits, and the others from there.
        first = end - 1 - i if REVERSE else start + i
        count = tl.minimum(length - i, CHUNK).to(tl.int32)
        last = first - (count - 1) if REVERSE else first + (count - 1)
        live = q < count
        live_x, live_b = live[:, None] & live_p[None, :], live[:, None] & live_n[None, :]
        step = tl.load(step_ptr + first + away, live, 0.0)
        whole = tl.load(elapsed_ptr + last)
        elapsed = tl.where(live, tl.load(elapsed_ptr + first + away, live, 0.0), whole)
        b = tl.load(B_ptr + first * B_stride + (away * B_stride)[:, None] + of_group[None, :], live_b, 0.0)
        c = tl.load(C_ptr + first * C_stride + (away * C_stride)[:, None] + of_group[None, :], live_b, 0.0)
        x = tl.load(x_ptr + first * x_stride + (away * x_stride)[:, None] + p[None, :], live_x, 0.0)

        y = tl.zeros((CHUNK, WIDTH_BLOCK), DTYPE)
        if (i > 0) | (initial_ptr is not None):
            y = product(c, tl.trans(h), ROUND, OPERAND, PRECISION) * tl.exp2(elapsed)[:, None]
        earlier = q[:, None] >= q[None, :]
        decay = tl.exp2(tl.where(earlier, elapsed[:, None] - elapsed[None, :], float("-inf")))
        mixed = product(c, tl.trans(b), ROUND, OPERAND, PRECISION) * decay * step[None, :]
        y = plus_product(y, mixed, x, ROUND, OPERAND, PRECISION)
        if D_ptr is not None:
            y += skip * x.to(DTYPE)
        of_y = (away * (HEADS * WIDTH))[:, None] + p[None, :]
        tl.store(y_ptr + first * (HEADS * WIDTH) + of_y, y, live_x)

        i += CHUNK
        if (i < length) | (final_ptr is not None):
            entering = b.to(DTYPE) * (tl.exp2(whole - elapsed) * step)[:, None]
            h = plus_product(h * tl.exp2(whole), tl.trans(x), entering, ROUND, OPERAND, PRECISION)
            if checkpoint_ptr is not None:  # noqa: SIM102 settled when the kernel is compiled
                if (i < length) & (i % SAVED == 0):
                    slot = start // SAVED + i // SAVED - 1
                    tl.store(checkpoint_ptr + slot * all_states + of_state, h, live_state)
    if final_ptr is not None:
        tl.store(final_ptr + sequence * all_states + of_state, h, live_state)


@triton.jit(do_not_specialize=["rows", "sequences"])
def backward_kernel(
    x_ptr,
    step_ptr,
    elapsed_ptr,
    B_ptr,
    C_ptr,
    D_ptr,
    offset_ptr,
    initial_ptr,
    checkpoint_ptr,
    y_grad_ptr,
    final_grad_ptr,
    scratch_ptr,
    x_grad_ptr,
    row_sums_ptr,
    B_grad_ptr,
    C_grad_ptr,
    initial_grad_ptr,
    x_stride,
    B_stride,
    C_stride,
    y_grad_stride,
    rows,
    sequences,
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
    programs: tl.constexpr = GROUPS * parts * slices
    all_states: tl.constexpr = HEADS * WIDTH * STATES
    slice_ = tl.program_id(0) % slices
    part = tl.program_id(0) // slices % parts
    group = tl.program_id(0) // (slices * parts) % GROUPS
    first_head = (group * parts + part) * HEAD_BLOCK
    p = slice_ * WIDTH_BLOCK + tl.arange(0, WIDTH_BLOCK)
    n = tl.arange(0, STATE_BLOCK)
    q = tl.arange(0, CHUNK)
    away = -q if REVERSE else q
    live_p, live_n = p < WIDTH, n < STATES
    live_state = live_p[:, None] & live_n[None, :]
    of_group = group * STATES + n
    of_scratch = tl.arange(0, WIDTH_BLOCK)[:, None] * STATE_BLOCK + n[None, :]
    scratch_ptr += tl.program_id(0).to(tl.int64) * (HEAD_BLOCK * WIDTH_BLOCK * STATE_BLOCK)
    of_partial = (part * slices + slice_).to(tl.int64) * rows
    to_next_sum = rows.to(tl.int64) * (HEADS * slices)

    sequence = (tl.program_id(0) // programs).to(tl.int64)
    while sequence < sequences:
        start, end = tl.load(offset_ptr + sequence), tl.load(offset_ptr + sequence + 1)
        length = end - start
        # An empty sequence, too, has a chunk, which hands the gradient of its state through.
        i = tl.maximum((length - 1) // CHUNK, 0) * CHUNK
        while i >= 0:
            first = end - 1 - i if REVERSE else start + i
            count = tl.minimum(length - i, CHUNK).to(tl.int32)
            last = first - (count - 1) if REVERSE else first + (count - 1)
            live = q < count
            live_x, live_b = live[:, None] & live_p[None, :], live[:, None] & live_n[None, :]
            b = tl.load(B_ptr + first * B_stride + (away * B_stride)[:, None] + of_group[None, :], live_b, 0.0)
            c = tl.load(C_ptr + first * C_stride + (away * C_stride)[:, None] + of_group[None, :], live_b, 0.0)
            # All squares below have a row for the step j that enters, and a column for the step i that leaves.
            paired = product(b, tl.trans(c), ROUND, OPERAND, PRECISION)
            paired_grad = tl.zeros((CHUNK, CHUNK), DTYPE)
            B_grad = tl.zeros((CHUNK, STATE_BLOCK), DTYPE)
            C_grad = tl.zeros((CHUNK, STATE_BLOCK), DTYPE)
            for k in tl.range(0, HEAD_BLOCK, num_stages=STAGES):
                head = first_head + k
                of_x = head * WIDTH + p
                of_state = of_x[:, None] * STATES + n[None, :]
                of_steps = head.to(tl.int64) * rows + first
                x = tl.load(x_ptr + first * x_stride + (away * x_stride)[:, None] + of_x[None, :], live_x, 0.0)
                of_y = first * y_grad_stride + (away * y_grad_stride)[:, None]
                y_grad = tl.load(y_grad_ptr + of_y + of_x[None, :], live_x, 0.0)
                step = tl.load(step_ptr + of_steps + away, live, 0.0)
                whole = tl.load(elapsed_ptr + head.to(tl.int64) * rows + last, count > 0, 0.0)
                elapsed = tl.where(live, tl.load(elapsed_ptr + of_steps + away, live, 0.0), whole)

                later = q[:, None] <= q[None, :]
                decay = tl.exp2(tl.where(later, elapsed[None, :] - elapsed[:, None], float("-inf")))
                weighted = product(x, tl.trans(y_grad), ROUND, OPERAND, PRECISION) * decay * step[:, None]
                paired_grad += weighted
                change_grad = product(paired * decay, y_grad, ROUND, OPERAND, PRECISION)
                weighted = tl.where(q[:, None] < q[None, :], weighted * paired, 0.0)
                of_sums = slice_.to(tl.int64) * HEADS * rows + of_steps + away
                as_j = tl.sum(weighted, 1)
                as_i = tl.sum(weighted, 0)

                state_grad = tl.load(
                    scratch_ptr + k * (WIDTH_BLOCK * STATE_BLOCK) + of_scratch,
                    live_state & (i + CHUNK < length), 0.0,
                )  # fmt: skip
                if final_grad_ptr is not None:
                    state_grad += tl.load(
                        final_grad_ptr + sequence * all_states + of_state, live_state & (i + CHUNK >= length), 0.0
                    )
                entering = tl.zeros((CHUNK,), DTYPE)
                if (i + CHUNK < length) | (final_grad_ptr is not None):
                    to_end = tl.exp2(whole - elapsed)
                    handed = product(b, tl.trans(state_grad), ROUND, OPERAND, PRECISION) * to_end[:, None]
                    change_grad += handed
                    entering = tl.sum(handed * x.to(DTYPE), 1) * step
                    entered = x.to(DTYPE) * (to_end * step)[:, None]
                    B_grad = plus_product(B_grad, entered, state_grad, ROUND, OPERAND, PRECISION)
                leaving = tl.zeros((CHUNK,), DTYPE)
                if (i > 0) | (initial_ptr is not None):
                    slot = start // CHUNK + i // CHUNK - 1
                    state = tl.load(
                        checkpoint_ptr + slot * all_states + of_state, live_state & (i > 0), 0.0
                    ).to(DTYPE)  # fmt: skip
                    if initial_ptr is not None:
                        state += tl.load(initial_ptr + sequence * all_states + of_state, live_state & (i == 0), 0.0)
                    since = tl.exp2(elapsed)
                    left = product(y_grad, state, ROUND, OPERAND, PRECISION) * since[:, None]
                    C_grad += left
                    through = tl.sum(tl.sum(state * state_grad, 1), 0) * tl.exp2(whole)
                    leaving = tl.sum(left * c.to(DTYPE), 1) + tl.where(q == count - 1, through, 0.0)
                    leave = c.to(DTYPE) * since[:, None]
                    state_grad = plus_product(
                        state_grad * tl.exp2(whole), tl.trans(y_grad), leave, ROUND, OPERAND, PRECISION
                    )
                    tl.store(
                        scratch_ptr + k * (WIDTH_BLOCK * STATE_BLOCK) + of_scratch, state_grad, live_state & (i > 0)
                    )
                    if initial_ptr is not None:
                        tl.store(initial_grad_ptr + sequence * all_states + of_state, state_grad, live_state & (i == 0))
                tl.store(row_sums_ptr + of_sums, as_i, live)
                tl.store(row_sums_ptr + to_next_sum + of_sums, leaving - as_j, live)
                tl.store(row_sums_ptr + 2 * to_next_sum + of_sums, entering, live)
                tl.store(row_sums_ptr + 3 * to_next_sum + of_sums, tl.sum(change_grad * x.to(DTYPE), 1), live)

                x_grad = change_grad * step[:, None]
                if D_ptr is not None:
                    x_grad += tl.load(D_ptr + head) * y_grad.to(DTYPE)
                    passed = tl.sum(x.to(DTYPE) * y_grad.to(DTYPE), 1)
                    tl.store(row_sums_ptr + 4 * to_next_sum + of_sums, passed, live)
                of_x_grad = first * (HEADS * WIDTH) + (away * (HEADS * WIDTH))[:, None]
                tl.store(x_grad_ptr + of_x_grad + of_x[None, :], x_grad, live_x)
            B_grad = plus_product(B_grad, paired_grad, c, ROUND, OPERAND, PRECISION)
            C_grad = plus_product(C_grad, tl.trans(paired_grad), b, ROUND, OPERAND, PRECISION)
            of_rows = (of_partial + first) * (GROUPS * STATES) + (away * (GROUPS * STATES))[:, None] + of_group[None, :]
            tl.store(B_grad_ptr + of_rows, B_grad, live_b)
            tl.store(C_grad_ptr + of_rows, C_grad, live_b)
            i -= CHUNK
            # The scratch is read in the next chunk, perhaps by other lanes than those which wrote it.
            tl.debug_barrier()
        sequence += tl.num_programs(0) // programs


@triton.jit(do_not_specialize=["rows", "sequences"])
def step_gradients_kernel(
    delta_ptr,
    A_ptr,
    bias_ptr,
    offset_ptr,
    row_sums_ptr,
    delta_grad_ptr,
    head_sums_ptr,
    delta_stride,
    rows,
    sequences,
    HEADS: tl.constexpr,
    SLICES: tl.constexpr,
    SKIPPED: tl.constexpr,
    REVERSE: tl.constexpr,
    SOFTPLUS: tl.constexpr,
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
    to_next_sum = rows.to(tl.int64) * (HEADS * SLICES)
    sequence = tl.program_id(0).to(tl.int64)
    while sequence < sequences:
        start, end = tl.load(offset_ptr + sequence), tl.load(offset_ptr + sequence + 1)
        i = (end - start) * 0
        while i < end - start:
            row = start + i + q
            if REVERSE:
                row = end - 1 - i - q
            live = (i + q < end - start)[:, None] & real[None, :]
            raw, step = steps_of(delta_ptr, bias_ptr, row, h, live, delta_stride, SOFTPLUS, DTYPE)
            leaving = tl.zeros((CHUNK, LANES), DTYPE)
            entering, direct, passed = leaving, leaving, leaving
            for slice_ in tl.static_range(SLICES):
                at = row_sums_ptr + row[:, None] + ((h + slice_ * HEADS).to(tl.int64) * rows)[None, :]
                leaving += tl.load(at, live, 0.0) + tl.load(at + to_next_sum, live, 0.0)
                entering += tl.load(at + 2 * to_next_sum, live, 0.0)
                direct += tl.load(at + 3 * to_next_sum, live, 0.0)
                if SKIPPED:
                    passed += tl.load(at + 4 * to_next_sum, live, 0.0)
            decay_grad = tl.cumsum(leaving, 0, reverse=True) + tl.cumsum(entering, 0) - entering
            step_grad = direct + A[None, :] * decay_grad
            if SOFTPLUS:
                step_grad *= tl.where(raw > 20.0, 1.0, sigmoid(raw))
            step_grad = tl.where(live, step_grad, 0.0)
            tl.store(delta_grad_ptr + (row * HEADS)[:, None] + h[None, :], step_grad, live)
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
