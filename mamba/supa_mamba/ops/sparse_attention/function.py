"""Public function of sparse attention."""

import torch
from torch import Tensor

from supa_mamba.ops.checks import check_shape, check_tensor, holds_integers
from supa_mamba.ops.packing import flatten_rows, normalize_offsets
from supa_mamba.ops.sparse_attention.inputs import SparseInputs
from supa_mamba.ops.sparse_attention.operator import run_order, run_sparse_attention

_DTYPES = (torch.int8, torch.uint8, torch.int16, torch.int32, torch.int64)
MOST_WIDTH = 128
"""Largest head size."""


def sparse_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    query_buckets: Tensor,
    key_buckets: Tensor | None = None,
    *,
    offset: Tensor | None = None,
) -> Tensor:
    """Attend from each row to itself and earlier rows that have the same bucket, in each of several sequences.

    For each sequence and head::

        y_t = sum_s a_ts v_s,   a_ts = softmax over s of (q_t k_s / sqrt(D))

    where s are the rows of the sequence with s <= t whose key has the bucket of the query of row t. Without such a row
    y_t is zero, and so is its gradient. Two kinds of buckets have names of their own:

    - Integers: rows of equal numbers attend to each other, such as those of `hash_buckets`. A negative number drops a
      row, as a query or as a key.
    - Booleans, a mask of the kept rows: kept queries attend to kept keys, and the others are dropped.

    Pairs of different buckets are not computed. With B buckets of equal size, a long sequence takes 1 / B of the
    products of dense attention, and the time to sort the rows by bucket. Short sequences gain nothing, because the
    kernels compute blocks of up to 128 rows.

    Scores and sums are float32, or float64 for float64 inputs. In bfloat16, the operands of matrix products on a GPU
    are rounded to bfloat16. Gradients are bitwise reproducible. On a GPU there is no host-device synchronisation, and
    the values of buckets and offset are not checked.

    Args:
        q: (T, H, D) packed or (B, L, H, D) padded queries; float16, bfloat16, float32 or float64. D from 1 to 128.
        k: Keys, of the shape and the dtype of ``q``.
        v: Values, of the shape and the dtype of ``q``.
        query_buckets: (T, H) or (B, L, H) buckets of the queries, boolean or integers up to 2^31 - 1. int8 and int16
            are sorted fastest.
        key_buckets: Buckets of the keys, like those of the queries; by default the same ones.
        offset: (S + 1,) integers. Sequence s consists of the rows ``offset[s]`` to ``offset[s + 1] - 1`` and may be
            empty. None for a padded input, where S = B.

    Returns:
        y, of the shape and the dtype of ``q``.

    Raises:
        ValueError: If shapes, dtypes or devices do not match, or, on a CPU, a bucket is too large.

    Example:
        >>> import torch
        >>> from supa_mamba import hash_buckets, sparse_attention
        >>> q, k, v = torch.randn(3, 8, 2, 16)  # T, H, D = 8, 2, 16
        >>> offset = torch.tensor([0, 3, 8])  # sequences of 3 and 5 rows
        >>> buckets = hash_buckets(q, 4, seed=0), hash_buckets(k, 4, seed=0)
        >>> sparse_attention(q, k, v, *buckets, offset=offset).shape
        torch.Size([8, 2, 16])
        >>> kept = torch.rand(8, 2) < 0.5  # drop half of the queries and keys
        >>> y = sparse_attention(q, k, v, kept, offset=offset)
        >>> bool((y[~kept] == 0).all())
        True

    Source:
        Faster Causal Attention Over Large Sequences Through Sparse Flash Attention (arXiv 2306.01160), section 3.
        There a row never attends to itself; here it does.
    """
    begins = normalize_offsets("q", q, offset, "HD")
    *rows, heads, width = q.shape
    letters = "(B, L" if len(rows) == 2 else "(T"
    if heads < 1 or not 1 <= width <= MOST_WIDTH:
        raise ValueError(
            f"q: shape {tuple(q.shape)} was given, but it must be {letters}, H, D) with H >= 1 and D from 1 to "
            f"{MOST_WIDTH}."
        )
    for name, x in {"q": q, "k": k, "v": v}.items():
        check_tensor(name, x)
        check_shape(name, x, (*rows, heads, width), q, f"{letters}, H, D)")
        if x.dtype != q.dtype:
            raise ValueError(f"{name}: {x.dtype} was given, but q is {q.dtype}; convert one of them.")
    shape, words = (*rows, heads), f"{letters}, H)"
    of_queries, of_keys = _integers("query_buckets", query_buckets, shape, q, words, offset), None
    if key_buckets is not None and key_buckets is not query_buckets:
        of_keys = _integers("key_buckets", key_buckets, shape, q, words, offset)
        if (query_buckets.dtype == torch.bool) != (key_buckets.dtype == torch.bool):
            raise ValueError(
                f"key_buckets: {key_buckets.dtype} was given, but query_buckets are {query_buckets.dtype}; pass either "
                "two masks or two tensors of integers."
            )
        wider = torch.promote_types(of_queries.dtype, of_keys.dtype)
        of_queries, of_keys = of_queries.to(wider), of_keys.to(wider)
    of_rows, ranges = run_order(of_queries, of_keys, begins)
    packed_q, packed_k, packed_v = (flatten_rows(x, offset) for x in (q, k, v))
    y = run_sparse_attention(SparseInputs(packed_q, packed_k, packed_v, of_rows, ranges, begins))
    return y.reshape(q.shape)


def _integers(
    name: str, buckets: Tensor, shape: tuple[int, ...], like: Tensor, words: str, offset: Tensor | None
) -> Tensor:
    """Check buckets, and return them packed, as integers that the kernels take."""
    check_tensor(name, buckets)
    if tuple(buckets.shape) != shape:
        raise ValueError(f"{name}: shape {tuple(buckets.shape)} was given, but it must be {words} = {shape}.")
    if buckets.dtype != torch.bool and not holds_integers(buckets):
        raise ValueError(f"{name}: {buckets.dtype} was given, but it must hold integers or booleans.")
    if buckets.device != like.device:
        raise ValueError(f"{name}: it is on {buckets.device}, but q is on {like.device}; move it there.")
    buckets = flatten_rows(buckets, offset)
    if buckets.dtype == torch.bool:
        return buckets.to(torch.int8) - 1  # kept rows have bucket 0, and the others are dropped
    return buckets if buckets.dtype in _DTYPES else buckets.to(torch.int64)
