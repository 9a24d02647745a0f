"""Triton kernels for steps of attention. One program of one warp processes one head of one sequence.

It reads the stored keys and values once, and only those of its sequence: the softmax over a block of positions is
combined with that over the blocks before it, in the order of the positions. So the bits of a row do not depend on the
other rows. The new key and value stay in registers, so no program reads what it has written. A second kernel increases
the lengths when all heads have read them.

No argument depends on the number of rows, and those that depend on the size of the state are not specialised, nor is
the alignment of the new rows, from which the compiler could derive another order of a sum.

Loops use ``while`` because of Triton's interpreter; see ``selective_scan.kernels``.
"""

import triton
import triton.language as tl

from supa_mamba.ops.kernel_math import LOG2_E, mask_if

TURN = tl.constexpr(6.283185307179586)


@triton.jit
def find_place(slots_ptr, lengths_ptr, m, live, table, places):
    """Return slots, numbers of stored rows, and whether there is a place for another row before the spare one."""
    slot = tl.load(slots_ptr + m, live, -1)
    inside = (slot >= 0) & (slot < table)
    length = tl.load(lengths_ptr + slot, inside, 0)
    return slot, length, inside & (length < places - 1)


@triton.jit
def rotate(x, x_ptr, d, cos, sin, HALF: tl.constexpr):
    partner = tl.load(x_ptr + tl.where(d < HALF, d + HALF, d - HALF), d < 2 * HALF, 0.0)
    return x * cos + tl.where(d < HALF, -partner, partner) * sin


@triton.jit(do_not_specialize=["table", "places"], do_not_specialize_on_alignment=["qkv_ptr", "slots_ptr"])
def attention_kernel(
    qkv_ptr,
    keys_ptr,
    values_ptr,
    lengths_ptr,
    rates_ptr,
    slots_ptr,
    y_ptr,
    table,
    places,
    HEADS: tl.constexpr,
    WIDTH: tl.constexpr,
    HALF: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    of_row: tl.constexpr = HEADS * WIDTH
    m, head = (tl.program_id(0) // HEADS).to(tl.int64), tl.program_id(0) % HEADS
    d, t = tl.arange(0, BLOCK), tl.arange(0, ROWS)
    slot, length, live = find_place(slots_ptr, lengths_ptr, m, True, table, places)
    q_ptr = qkv_ptr + 3 * m * of_row + head * WIDTH
    k_ptr = q_ptr + of_row
    q = tl.load(q_ptr + d, d < WIDTH, 0.0)
    k = tl.load(k_ptr + d, d < WIDTH, 0.0)
    v = tl.load(k_ptr + of_row + d, d < WIDTH, 0.0)
    if HALF > 0:
        # The angle of a late position has few digits in single precision, so only its fraction of a turn is rounded.
        rate = tl.load(rates_ptr + d % HALF, d < 2 * HALF, 0.0)
        turns = length.to(tl.float64) * (rate / TURN)
        angle = ((turns - tl.floor(turns + 0.5)) * TURN).to(tl.float32)
        cos, sin = tl.cos(angle), tl.sin(angle)
        q = rotate(q, q_ptr, d, cos, sin, HALF)
        k = rotate(k, k_ptr, d, cos, sin, HALF)
    first = slot * places * of_row + head * WIDTH
    keys_ptr += first
    values_ptr += first
    tl.store(keys_ptr + length * of_row + d, k, mask_if(live, d < WIDTH))
    tl.store(values_ptr + length * of_row + d, v, mask_if(live, d < WIDTH))

    # Unlike exp, exp2 is a single instruction.
    q *= LOG2_E / tl.sqrt(WIDTH * 1.0)
    largest = tl.sum(q * k, 0)
    total = tl.full((), 1.0, tl.float32)
    y = v
    of_tile = t[:, None] * of_row + d[None, :]
    remaining = tl.where(live, length, 0)
    while remaining > 0:
        seen = (t < remaining)[:, None] & (d < WIDTH)[None, :]
        keys = tl.load(keys_ptr + of_tile, seen, 0.0)
        values = tl.load(values_ptr + of_tile, seen, 0.0)
        scores = tl.where(t < remaining, tl.sum(keys * q[None, :], 1), float("-inf"))
        before = largest
        largest = tl.maximum(before, tl.max(scores, 0))
        kept = tl.exp2(before - largest)
        weights = tl.exp2(scores - largest)
        total = total * kept + tl.sum(weights, 0)
        y = y * kept + tl.sum(weights[:, None] * values, 0)
        keys_ptr += ROWS * of_row
        values_ptr += ROWS * of_row
        remaining -= ROWS
    tl.store(y_ptr + m * of_row + head * WIDTH + d, tl.where(live, y / total, 0.0), d < WIDTH)


# Assertions are compiled because of ``debug``.
@triton.jit(do_not_specialize=["count", "table", "places"], do_not_specialize_on_alignment=["slots_ptr"], debug=True)
def lengthen_kernel(lengths_ptr, slots_ptr, count, table, places, BLOCK: tl.constexpr):
    m = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    slot, length, live = find_place(slots_ptr, lengths_ptr, m, m < count, table, places)
    tl.device_assert(live | (slot < 0), "the state has no such slot, or no room for another row")
    tl.store(lengths_ptr + slot, length + 1, live)
