"""Dense reference of sparse attention, for tests."""

import math

import torch
from torch import Tensor


def naive_sparse_attention(
    q: Tensor, k: Tensor, v: Tensor, query_buckets: Tensor, key_buckets: Tensor, offset: Tensor
) -> Tensor:
    """Compute the weights of all pairs of rows. Arguments and result are those of `sparse_attention`, packed."""
    row = torch.arange(q.shape[0])
    sequence = torch.arange(offset.shape[0] - 1).repeat_interleave(offset.diff())
    past = (sequence[:, None] == sequence) & (row[:, None] >= row)
    of_query, of_key = query_buckets.T[:, :, None], key_buckets.T[:, None, :]
    seen = past & (of_query == of_key) & (of_query >= 0)
    scores = torch.einsum("thd,shd->hts", q, k) / math.sqrt(q.shape[2])
    found = seen.any(-1, keepdim=True)
    # A softmax without any key would not be a number, and neither would its gradient.
    weights = scores.masked_fill(~seen, -torch.inf).masked_fill(~found, 0.0).softmax(-1) * found
    return torch.einsum("hts,shd->thd", weights, v)
