"""Tiles of sorted rows, which never extend over two sequences, and loads of their vectors."""

import triton
import triton.language as tl

from supa_mamba.ops.ssd.kernels.products import within


@triton.jit
def find_tile(offset_ptr, sequences, reach, SIZE: tl.constexpr):
    """Return the first sorted row of the tile of a program, and the row after its sequence.

    The tiles of sequence s begin at index offset[s] // SIZE + s. Some of them are empty.
    """
    tile = tl.program_id(0).to(tl.int64)
    sequence = tile * 0
    step = reach
    while step > 0:  # binary search
        candidate = sequence + step
        inside = candidate < sequences
        begin = tl.load(offset_ptr + candidate, inside, 0)
        sequence = tl.where(inside & (begin // SIZE + candidate <= tile), candidate, sequence)
        step = step // 2
    begin = tl.load(offset_ptr + sequence)
    return begin + (tile - begin // SIZE - sequence) * SIZE, tl.load(offset_ptr + sequence + 1)


@triton.jit
def load_vectors(x_ptr, row, live, stride, d, WIDTH: tl.constexpr, BLOCK: tl.constexpr):
    return tl.load(x_ptr + (row.to(tl.int64) * stride)[:, None] + d[None, :], within(live, d, WIDTH, BLOCK), 0.0)


@triton.jit
def store_vectors(x_ptr, x, row, live, stride, d, WIDTH: tl.constexpr, BLOCK: tl.constexpr):
    tl.store(x_ptr + (row.to(tl.int64) * stride)[:, None] + d[None, :], x, within(live, d, WIDTH, BLOCK))


@triton.jit
def load_tile(row_ptr, range_ptr, first, end, rows, heads, SIZE: tl.constexpr):
    """Return places, rows and ranges of a tile, which rows exist, and which of them have a range that is not empty."""
    i = first + tl.arange(0, SIZE)
    live = i < end
    of_head = tl.program_id(1).to(tl.int64) * rows
    row = tl.load(row_ptr + of_head + i, live, 0)
    begin = tl.load(range_ptr + of_head + i, live, 0)
    stop = tl.load(range_ptr + heads.to(tl.int64) * rows + of_head + i, live, 0)
    return of_head + i, row, begin, stop, live, live & (begin < stop)


@triton.jit
def key_bounds(begin, stop, has_keys, KEYS: tl.constexpr):
    """Return the first key of a tile of queries, the end of the blocks that need no mask, and the end of all keys."""
    first = tl.min(tl.where(has_keys, begin, 2147483647), 0)
    end = tl.max(tl.where(has_keys, stop, 0), 0)
    # In a tile of a single bucket, all queries attend the keys of the first of them.
    shared = tl.min(tl.where(has_keys, stop, 2147483647), 0) - first
    single = first == tl.max(tl.where(has_keys, begin, 0), 0)
    middle = first + tl.where(single, shared // KEYS * KEYS, 0)
    # A pipelined loop adds steps to its begin before it compares with its end: without keys the sum would overflow.
    return tl.minimum(first, end), tl.minimum(middle, end), end
