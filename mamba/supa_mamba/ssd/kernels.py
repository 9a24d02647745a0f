"""Triton kernels of Mamba-2's recurrence: chunks of steps by matrix products, the state between them in one program.

Within a chunk let s_i be the sum of Delta A over its steps up to and with i, and H its first state. Then::

    y_i = sum over j <= i of exp(s_i - s_j) <C_i, B_j> Delta_j x_j + exp(s_i) H C_i

and the state behind the chunk is exp(s_last) H + sum over j of exp(s_last - s_j) Delta_j x_j B_j^T. Only differences of
sums are exponentiated, which are not positive where A is not, so that nothing overflows.

Forward, one program walks over one sequence with one head. Backward, one program walks from the end of a sequence over
its chunks, and in each chunk over several heads, whose gradients of B and C it sums; what a chunk hands back to the one
before it waits in a scratch that belongs to the program alone. All sums run in one order, without atomics.

The gradient with respect to Delta_t A is the sum over all pairs (i, j), j < t <= i, of what s_i - s_j gets, where a
state before the chunk is a j and a state behind it an i. The pair (t, t) would cancel and is left out.

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
def forward_kernel(
    x_ptr,
    delta_ptr,
    A_ptr,
    B_ptr,
    C_ptr,
    D_ptr,
    bias_ptr,
    offset_ptr,
    initial_ptr,
    y_ptr,
    final_ptr,
    checkpoint_ptr,
    x_stride,
    delta_stride,
    B_stride,
    C_stride,
    HEADS: tl.constexpr,
    GROUPS: tl.constexpr,
    WIDTH: tl.constexpr,
    STATES: tl.constexpr,
    REVERSE: tl.constexpr,
    SOFTPLUS: tl.constexpr,
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
    head = tl.program_id(0) % (HEADS * slices) // slices
    sequence = (tl.program_id(0) // (HEADS * slices)).to(tl.int64)
    p = tl.program_id(0) % slices * WIDTH_BLOCK + tl.arange(0, WIDTH_BLOCK)
    n = tl.arange(0, STATE_BLOCK)
    q = tl.arange(0, CHUNK)
    live_p, live_n = p < WIDTH, n < STATES
    live_state = live_p[:, None] & live_n[None, :]
    of_x = head * WIDTH + p
    of_group = head // (HEADS // GROUPS) * STATES + n
    of_state = of_x[:, None] * STATES + n[None, :]
    start, end = tl.load(offset_ptr + sequence), tl.load(offset_ptr + sequence + 1)
    length = end - start

    rate = tl.load(A_ptr + head) * LOG2_E
    if D_ptr is not None:
        skip = tl.load(D_ptr + head)
    if bias_ptr is not None:
        bias = tl.load(bias_ptr + head)
    h = tl.zeros((WIDTH_BLOCK, STATE_BLOCK), DTYPE)
    if initial_ptr is not None:
        h += tl.load(initial_ptr + sequence * (HEADS * WIDTH * STATES) + of_state, live_state, 0.0)

    i = length * 0
    while i < length:
        live = i + q < length
        t = start + i + q
        if REVERSE:
            t = end - 1 - i - q
        step = tl.load(delta_ptr + t * delta_stride + head, live, 0.0).to(DTYPE)
        b = tl.load(B_ptr + (t * B_stride)[:, None] + of_group[None, :], live[:, None] & live_n[None, :], 0.0)
        c = tl.load(C_ptr + (t * C_stride)[:, None] + of_group[None, :], live[:, None] & live_n[None, :], 0.0)
        x = tl.load(x_ptr + (t * x_stride)[:, None] + of_x[None, :], live[:, None] & live_p[None, :], 0.0)
        if bias_ptr is not None:
            step += bias
        if SOFTPLUS:
            step = softplus(step)
        step = tl.where(live, step, 0.0)
        elapsed = tl.cumsum(step * rate, 0)
        whole = tl.sum(tl.where(q == CHUNK - 1, elapsed, 0.0), 0)

        y = tl.zeros((CHUNK, WIDTH_BLOCK), DTYPE)
        if (i > 0) | (initial_ptr is not None):
            y = product(c, tl.trans(h), ROUND, OPERAND, PRECISION) * tl.exp2(elapsed)[:, None]
        earlier = q[:, None] >= q[None, :]
        decay = tl.exp2(tl.where(earlier, elapsed[:, None] - elapsed[None, :], float("-inf")))
        mixed = product(c, tl.trans(b), ROUND, OPERAND, PRECISION) * decay * step[None, :]
        y = plus_product(y, mixed, x, ROUND, OPERAND, PRECISION)
        if D_ptr is not None:
            y += skip * x.to(DTYPE)
        tl.store(y_ptr + (t * (HEADS * WIDTH))[:, None] + of_x[None, :], y, live[:, None] & live_p[None, :])

        i += CHUNK
        if (i < length) | (final_ptr is not None):
            entering = b.to(DTYPE) * (tl.exp2(whole - elapsed) * step)[:, None]
            h = plus_product(h * tl.exp2(whole), tl.trans(x), entering, ROUND, OPERAND, PRECISION)
            if checkpoint_ptr is not None:  # noqa: SIM102 settled when the kernel is compiled
                if (i < length) & (i % SAVED == 0):
                    slot = start // SAVED + i // SAVED - 1
                    tl.store(checkpoint_ptr + slot * (HEADS * WIDTH * STATES) + of_state, h, live_state)
    if final_ptr is not None:
        tl.store(final_ptr + sequence * (HEADS * WIDTH * STATES) + of_state, h, live_state)


@triton.jit(do_not_specialize=["rows", "sequences", "walkers"])
def backward_kernel(
    x_ptr,
    delta_ptr,
    A_ptr,
    B_ptr,
    C_ptr,
    D_ptr,
    bias_ptr,
    offset_ptr,
    initial_ptr,
    checkpoint_ptr,
    y_grad_ptr,
    final_grad_ptr,
    scratch_ptr,
    x_grad_ptr,
    delta_grad_ptr,
    B_grad_ptr,
    C_grad_ptr,
    head_sums_ptr,
    initial_grad_ptr,
    x_stride,
    delta_stride,
    B_stride,
    C_stride,
    y_grad_stride,
    rows,
    sequences,
    walkers,
    HEADS: tl.constexpr,
    GROUPS: tl.constexpr,
    WIDTH: tl.constexpr,
    STATES: tl.constexpr,
    REVERSE: tl.constexpr,
    SOFTPLUS: tl.constexpr,
    CHUNK: tl.constexpr,
    WIDTH_BLOCK: tl.constexpr,
    STATE_BLOCK: tl.constexpr,
    HEAD_BLOCK: tl.constexpr,
    HEAD_LANES: tl.constexpr,
    STAGES: tl.constexpr,
    DTYPE: tl.constexpr,
    ROUND: tl.constexpr,
    OPERAND: tl.constexpr,
    PRECISION: tl.constexpr,
):
    slices: tl.constexpr = (WIDTH + WIDTH_BLOCK - 1) // WIDTH_BLOCK
    parts: tl.constexpr = HEADS // GROUPS // HEAD_BLOCK
    programs: tl.constexpr = GROUPS * parts * slices
    slice_ = tl.program_id(0) % slices
    part = tl.program_id(0) // slices % parts
    group = tl.program_id(0) // (slices * parts) % GROUPS
    walker = tl.program_id(0) // programs
    first_head = (group * parts + part) * HEAD_BLOCK
    p = slice_ * WIDTH_BLOCK + tl.arange(0, WIDTH_BLOCK)
    n = tl.arange(0, STATE_BLOCK)
    q = tl.arange(0, CHUNK)
    lane = tl.arange(0, HEAD_LANES)
    live_p, live_n = p < WIDTH, n < STATES
    live_state = live_p[:, None] & live_n[None, :]
    of_group = group * STATES + n
    of_scratch = tl.arange(0, WIDTH_BLOCK)[:, None] * STATE_BLOCK + n[None, :]
    scratch_ptr += tl.program_id(0).to(tl.int64) * (HEAD_BLOCK * WIDTH_BLOCK * STATE_BLOCK)
    of_partial = (part * slices + slice_).to(tl.int64) * rows
    A_grad = tl.zeros((HEAD_LANES,), DTYPE)
    D_grad, bias_grad = A_grad, A_grad

    sequence = walker.to(tl.int64)
    while sequence < sequences:
        start, end = tl.load(offset_ptr + sequence), tl.load(offset_ptr + sequence + 1)
        length = end - start
        # An empty sequence, too, has a chunk, which hands the gradient of its state through.
        i = tl.maximum((length - 1) // CHUNK, 0) * CHUNK
        while i >= 0:
            live = i + q < length
            t = start + i + q
            if REVERSE:
                t = end - 1 - i - q
            live_x, live_b = live[:, None] & live_p[None, :], live[:, None] & live_n[None, :]
            b = tl.load(B_ptr + (t * B_stride)[:, None] + of_group[None, :], live_b, 0.0)
            c = tl.load(C_ptr + (t * C_stride)[:, None] + of_group[None, :], live_b, 0.0)
            # All squares below have a row for the step j that enters, and a column for the step i that leaves.
            paired = product(b, tl.trans(c), ROUND, OPERAND, PRECISION)
            paired_grad = tl.zeros((CHUNK, CHUNK), DTYPE)
            B_grad = tl.zeros((CHUNK, STATE_BLOCK), DTYPE)
            C_grad = tl.zeros((CHUNK, STATE_BLOCK), DTYPE)
            for k in tl.range(0, HEAD_BLOCK, num_stages=STAGES):
                head = first_head + k
                of_x = head * WIDTH + p
                of_state = of_x[:, None] * STATES + n[None, :]
                x = tl.load(x_ptr + (t * x_stride)[:, None] + of_x[None, :], live_x, 0.0)
                y_grad = tl.load(y_grad_ptr + (t * y_grad_stride)[:, None] + of_x[None, :], live_x, 0.0)
                raw = tl.load(delta_ptr + t * delta_stride + head, live, 0.0).to(DTYPE)
                A = tl.load(A_ptr + head)
                if bias_ptr is not None:
                    raw += tl.load(bias_ptr + head)
                step = raw
                if SOFTPLUS:
                    step = softplus(raw)
                step = tl.where(live, step, 0.0)
                elapsed = tl.cumsum(step * (A * LOG2_E), 0)
                whole = tl.sum(tl.where(q == CHUNK - 1, elapsed, 0.0), 0)

                later = q[:, None] <= q[None, :]
                decay = tl.exp2(tl.where(later, elapsed[None, :] - elapsed[:, None], float("-inf")))
                weighted = product(x, tl.trans(y_grad), ROUND, OPERAND, PRECISION) * decay * step[:, None]
                paired_grad += weighted
                change_grad = product(paired * decay, y_grad, ROUND, OPERAND, PRECISION)
                weighted = tl.where(q[:, None] < q[None, :], weighted * paired, 0.0)
                leaving = tl.sum(weighted, 0) - tl.sum(weighted, 1)

                state_grad = tl.load(
                    scratch_ptr + k * (WIDTH_BLOCK * STATE_BLOCK) + of_scratch,
                    live_state & (i + CHUNK < length), 0.0,
                )  # fmt: skip
                if final_grad_ptr is not None:
                    state_grad += tl.load(
                        final_grad_ptr + sequence * (HEADS * WIDTH * STATES) + of_state,
                        live_state & (i + CHUNK >= length), 0.0,
                    )  # fmt: skip
                entering = tl.zeros((CHUNK,), DTYPE)
                if (i + CHUNK < length) | (final_grad_ptr is not None):
                    to_end = tl.exp2(whole - elapsed)
                    handed = product(b, tl.trans(state_grad), ROUND, OPERAND, PRECISION) * to_end[:, None]
                    change_grad += handed
                    entering = tl.sum(handed * x.to(DTYPE), 1) * step
                    entered = x.to(DTYPE) * (to_end * step)[:, None]
                    B_grad = plus_product(B_grad, entered, state_grad, ROUND, OPERAND, PRECISION)
                elapsed_grad = tl.cumsum(entering, 0) - entering
                if (i > 0) | (initial_ptr is not None):
                    slot = start // CHUNK + i // CHUNK - 1
                    state = tl.load(
                        checkpoint_ptr + slot * (HEADS * WIDTH * STATES) + of_state, live_state & (i > 0), 0.0
                    ).to(DTYPE)
                    if initial_ptr is not None:
                        state += tl.load(
                            initial_ptr + sequence * (HEADS * WIDTH * STATES) + of_state, live_state & (i == 0), 0.0
                        )
                    since = tl.exp2(elapsed)
                    left = product(y_grad, state, ROUND, OPERAND, PRECISION) * since[:, None]
                    C_grad += left
                    leaving += tl.sum(left * c.to(DTYPE), 1)
                    elapsed_grad += tl.sum(tl.sum(state * state_grad, 1), 0) * tl.exp2(whole)
                    leave = c.to(DTYPE) * since[:, None]
                    state_grad = plus_product(
                        state_grad * tl.exp2(whole), tl.trans(y_grad), leave, ROUND, OPERAND, PRECISION
                    )
                    tl.store(
                        scratch_ptr + k * (WIDTH_BLOCK * STATE_BLOCK) + of_scratch, state_grad, live_state & (i > 0)
                    )
                    if initial_ptr is not None:
                        tl.store(
                            initial_grad_ptr + sequence * (HEADS * WIDTH * STATES) + of_state, state_grad,
                            live_state & (i == 0),
                        )  # fmt: skip
                elapsed_grad += tl.cumsum(leaving, 0, reverse=True)

                x_grad = change_grad * step[:, None]
                if D_ptr is not None:
                    x_grad += tl.load(D_ptr + head) * y_grad.to(DTYPE)
                    D_grad += tl.where(lane == k, tl.sum(tl.sum(x.to(DTYPE) * y_grad.to(DTYPE), 1), 0), 0.0)
                tl.store(x_grad_ptr + (t * (HEADS * WIDTH))[:, None] + of_x[None, :], x_grad, live_x)
                step_grad = tl.sum(change_grad * x.to(DTYPE), 1) + A * elapsed_grad
                A_grad += tl.where(lane == k, tl.sum(step * elapsed_grad, 0), 0.0)
                if SOFTPLUS:
                    step_grad *= tl.where(raw > 20.0, 1.0, sigmoid(raw))
                step_grad = tl.where(live, step_grad, 0.0)
                bias_grad += tl.where(lane == k, tl.sum(step_grad, 0), 0.0)
                tl.store(delta_grad_ptr + (slice_.to(tl.int64) * rows + t) * HEADS + head, step_grad, live)
            B_grad = plus_product(B_grad, paired_grad, c, ROUND, OPERAND, PRECISION)
            C_grad = plus_product(C_grad, tl.trans(paired_grad), b, ROUND, OPERAND, PRECISION)
            of_rows = ((of_partial + t) * (GROUPS * STATES))[:, None] + of_group[None, :]
            tl.store(B_grad_ptr + of_rows, B_grad, live_b)
            tl.store(C_grad_ptr + of_rows, C_grad, live_b)
            i -= CHUNK
            # The scratch is read in the next chunk, perhaps by other lanes than those which wrote it.
            tl.debug_barrier()
        sequence += walkers

    of_sums = (walker * slices + slice_) * HEADS + first_head + lane
    size = walkers * slices * HEADS
    tl.store(head_sums_ptr + of_sums, A_grad, lane < HEAD_BLOCK)
    tl.store(head_sums_ptr + size + of_sums, D_grad, lane < HEAD_BLOCK)
    tl.store(head_sums_ptr + 2 * size + of_sums, bias_grad, lane < HEAD_BLOCK)
