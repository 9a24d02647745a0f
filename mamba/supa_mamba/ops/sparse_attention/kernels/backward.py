"""Kernels of the backward pass: one program for a tile of queries, or for a tile of keys."""

import triton
import triton.language as tl

from supa_mamba.ops.kernel_math import LOG2_E
from supa_mamba.ops.sparse_attention.kernels.tiles import find_tile, key_bounds, load_tile, load_vectors, store_vectors
from supa_mamba.ops.ssd.kernels.products import plus_product, product


@triton.jit
def add_from_keys(
    q_grad, q, y_grad, log_sum, mean, key, begin, stop, end, k_ptr, v_ptr, row_ptr, k_stride, v_stride, d,
    WIDTH: tl.constexpr, BLOCK: tl.constexpr, KEYS: tl.constexpr, MASKED: tl.constexpr,
    SCALE: tl.constexpr, ROUND: tl.constexpr, OPERAND: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Add what a block of keys contributes to the gradient of a tile of queries."""
    j = key + tl.arange(0, KEYS)
    row = tl.load(row_ptr + j, j < end, 0)
    k = load_vectors(k_ptr, row, j < end, k_stride, d, WIDTH, BLOCK)
    v = load_vectors(v_ptr, row, j < end, v_stride, d, WIDTH, BLOCK)
    weights = tl.exp2(product(q, tl.trans(k), ROUND, OPERAND, PRECISION) * (SCALE * LOG2_E) - log_sum[:, None])
    score_grad = weights * (product(y_grad, tl.trans(v), ROUND, OPERAND, PRECISION) - mean[:, None])
    if MASKED:
        inside = (j[None, :] >= begin[:, None]) & (j[None, :] < stop[:, None])
        score_grad = tl.where(inside, score_grad, 0.0)
    return plus_product(q_grad, score_grad, k, ROUND, OPERAND, PRECISION)


@triton.jit(do_not_specialize=["rows", "sequences", "reach"])
def sparse_query_grad_kernel(
    q_ptr,
    k_ptr,
    v_ptr,
    query_row_ptr,
    key_row_ptr,
    range_ptr,
    offset_ptr,
    y_ptr,
    y_grad_ptr,
    log_sum_ptr,
    mean_ptr,
    q_grad_ptr,
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
    """Compute the gradient of q, and the mean of the gradients of the weights of each query, <y, dy>."""
    first, end = find_tile(offset_ptr, sequences, reach, QUERIES)
    if first >= end:
        return
    head, heads = tl.program_id(1).to(tl.int64), tl.num_programs(1)
    d = tl.arange(0, BLOCK)
    place, row, begin, stop, live, has_keys = load_tile(query_row_ptr, range_ptr, first, end, rows, heads, QUERIES)
    q = load_vectors(q_ptr + head * q_head_stride, row, has_keys, q_stride, d, WIDTH, BLOCK)
    y = load_vectors(y_ptr + head * WIDTH, row, has_keys, heads * WIDTH, d, WIDTH, BLOCK)
    y_grad = load_vectors(y_grad_ptr + head * WIDTH, row, has_keys, heads * WIDTH, d, WIDTH, BLOCK)
    log_sum = tl.load(log_sum_ptr + place, live, 0.0)
    mean = tl.sum(y.to(DTYPE) * y_grad.to(DTYPE), 1)
    tl.store(mean_ptr + place, mean, live)
    k_ptr += head * k_head_stride
    v_ptr += head * v_head_stride
    key_row_ptr += head * rows

    q_grad = tl.zeros((QUERIES, BLOCK), DTYPE)
    key_begin, middle, key_end = key_bounds(begin, stop, has_keys, KEYS)
    for key in tl.range(key_begin, middle, KEYS, num_stages=STAGES):
        q_grad = add_from_keys(
            q_grad, q, y_grad, log_sum, mean, key, begin, stop, key_end, k_ptr, v_ptr, key_row_ptr, k_stride, v_stride,
            d, WIDTH, BLOCK, KEYS, False, SCALE, ROUND, OPERAND, PRECISION,
        )  # fmt: skip
    for key in tl.range(middle, key_end, KEYS, num_stages=STAGES):
        q_grad = add_from_keys(
            q_grad, q, y_grad, log_sum, mean, key, begin, stop, key_end, k_ptr, v_ptr, key_row_ptr, k_stride, v_stride,
            d, WIDTH, BLOCK, KEYS, True, SCALE, ROUND, OPERAND, PRECISION,
        )  # fmt: skip
    q_grad = tl.where(has_keys[:, None], q_grad * SCALE, 0.0)
    store_vectors(q_grad_ptr + head * WIDTH, q_grad, row, live, heads * WIDTH, d, WIDTH, BLOCK)


@triton.jit
def add_from_queries(
    k_grad, v_grad, k, v, query, begin, stop, end, q_ptr, y_grad_ptr, log_sum_ptr, mean_ptr, row_ptr, q_stride,
    y_stride, d,
    WIDTH: tl.constexpr, BLOCK: tl.constexpr, QUERIES: tl.constexpr, MASKED: tl.constexpr,
    SCALE: tl.constexpr, ROUND: tl.constexpr, OPERAND: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Add what a block of queries contributes to the gradients of a tile of keys and values."""
    i = query + tl.arange(0, QUERIES)
    row = tl.load(row_ptr + i, i < end, 0)
    q = load_vectors(q_ptr, row, i < end, q_stride, d, WIDTH, BLOCK)
    y_grad = load_vectors(y_grad_ptr, row, i < end, y_stride, d, WIDTH, BLOCK)
    log_sum = tl.load(log_sum_ptr + i, i < end, 0.0)
    mean = tl.load(mean_ptr + i, i < end, 0.0)
    # These matrices have a row for each key and a column for each query.
    weights = tl.exp2(product(k, tl.trans(q), ROUND, OPERAND, PRECISION) * (SCALE * LOG2_E) - log_sum[None, :])
    if MASKED:
        inside = (i[None, :] >= begin[:, None]) & (i[None, :] < stop[:, None])
        weights = tl.where(inside, weights, 0.0)
    v_grad = plus_product(v_grad, weights, y_grad, ROUND, OPERAND, PRECISION)
    score_grad = weights * (product(v, tl.trans(y_grad), ROUND, OPERAND, PRECISION) - mean[None, :])
    return plus_product(k_grad, score_grad, q, ROUND, OPERAND, PRECISION), v_grad


@triton.jit(do_not_specialize=["rows", "sequences", "reach"])
def sparse_key_grads_kernel(
    q_ptr,
    k_ptr,
    v_ptr,
    query_row_ptr,
    key_row_ptr,
    range_ptr,
    offset_ptr,
    y_grad_ptr,
    log_sum_ptr,
    mean_ptr,
    k_grad_ptr,
    v_grad_ptr,
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
    """Compute the gradients of k and v."""
    first, end = find_tile(offset_ptr, sequences, reach, KEYS)
    if first >= end:
        return
    head, heads = tl.program_id(1).to(tl.int64), tl.num_programs(1)
    d = tl.arange(0, BLOCK)
    range_ptr += 2 * heads.to(tl.int64) * rows
    _, row, begin, stop, live, has_queries = load_tile(key_row_ptr, range_ptr, first, end, rows, heads, KEYS)
    k = load_vectors(k_ptr + head * k_head_stride, row, has_queries, k_stride, d, WIDTH, BLOCK)
    v = load_vectors(v_ptr + head * v_head_stride, row, has_queries, v_stride, d, WIDTH, BLOCK)
    q_ptr += head * q_head_stride
    y_grad_ptr += head * WIDTH
    query_row_ptr += head * rows
    log_sum_ptr += head * rows
    mean_ptr += head * rows

    k_grad, v_grad = tl.zeros((KEYS, BLOCK), DTYPE), tl.zeros((KEYS, BLOCK), DTYPE)
    query_begin = tl.min(tl.where(has_queries, begin, 2147483647), 0)
    query_end = tl.max(tl.where(has_queries, stop, 0), 0)
    # In a tile of a single bucket, the queries of the last key attend all keys. Missing queries contribute zeros.
    shared = tl.max(tl.where(has_queries, begin, 0), 0) - query_begin
    single = query_end == tl.min(tl.where(has_queries, stop, 2147483647), 0)
    masked = query_begin + (shared + QUERIES - 1) // QUERIES * QUERIES
    middle = tl.where(single, tl.minimum(masked, query_end), query_end)
    query_begin = tl.minimum(query_begin, query_end)  # see key_bounds
    for query in tl.range(query_begin, middle, QUERIES, num_stages=STAGES):
        k_grad, v_grad = add_from_queries(
            k_grad, v_grad, k, v, query, begin, stop, query_end, q_ptr, y_grad_ptr, log_sum_ptr, mean_ptr,
            query_row_ptr, q_stride, heads * WIDTH, d, WIDTH, BLOCK, QUERIES, True, SCALE, ROUND, OPERAND, PRECISION,
        )  # fmt: skip
    for query in tl.range(middle, query_end, QUERIES, num_stages=STAGES):
        k_grad, v_grad = add_from_queries(
            k_grad, v_grad, k, v, query, begin, stop, query_end, q_ptr, y_grad_ptr, log_sum_ptr, mean_ptr,
            query_row_ptr, q_stride, heads * WIDTH, d, WIDTH, BLOCK, QUERIES, False, SCALE, ROUND, OPERAND, PRECISION,
        )  # fmt: skip
    k_grad = tl.where(has_queries[:, None], k_grad * SCALE, 0.0)
    v_grad = tl.where(has_queries[:, None], v_grad, 0.0)
    store_vectors(k_grad_ptr + head * WIDTH, k_grad, row, live, heads * WIDTH, d, WIDTH, BLOCK)
    store_vectors(v_grad_ptr + head * WIDTH, v_grad, row, live, heads * WIDTH, d, WIDTH, BLOCK)
