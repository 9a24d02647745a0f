"""Sparse attention on a CPU: matrix products over many small tasks at once.

A task is a block of up to ``QUERIES`` queries of one bucket, with all keys that its last query attends. Tasks whose
sizes round up to the same numbers are computed together.
"""

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from supa_mamba.ops.dtypes import cast, state_dtype
from supa_mamba.ops.packing import check_offsets, int_list
from supa_mamba.ops.sparse_attention.inputs import INDEX, MOST_BUCKET, BucketInputs, SparseGradients, SparseInputs

QUERIES = 64
"""Maximum number of queries of a task."""
_PAIRS = 1 << 20
"""Number of pairs of queries and keys that are computed at once, so that they stay in a cache."""
_KEYS = 256
"""Above this number the keys of a task are rounded up to a multiple of it, and below to a power of two."""


def order(inputs: BucketInputs) -> tuple[Tensor, Tensor]:
    """Sort queries and keys; see `SparseInputs`.

    Raises:
        ValueError: If the offset does not match the rows, or a bucket is too large.
    """
    query_buckets, key_buckets, offset = inputs
    rows, heads = query_buckets.shape
    check_offsets(offset, rows)
    sequences = offset.shape[0] - 1
    sequence = torch.arange(sequences).repeat_interleave(offset.diff()).expand(heads, rows)
    segment = torch.arange(heads)[:, None] * sequences + sequence

    def sorted_(buckets: Tensor) -> tuple[Tensor, Tensor]:
        bucket = buckets.T.to(torch.int64)
        if (bucket > MOST_BUCKET).any():
            raise ValueError(f"buckets: {int(bucket.max())} was given, but they must be at most {MOST_BUCKET}.")
        group = (segment << 32) + torch.where(bucket < 0, MOST_BUCKET + 1, bucket)
        return group.flatten().sort(stable=True)

    sides = [sorted_(buckets) for buckets in (query_buckets, key_buckets) if buckets is not None]
    first_place = torch.arange(heads).repeat_interleave(rows) * rows
    of_rows = [place - first_place for _, place in sides]
    dropped = [group & (2 * MOST_BUCKET + 1) == MOST_BUCKET + 1 for group, _ in sides]
    # Numbers of the groups in ascending order, times the number of rows, are too small to overflow.
    _, numbers = torch.cat([group for group, _ in sides]).unique(return_inverse=True)  # type: ignore[no-untyped-call]
    bases = [number * rows for number in numbers.split(heads * rows)] if rows else [numbers] * len(sides)
    (query, query_base), (key, key_base) = (of_rows[0], bases[0]), (of_rows[-1], bases[-1])
    of_queries, of_keys = query_base + query, key_base + key
    first_key = torch.searchsorted(of_keys, query_base)
    last_key = torch.searchsorted(of_keys, of_queries, right=True)
    first_query = torch.searchsorted(of_queries, of_keys)
    last_query = torch.searchsorted(of_queries, key_base + rows)
    last_key = torch.where(dropped[0], first_key, last_key)
    last_query = torch.where(dropped[-1], first_query, last_query)
    ranges = torch.stack([first_key, last_key, first_query, last_query]) - first_place
    return (
        torch.stack(of_rows).reshape(len(sides), heads, rows).to(INDEX),
        ranges.reshape(2, 2, heads, rows).to(INDEX),
    )


class Batch(NamedTuple):
    """Tasks of equal size. Places count the sorted queries or keys of all heads.

    Args:
        queries: (n, Q) int64 places of the queries. Missing ones repeat the last query.
        live: (n, Q) whether a query is not a repetition.
        keys: (n, K) int64 places of the keys. Missing ones repeat the last key.
        seen: (n, Q, K) whether a query attends a key.
    """

    queries: Tensor
    live: Tensor
    keys: Tensor
    seen: Tensor


class Vectors(NamedTuple):
    """Index of the vector of each sorted query and key, (H * T,) int64, in a tensor of (T * H) vectors."""

    queries: Tensor
    keys: Tensor


def _batches(inputs: SparseInputs) -> Iterator[Batch]:
    heads, rows = inputs.rows.shape[1:]
    first_place = torch.arange(heads).repeat_interleave(rows) * rows
    first, last = inputs.ranges[0].reshape(2, heads * rows) + first_place
    place = torch.arange(heads * rows)
    has_keys = first < last
    # Queries of one bucket follow each other, and have the same first key. The others have a mark of their own.
    mark = torch.where(has_keys, first, -1 - place)
    begins = torch.ones_like(has_keys)
    begins[1:] = mark[1:] != mark[:-1]
    rank = place - torch.where(begins, place, 0).cummax(0).values
    cuts = (begins | (rank % QUERIES == 0)).nonzero()[:, 0]
    count = torch.diff(cuts, append=torch.tensor([heads * rows]))
    cuts, count = cuts[has_keys[cuts]], count[has_keys[cuts]]
    key_count = last[cuts + count - 1] - first[cuts]
    widths = _power_of_two(count)
    lengths = torch.where(key_count > _KEYS, -(-key_count // _KEYS) * _KEYS, _power_of_two(key_count))
    for width, length in sorted(set(zip(int_list(widths), int_list(lengths), strict=True))):
        chosen = ((widths == width) & (lengths == length)).nonzero()[:, 0]
        for part in torch.split(chosen, max(1, _PAIRS // (width * length))):
            q, k = torch.arange(width), torch.arange(length)
            live = q < count[part, None]
            queries = cuts[part, None] + torch.minimum(q, count[part, None] - 1)
            keys = first[cuts[part], None] + torch.minimum(k, key_count[part, None] - 1)
            seen = first[cuts[part], None, None] + k < last[queries][:, :, None]
            yield Batch(queries, live, keys, seen)


def _power_of_two(count: Tensor) -> Tensor:
    return torch.ones_like(count) << (count - 1).double().frexp().exponent


def _vectors(inputs: SparseInputs) -> Vectors:
    heads, rows = inputs.rows.shape[1:]
    head = torch.arange(heads).repeat_interleave(rows)
    found = [of_side.flatten() * heads + head for of_side in inputs.rows.to(torch.int64)]
    return Vectors(found[0], found[-1])


def _flat(x: Tensor, dtype: torch.dtype) -> Tensor:
    return cast(x, dtype).reshape(-1, x.shape[2])


def forward(inputs: SparseInputs) -> tuple[Tensor, Tensor]:
    """Return y, and the logarithms of the sums of weights. Autograd can differentiate y any number of times."""
    dtype, vectors = state_dtype(inputs.q), _vectors(inputs)
    q, k, v = (_flat(x, dtype) for x in inputs[:3])
    places, targets, log_sums, outputs = [], [], [], []
    with torch.autocast("cpu", enabled=False):
        for batch in _batches(inputs):
            queries, keys = vectors.queries[batch.queries], vectors.keys[batch.keys]
            scores = _scores(q[queries], k[keys], batch)
            log_sum = scores.logsumexp(-1)
            mixed = (scores - log_sum[..., None]).exp() @ v[keys]
            places.append(batch.queries[batch.live])
            targets.append(queries[batch.live])
            log_sums.append(log_sum.detach()[batch.live])
            outputs.append(mixed[batch.live])
        y, of_all = torch.zeros_like(q), torch.zeros_like(q[:, 0])
        if places:
            y = y.index_copy(0, torch.cat(targets), torch.cat(outputs))
            of_all = of_all.index_copy(0, torch.cat(places), torch.cat(log_sums))
    return _like(inputs.q, y), of_all.reshape(inputs.rows.shape[1:])


def _scores(q: Tensor, k: Tensor, batch: Batch) -> Tensor:
    return (q @ k.mT / math.sqrt(q.shape[-1])).masked_fill(~batch.seen, -torch.inf)


def backward(inputs: SparseInputs, given: SparseGradients) -> tuple[Tensor, Tensor, Tensor]:
    """Compute the gradients of q, k and v."""
    dtype, vectors = state_dtype(inputs.q), _vectors(inputs)
    q, k, v, y_grad, y = (_flat(x, dtype) for x in (*inputs[:3], given.y_grad, given.y))
    means, log_sums = (y * y_grad).sum(-1), given.log_sums.flatten()
    q_grad, k_grad, v_grad = (torch.zeros_like(x) for x in (q, k, v))
    scale = 1 / math.sqrt(q.shape[-1])
    for batch in _batches(inputs):
        queries, keys = vectors.queries[batch.queries], vectors.keys[batch.keys]
        of_q, of_k, of_y = q[queries], k[keys], y_grad[queries] * batch.live[..., None]
        weights = (_scores(of_q, of_k, batch) - log_sums[batch.queries][..., None]).exp()
        mean = means[queries] * batch.live
        score_grad = weights * (of_y @ v[keys].mT - mean[..., None]) * scale
        q_grad[queries[batch.live]] = (score_grad @ of_k)[batch.live]
        k_grad.index_add_(0, keys.flatten(), (score_grad.mT @ of_q).flatten(0, 1))
        v_grad.index_add_(0, keys.flatten(), (weights.mT @ of_y).flatten(0, 1))
    given_q, given_k, given_v = inputs[:3]
    return _like(given_q, q_grad), _like(given_k, k_grad), _like(given_v, v_grad)


def _like(x: Tensor, flat: Tensor) -> Tensor:
    return cast(flat, x.dtype).reshape(x.shape)
