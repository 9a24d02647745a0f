"""Kernel that processes sequences chunk by chunk, for the forward pass and for the gradient of x."""

import triton
import triton.language as tl

from supa_mamba.ops.ssd.kernels.products import plus_product, product, within


@triton.jit
def load_chunk(
    x_ptr, B_ptr, C_ptr, x_stride, B_stride, C_stride, first, count, away, q, p, n, of_group,
    WIDTH: tl.constexpr, STATES: tl.constexpr, WIDTH_BLOCK: tl.constexpr, STATE_BLOCK: tl.constexpr,
):  # fmt: skip
    # Only the address of the first row needs 64 bits; the other rows are relative to it.
    live = q < count
    live_x, live_b = within(live, p, WIDTH, WIDTH_BLOCK), within(live, n, STATES, STATE_BLOCK)
    x = tl.load(x_ptr + first * x_stride + (away * x_stride)[:, None] + p[None, :], live_x, 0.0)
    b = tl.load(B_ptr + first * B_stride + (away * B_stride)[:, None] + of_group[None, :], live_b, 0.0)
    c = tl.load(C_ptr + first * C_stride + (away * C_stride)[:, None] + of_group[None, :], live_b, 0.0)
    return x, b, c


@triton.jit(do_not_specialize=["chunk_count"])
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
    y_stride,
    chunk_count,
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
    of_steps = (head.to(tl.int64) * chunk_count + start // CHUNK + sequence) * CHUNK

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
        tl.store(y_ptr + row * y_stride + (away * y_stride)[:, None] + p[None, :], y, live_x)

        if (k < chunks) | (final_ptr is not None):
            entering = tl.exp2(elapsed) if BACK else tl.exp2(whole - elapsed) * step
            entered = b.to(DTYPE) * entering[:, None]
            h = plus_product(h * tl.exp2(whole), tl.trans(x), entered, ROUND, OPERAND, PRECISION)
            if saved_ptr is not None:  # noqa: SIM102 constant at compile time
                if (k < chunks) & (border % SAVED == 0):
                    slot = start // SAVED + border // SAVED - 1
                    tl.store(saved_ptr + slot * all_states + of_state, h, live_state)
    if final_ptr is not None:
        tl.store(final_ptr + sequence * all_states + of_state, h, live_state)
