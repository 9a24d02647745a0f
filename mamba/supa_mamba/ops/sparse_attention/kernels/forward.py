"""Kernel of the forward pass."""

import triton
import triton.language as tl

from supa_mamba.ops.kernel_math import LOG2_E
from supa_mamba.ops.sparse_attention.kernels.tiles import find_tile, key_bounds, load_tile, load_vectors, store_vectors
from supa_mamba.ops.ssd.kernels.products import plus_product, product


@triton.jit
def add_keys(
    y, largest, total, q, key, begin, stop, end, k_ptr, v_ptr, row_ptr, k_stride, v_stride, d,
    WIDTH: tl.constexpr, BLOCK: tl.constexpr, KEYS: tl.constexpr, MASKED: tl.constexpr,
    SCALE: tl.constexpr, ROUND: tl.constexpr, OPERAND: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Add a block of keys to the softmax of a tile of queries."""
    j = key + tl.arange(0, KEYS)
    row = tl.load(row_ptr + j, j < end, 0)
    k = load_vectors(k_ptr, row, j < end, k_stride, d, WIDTH, BLOCK)
    v = load_vectors(v_ptr, row, j < end, v_stride, d, WIDTH, BLOCK)
    scores = product(q, tl.trans(k), ROUND, OPERAND, PRECISION) * (SCALE * LOG2_E)
    if MASKED:
        inside = (j[None, :] >= begin[:, None]) & (j[None, :] < stop[:, None])
        scores = tl.where(inside, scores, float("-inf"))
    before = largest
    largest = tl.maximum(before, tl.max(scores, 1))
    # Without any key so far the largest score is -inf, and a difference from it would not be a number.
    shift = tl.where(largest == float("-inf"), 0.0, largest) if MASKED else largest
    weights = tl.exp2(scores - shift[:, None])
    kept = tl.exp2(before - shift)
    total = total * kept + tl.sum(weights, 1)
    y = plus_product(y * kept[:, None], weights, v, ROUND, OPERAND, PRECISION)
    return y, largest, total


@triton.jit(do_not_specialize=["rows", "sequences", "reach"])
def sparse_forward_kernel(
    q_ptr,
    k_ptr,
    v_ptr,
    query_row_ptr,
    key_row_ptr,
    range_ptr,
    offset_ptr,
    y_ptr,
    log_sum_ptr,
    q_stride,
    q_head_stride,
    k_stride,
    k_head_stride,
    v_stride,
    v_head_stride,
    rows,
    sequences,
    reach,
    WIDTH: tl.constexpr,
    BLOCK: tl.constexpr,
    QUERIES: tl.constexpr,
    KEYS: tl.constexpr,
    STAGES: tl.constexpr,
    SCALE: tl.constexpr,
    DTYPE: tl.constexpr,
    ROUND: tl.constexpr,
    OPERAND: tl.constexpr,
    PRECISION: tl.constexpr,
):
    first, end = find_tile(offset_ptr, sequences, reach, QUERIES)
    if first >= end:
        return
    head, heads = tl.program_id(1).to(tl.int64), tl.num_programs(1)
    d = tl.arange(0, BLOCK)
    place, row, begin, stop, live, has_keys = load_tile(query_row_ptr, range_ptr, first, end, rows, heads, QUERIES)
    q = load_vectors(q_ptr + head * q_head_stride, row, has_keys, q_stride, d, WIDTH, BLOCK)
    k_ptr += head * k_head_stride
    v_ptr += head * v_head_stride
    key_row_ptr += head * rows

    y = tl.zeros((QUERIES, BLOCK), DTYPE)
    total = tl.zeros((QUERIES,), DTYPE)
    largest = total + float("-inf")
    key_begin, middle, key_end = key_bounds(begin, stop, has_keys, KEYS)
    for key in tl.range(key_begin, middle, KEYS, num_stages=STAGES):
        y, largest, total = add_keys(
            y, largest, total, q, key, begin, stop, key_end, k_ptr, v_ptr, key_row_ptr, k_stride, v_stride, d,
            WIDTH, BLOCK, KEYS, False, SCALE, ROUND, OPERAND, PRECISION,
        )  # fmt: skip
    for key in tl.range(middle, key_end, KEYS, num_stages=STAGES):
        y, largest, total = add_keys(
            y, largest, total, q, key, begin, stop, key_end, k_ptr, v_ptr, key_row_ptr, k_stride, v_stride, d,
            WIDTH, BLOCK, KEYS, True, SCALE, ROUND, OPERAND, PRECISION,
        )  # fmt: skip

    total = tl.where(has_keys, total, 1.0)
    y = tl.where(has_keys[:, None], y / total[:, None], 0.0)
    store_vectors(y_ptr + head * WIDTH, y, row, live, heads * WIDTH, d, WIDTH, BLOCK)
    tl.store(log_sum_ptr + place, tl.where(has_keys, largest + tl.log2(total), 0.0), live)
