"""Triton kernels of Mamba-2's recurrence: chunks of steps by matrix products, the state between them in one program.

Within a chunk let s_i be the sum of Delta A over its steps up to and with i, and H its first state. Then::

    y_i = sum over j <= i of exp(s_i - s_j) <C_i, B_j> Delta_j x_j + exp(s_i) H C_i

and the state behind the chunk is exp(s_last) H + sum over j of exp(s_last - s_j) Delta_j x_j B_j^T. Only differences of
sums are exponentiated, which are not positive where A is not, so that nothing overflows.

A first kernel makes the steps and their sums. In the walking kernel one program walks over one sequence with one head,
and the state stays in registers. The gradient of x is the same walk from the end, with B and C in each other's place:
the gradient of the state is handed back, and the step comes behind the mixing instead of in front of it. Both walks
store the states at the borders of chunks. From these the third kernel makes the gradients of B and C, chunk by chunk,
summed over several heads. All sums run in one order, without atomics.

What is read next is asked for ahead: in the walk by hand, as the compiler's pipelined loop gave wrong numbers there,
and in the third kernel by the compiler, where no states come from outside.

The gradient with respect to Delta_t A is the sum over all pairs (i, j), j < t <= i, of what s_i - s_j gets, where a
state before the chunk is a j and a state behind it an i. The pair (t, t) would cancel and is left out. The third kernel
gives what each step gets as i and as j, and a last one sums it.

Loops to a loaded number are written as ``while``: Triton 3.6's interpreter cannot count to one with ``range`` under
NumPy 2.4.
"""

import triton
import triton.language as tl

from supa_mamba.ops.kernel_math import mask_if, sigmoid, softplus

LOG2_E = tl.constexpr(1.4426950408889634)


@triton.jit
def product(a, b, ROUND: tl.constexpr, OPERAND: tl.constexpr, PRECISION: tl.constexpr):
    return tl.dot(a.to(ROUND).to(OPERAND), b.to(ROUND).to(OPERAND), input_precision=PRECISION)


@triton.jit
def plus_product(c, a, b, ROUND: tl.constexpr, OPERAND: tl.constexpr, PRECISION: tl.constexpr):
    return tl.dot(a.to(ROUND).to(OPERAND), b.to(ROUND).to(OPERAND), c, input_precision=PRECISION, out_dtype=c.dtype)


@triton.jit
def within(rows, columns, size: tl.constexpr, block: tl.constexpr):
    live = rows[:, None]
    if size % block != 0:  # a comparison that always holds would cost registers
        live = live & (columns < size)[None, :]
    return live


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
    free = live  # where the limits leave the step as it is
    if LIMITED:
        low, high = tl.full((), DT_MIN, DTYPE), tl.full((), DT_MAX, DTYPE)
        free = live & (step >= low) & (step <= high)
        step = tl.where(step < low, low, tl.where(step > high, high, step))
    return raw, tl.where(live, step, 0.0), free


@triton.jit(do_not_specialize=["slots"])
def steps_kernel(
    dt_ptr,
    A_ptr,
    bias_ptr,
    offset_ptr,
    step_ptr,
    elapsed_ptr,
    dt_stride,
    slots,
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
        at = ((start // CHUNK + sequence) * CHUNK + i + q)[:, None] + (h.to(tl.int64) * slots * CHUNK)[None, :]
        tl.store(step_ptr + at, step, real[None, :])
        tl.store(elapsed_ptr + at, tl.cumsum(step * rate[None, :], 0), real[None, :])
        i += CHUNK


@triton.jit
def load_chunk(
    x_ptr, B_ptr, C_ptr, x_stride, B_stride, C_stride, first, count, away, q, p, n, of_group,
    WIDTH: tl.constexpr, STATES: tl.constexpr, WIDTH_BLOCK: tl.constexpr, STATE_BLOCK: tl.constexpr,
):  # fmt: skip
    # Only the first row is addressed in 64 bits, and the others from there.
    live = q < count
    live_x, live_b = within(live, p, WIDTH, WIDTH_BLOCK), within(live, n, STATES, STATE_BLOCK)
    x = tl.load(x_ptr + first * x_stride + (away * x_stride)[:, None] + p[None, :], live_x, 0.0)
    b = tl.load(B_ptr + first * B_stride + (away * B_stride)[:, None] + of_group[None, :], live_b, 0.0)
    c = tl.load(C_ptr + first * C_stride + (away * C_stride)[:, None] + of_group[None, :], live_b, 0.0)
    return x, b, c


@triton.jit(do_not_specialize=["slots"])
def walk_kernel(
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
    saved_ptr,
    x_stride,
    B_stride,
    C_stride,
    slots,
    HEADS: tl.constexpr,
    GROUPS: tl.constexpr,
    WIDTH: tl.constexpr,
    STATES: tl.constexpr,
    BACK: tl.constexpr,
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
    live_state = within(p < WIDTH, n, STATES, STATE_BLOCK)
    of_group = head // (HEADS // GROUPS) * STATES + n
    of_state = (head * WIDTH + p)[:, None] * STATES + n[None, :]
    x_ptr += head * WIDTH
    y_ptr += head * WIDTH
    start, end = tl.load(offset_ptr + sequence), tl.load(offset_ptr + sequence + 1)
    length = end - start
    of_steps = (head.to(tl.int64) * slots + start // CHUNK + sequence) * CHUNK

    if D_ptr is not None:
        skip = tl.load(D_ptr + head)
    h = tl.zeros((WIDTH_BLOCK, STATE_BLOCK), DTYPE)
    if initial_ptr is not None:
        h += tl.load(initial_ptr + sequence * all_states + of_state, live_state, 0.0)

    chunks = (length + CHUNK - 1) // CHUNK
    k = chunks * 0
    i = (chunks - 1) * CHUNK if BACK else k
    first, count = end - 1 - i if REVERSE else start + i, tl.minimum(length - i, CHUNK).to(tl.int32)
    x_ahead, b_ahead, c_ahead = load_chunk(
        x_ptr, B_ptr, C_ptr, x_stride, B_stride, C_stride, first, tl.where(chunks > 0, count, 0), away, q, p, n,
        of_group, WIDTH, STATES, WIDTH_BLOCK, STATE_BLOCK,
    )  # fmt: skip
    while k < chunks:
        x, b, c, row = x_ahead, b_ahead, c_ahead, first
        live_x = within(q < count, p, WIDTH, WIDTH_BLOCK)
        step = tl.load(step_ptr + of_steps + i + q)
        elapsed = tl.load(elapsed_ptr + of_steps + i + q)
        whole = tl.load(elapsed_ptr + of_steps + i + CHUNK - 1)
        k += 1
        border = i if BACK else i + CHUNK
        i += -CHUNK if BACK else CHUNK
        first += -CHUNK if BACK != REVERSE else CHUNK
        count = tl.where(k < chunks, tl.minimum(length - i, CHUNK), 0).to(tl.int32)
        x_ahead, b_ahead, c_ahead = load_chunk(
            x_ptr, B_ptr, C_ptr, x_stride, B_stride, C_stride, first, count, away, q, p, n, of_group,
            WIDTH, STATES, WIDTH_BLOCK, STATE_BLOCK,
        )  # fmt: skip

        y = tl.zeros((CHUNK, WIDTH_BLOCK), DTYPE)
        if (k > 1) | (initial_ptr is not None):
            leaving = whole - elapsed if BACK else elapsed
            y = product(c, tl.trans(h), ROUND, OPERAND, PRECISION) * tl.exp2(leaving)[:, None]
        if BACK:
            between = tl.where(q[:, None] <= q[None, :], elapsed[None, :] - elapsed[:, None], float("-inf"))
        else:
            between = tl.where(q[:, None] >= q[None, :], elapsed[:, None] - elapsed[None, :], float("-inf"))
        mixed = product(c, tl.trans(b), ROUND, OPERAND, PRECISION) * tl.exp2(between)
        if not BACK:
            mixed *= step[None, :]
        y = plus_product(y, mixed, x, ROUND, OPERAND, PRECISION)
        if BACK:
            y *= step[:, None]
        if D_ptr is not None:
            y += skip * x.to(DTYPE)
        of_y = (away * (HEADS * WIDTH))[:, None] + p[None, :]
        tl.store(y_ptr + row * (HEADS * WIDTH) + of_y, y, live_x)

        if (k < chunks) | (final_ptr is not None):
            entering = tl.exp2(elapsed) if BACK else tl.exp2(whole - elapsed) * step
            entered = b.to(DTYPE) * entering[:, None]
            h = plus_product(h * tl.exp2(whole), tl.trans(x), entered, ROUND, OPERAND, PRECISION)
            if saved_ptr is not None:  # noqa: SIM102 settled when the kernel is compiled
                if (k < chunks) & (border % SAVED == 0):
                    slot = start // SAVED + border // SAVED - 1
                    tl.store(saved_ptr + slot * all_states + of_state, h, live_state)
    if final_ptr is not None:
        tl.store(final_ptr + sequence * all_states + of_state, h, live_state)


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


@triton.jit(do_not_specialize=["rows", "slots"])
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
    rows,
    slots,
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
    to_next_sum = slots.to(tl.int64) * (HEADS * slices * CHUNK)
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
        # All squares below have a row for the step j that enters, and a column for the step i that leaves.
        paired = product(b, tl.trans(c), ROUND, OPERAND, PRECISION).to(ROUND)
        self_paired = tl.sum(tl.where(q[:, None] == q[None, :], paired.to(DTYPE), 0.0), 1)
        paired = tl.where(q[:, None] < q[None, :], paired, 0.0)
        paired_grad = tl.zeros((CHUNK, CHUNK), DTYPE)
        # Pairs within the chunk, then those with its states: what both need would not fit into the registers at once.
        for k in tl.range(0, HEAD_BLOCK, num_stages=STAGES):
            head = first_head + k
            of_x = head * WIDTH + p
            of_steps = (head.to(tl.int64) * slots + of_chunk) * CHUNK
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
            sums = row_sums_ptr + (slice_.to(tl.int64) * HEADS * slots * CHUNK + of_steps) + q
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
            of_steps = (head.to(tl.int64) * slots + of_chunk) * CHUNK
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
            sums = row_sums_ptr + (slice_.to(tl.int64) * HEADS * slots * CHUNK + of_steps) + q
            tl.store(sums + 4 * to_next_sum, leaving)
            tl.store(sums + 5 * to_next_sum, entering)
        of_rows = (of_partial + first) * (GROUPS * STATES) + (away * (GROUPS * STATES))[:, None] + of_group[None, :]
        tl.store(B_grad_ptr + of_rows, B_grad, live_b)
        tl.store(C_grad_ptr + of_rows, C_grad, live_b)
        i += CHUNK


@triton.jit(do_not_specialize=["slots", "sequences"])
def step_gradients_kernel(
    dt_ptr,
    A_ptr,
    bias_ptr,
    offset_ptr,
    row_sums_ptr,
    dt_grad_ptr,
    head_sums_ptr,
    dt_stride,
    slots,
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
    to_next_sum = slots.to(tl.int64) * (HEADS * SLICES * CHUNK)
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
                of_head = (h + slice_ * HEADS).to(tl.int64) * slots * CHUNK
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
            tl.store(dt_grad_ptr + (row * HEADS)[:, None] + h[None, :], step_grad, live)
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
