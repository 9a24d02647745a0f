"""Boundaries of ragged batches: range k of a packed tensor is offset[k] to offset[k + 1]."""

import torch
from torch import Tensor


def counts_to_offsets(counts: Tensor) -> Tensor:
    """Return where ranges of given lengths begin, and where the last one ends.

    Args:
        counts: (ranges,) integers of at least 0, the length of each range.

    Returns:
        (ranges + 1,) int64 on the device of ``counts``.
    """
    return torch.nn.functional.pad(counts.cumsum(0, dtype=torch.int64), (1, 0))
