"""Offsets of ragged batches: the rows of item k in a packed tensor are offset[k] to offset[k + 1]."""

import torch
from torch import Tensor


def counts_to_offsets(counts: Tensor) -> Tensor:
    """Return the offsets of consecutive ranges with given lengths.

    Args:
        counts: (ranges,) non-negative integers, the length of each range.

    Returns:
        (ranges + 1,) int64 offsets on the device of ``counts``.
    """
    return torch.nn.functional.pad(counts.cumsum(0, dtype=torch.int64), (1, 0))
