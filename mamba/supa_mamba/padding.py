"""Padding of packed batches to few shapes, so that a CUDA graph of a step can be replayed for other batches.

The padding consists of further showers with hits of zeros at the end of a batch. No sequence becomes longer, so the
sequential parts of a model take no more steps. The losses of the padding are not part of the sum, so that all its
gradients are zero.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from supa_mamba.packed_showers import Batch

_SMALLEST_STEP = 512  # rows
_STEPS = 8  # numbers of rows from one power of two to the next; at most a ninth of the rows are padding
_PADDING_HITS = 64  # hits of a shower of padding


class PaddedShape(NamedTuple):
    """Shape of a padded batch.

    Args:
        hits: Number of hits with padding.
        showers: Number of showers with padding.
        longest: Upper bound of the number of hits of a shower; None if it is not needed.
    """

    hits: int
    showers: int
    longest: int | None = None

    @classmethod
    def of(cls, batch: Batch, most_showers: int, *, bounded: bool = False) -> "PaddedShape":
        """Return the shape to which a batch is padded.

        Args:
            batch: The batch.
            most_showers: Largest number of showers in a batch.
            bounded: Whether the shape contains an upper bound of the lengths, a power of two. The batch must have one.

        Returns:
            The shape.
        """
        hits = len(batch.points)
        step = max(_SMALLEST_STEP, (1 << hits.bit_length() - 1) // _STEPS if hits else 0)
        padded = max(1, -(-hits // step)) * step
        longest = None
        if bounded:
            assert batch.longest is not None
            longest = 1 << (max(batch.longest, _PADDING_HITS) - 1).bit_length()
        return cls(padded, most_showers + step // _PADDING_HITS, longest)


def empty_batch(shape: PaddedShape, points: Tensor, target: Tensor, *, by_hit: bool) -> Batch:
    """Return a batch of a shape, for `fill_padded`.

    Args:
        shape: The shape.
        points: (n, features) hits, whose number of features, dtype and device are used.
        target: (n, ...) targets, whose dtype, device and number of values are used.
        by_hit: Whether each hit has a target.

    Returns:
        The batch, without meaningful values.
    """
    offset = torch.empty(shape.showers + 1, dtype=torch.int64, device=points.device)
    targets = target.new_empty(shape.hits if by_hit else shape.showers, *target.shape[1:])
    rows = points.new_empty(shape.hits, points.shape[1])
    return Batch(rows, offset, targets, 1, offset.new_empty(()), shape.longest)


def fill_padded(padded: Batch, batch: Batch) -> None:
    """Copy a batch into a padded one.

    Args:
        padded: Batch from `empty_batch`, which is changed.
        batch: The batch.
    """
    assert padded.showers is not None
    hits, showers = len(batch.points), len(batch.offset) - 1
    _fill(padded.points, batch.points)
    _fill(padded.target, batch.target)
    padded.offset[: showers + 1].copy_(batch.offset)
    # The first showers of the padding have as many hits as allowed, and the last ones have none.
    ends = torch.arange(1, len(padded.offset) - showers, device=padded.offset.device) * _PADDING_HITS + hits
    padded.offset[showers + 1 :].copy_(ends.clamp_(max=len(padded.points)))
    padded.showers.fill_(showers)


def _fill(padded: Tensor, values: Tensor) -> None:
    padded[: len(values)].copy_(values)
    padded[len(values) :].zero_()
