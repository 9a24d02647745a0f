"""Inputs of the backends of sparse attention."""

from typing import NamedTuple

import torch
from torch import Tensor

from supa_mamba.ops.dtypes import state_dtype

INDEX = torch.int32
"""Dtype of rows and places."""

MOST_BUCKET = 2**31 - 1
"""The largest bucket."""


class BucketInputs(NamedTuple):
    """What the order of queries and keys depends on.

    Args:
        query_buckets: (T, H) integers, negative for dropped queries.
        key_buckets: (T, H) integers of the same dtype, negative for dropped keys. None for those of the queries.
        offset: (S + 1,) int64 offsets.
    """

    query_buckets: Tensor
    key_buckets: Tensor | None
    offset: Tensor

    def new_order(self) -> tuple[Tensor, Tensor]:
        """Return uninitialised tensors for ``rows`` and ``ranges`` of `SparseInputs`."""
        rows, heads = self.query_buckets.shape
        sides = 1 if self.key_buckets is None else 2
        like = self.query_buckets
        return like.new_empty(sides, heads, rows, dtype=INDEX), like.new_empty(2, 2, heads, rows, dtype=INDEX)


class SparseInputs(NamedTuple):
    """Tensors of `sparse_attention`, packed, and the order of its queries and keys.

    Queries and keys are sorted by head, sequence and bucket, with ascending rows within a bucket. The dropped ones
    follow the others of their sequence.

    Args:
        q: (T, H, D) queries.
        k: (T, H, D) keys.
        v: (T, H, D) values.
        rows: (1 or 2, H, T) int32 rows of the sorted queries and keys; a single one if their orders are the same.
        ranges: (2, 2, H, T) int32. ``ranges[0]`` are the first key of each sorted query, and the key after the last
            one, as places in the sorted keys of its head. ``ranges[1]`` are those of the queries of each sorted key.
        offset: (S + 1,) int64 offsets.
    """

    q: Tensor
    k: Tensor
    v: Tensor
    rows: Tensor
    ranges: Tensor
    offset: Tensor

    def new_log_sums(self) -> Tensor:
        """Return an uninitialised tensor for the logarithm of the sum of the weights of each sorted query, (H, T)."""
        rows, heads, _ = self.q.shape
        return self.q.new_empty(heads, rows, dtype=state_dtype(self.q))


class SparseGradients(NamedTuple):
    """What the backward pass depends on besides `SparseInputs`.

    Args:
        y_grad: (T, H, D) gradient of the result.
        y: (T, H, D) result.
        log_sums: (H, T) logarithms of the sums of weights from the forward pass.
    """

    y_grad: Tensor
    y: Tensor
    log_sums: Tensor
