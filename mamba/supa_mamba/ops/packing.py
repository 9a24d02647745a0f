"""Packed sequences: the rows of all sequences one after another, and the offset of each sequence."""

from dataclasses import dataclass

import torch
from torch import Tensor

from supa.checks import counted
from supa_mamba.ops.checks import check_device, holds_integers


@dataclass(frozen=True)
class TimeMajor:
    """Order of the rows on the CPU: the first rows of all sequences, then all second rows, and so on.

    Within a step the longest sequence comes first, so the sequences that have not ended form a prefix.

    Args:
        rows: (T,) int64 index of the packed row at each place of this order.
        counts: Number of sequences that have not ended, for each step.
        longest_first: (S,) int64 indices of the sequences from the longest to the shortest.
        steps: (T,) int64 step of each row in this order, from 0.
    """

    rows: Tensor
    counts: list[int]
    longest_first: Tensor
    steps: Tensor


def int_list(values: Tensor) -> list[int]:
    """Convert a tensor into a list of integers, also inside transforms of ``torch.func``.

    Args:
        values: (n,) integers.

    Returns:
        The integers.
    """
    try:
        return [int(value) for value in values.tolist()]
    except RuntimeError:  # before PyTorch 2.13, tensors computed inside a transform have no storage
        return [int(value) for value in values]


def time_major(offset: Tensor, *, reverse: bool) -> TimeMajor:
    """Order the rows of packed sequences by step.

    Args:
        offset: (S + 1,) int64 offsets on the CPU.
        reverse: Whether to process each sequence from its last row to its first.

    Returns:
        The order.
    """
    lengths = offset.diff()
    longest_first = lengths.argsort(descending=True, stable=True)
    finished = lengths.bincount().cumsum(0)[:-1] if lengths.shape[0] else lengths
    counts = lengths.shape[0] - finished
    steps = torch.arange(counts.shape[0]).repeat_interleave(counts)
    rank = torch.arange(steps.shape[0]) - (counts.cumsum(0) - counts)[steps]
    sequence = longest_first[rank]
    rows = offset[1:][sequence] - 1 - steps if reverse else offset[:-1][sequence] + steps
    return TimeMajor(rows, int_list(counts), longest_first, steps)


def inverse(order: Tensor) -> Tensor:
    """Invert a permutation.

    Args:
        order: (n,) int64 permutation of 0 to n - 1.

    Returns:
        (n,) int64 inverse permutation.
    """
    return torch.empty_like(order).scatter_(0, order, torch.arange(order.shape[0], device=order.device))


def normalize_offsets(name: str, x: Tensor, offset: Tensor | None, letters: str = "D") -> Tensor:
    """Return the offsets of packed rows, or of the sequences of equal length in a padded batch.

    The values of the offsets are not checked here, because that would synchronise with a GPU.

    Args:
        name: Name of the rows, for messages.
        x: (T, ...) packed rows if ``offset`` is given, otherwise a (B, L, ...) padded batch.
        offset: (S + 1,) integers, or None.
        letters: Dimensions of a row, one letter each, for messages.

    Returns:
        (S + 1,) int64 contiguous offsets on the device of ``x``.

    Raises:
        ValueError: If rows and offsets do not match, or the device is not supported.
    """
    check_device(name, x)
    row = ", ".join(letters)
    if offset is not None and not isinstance(offset, Tensor):
        raise ValueError(f"offset: a {type(offset).__name__} was given, but it must be a tensor, (S + 1,) integers.")
    if offset is None:
        if x.ndim != len(letters) + 2:
            raise ValueError(
                f"{name}: shape {tuple(x.shape)} was given without an offset, but it must be padded, (B, L, {row}); "
                f"for packed rows (T, {row}) also pass offset, (S + 1,) integers."
            )
        return torch.arange(x.shape[0] + 1, device=x.device) * x.shape[1]
    if not torch.compiler.is_compiling() and torch._C._functorch.is_batchedtensor(offset):
        raise ValueError(
            "offset: torch.vmap over offsets is not supported, because the sequences differ in length; pass all "
            "sequences packed with one offset."
        )
    if x.ndim != len(letters) + 1:
        raise ValueError(f"{name}: shape {tuple(x.shape)} was given with an offset, but it must be packed, (T, {row}).")
    if offset.ndim != 1 or offset.shape[0] < 1 or not holds_integers(offset) or offset.device != x.device:
        raise ValueError(
            f"offset: shape {tuple(offset.shape)}, {offset.dtype} on {offset.device} was given, but it must be "
            f"(S + 1,) integers on {x.device}, the device of {name}."
        )
    return offset.to(torch.int64).contiguous()


def flatten_rows(x: Tensor, offset: Tensor | None) -> Tensor:
    """Flatten a padded batch into rows. Packed rows are returned unchanged.

    Args:
        x: (T, ...) packed rows if ``offset`` is given, otherwise a (B, L, ...) padded batch.
        offset: (S + 1,) integers, or None.

    Returns:
        (T, ...) or (B * L, ...) rows.
    """
    return x.flatten(0, 1) if offset is None else x


def check_offsets(offset: Tensor, rows: int) -> None:
    """Check the values of offsets on the CPU.

    Args:
        offset: (S + 1,) int64 offsets.
        rows: Number of packed rows.

    Raises:
        ValueError: If the offsets do not ascend from 0 to the number of rows.
    """
    descends = (offset.diff() < 0).nonzero()[:1, 0]
    if offset[0] != 0 or offset[-1] != rows or descends.shape[0]:
        where = f", descending after entry {int(descends)}," if descends.shape[0] else ""
        raise ValueError(
            f"offset: {int(offset[0])} to {int(offset[-1])}{where} was given for {counted(rows, 'row')}, but it must "
            "begin at 0, never descend, and end at the number of rows."
        )
