"""Packed sequences: rows of all sequences behind each other, and the offset at which each begins."""

from dataclasses import dataclass

import torch
from torch import Tensor

from supa_mamba.checks import holds_integers


@dataclass(frozen=True)
class TimeMajor:
    """The order in which a processor walks over packed sequences: all first steps, all second steps, and so on.

    Within one step the longest sequence comes first, so that the sequences which still run are always the first ones.

    Args:
        rows: (T,) int64, the packed row of each row in this order.
        counts: how many sequences still run, step by step.
        longest_first: (S,) int64, the sequences from the longest to the shortest.
        steps: (T,) int64, the step of each row in this order, from 0.
    """

    rows: Tensor
    counts: list[int]
    longest_first: Tensor
    steps: Tensor


def time_major(offset: Tensor, *, reverse: bool) -> TimeMajor:
    """Order the rows of packed sequences by step.

    Args:
        offset: (S + 1,) int64, on the CPU.
        reverse: whether each sequence is walked from its own end to its start.

    Returns:
        The order.
    """
    lengths = offset.diff()
    longest_first = lengths.argsort(descending=True, stable=True)
    finished = lengths.bincount().cumsum(0)[:-1] if len(lengths) else lengths
    counts = len(lengths) - finished
    steps = torch.arange(len(counts)).repeat_interleave(counts)
    rank = torch.arange(len(steps)) - (counts.cumsum(0) - counts)[steps]
    sequence = longest_first[rank]
    rows = offset[1:][sequence] - 1 - steps if reverse else offset[:-1][sequence] + steps
    return TimeMajor(rows, counts.tolist(), longest_first, steps)


def inverse(order: Tensor) -> Tensor:
    """Invert a permutation.

    Args:
        order: (n,) int64, each of 0..n-1 once.

    Returns:
        (n,) int64.
    """
    return torch.empty_like(order).scatter_(0, order, torch.arange(len(order), device=order.device))


def offset_of(name: str, x: Tensor, offset: Tensor | None, letters: str = "D") -> Tensor:
    """Give the offset of packed rows, or of the equally long sequences of a padded batch.

    What the offset holds is looked at on the CPU only: on a GPU that would make the processor wait for the device.

    Args:
        name: what the rows are called.
        x: (T, ...) packed rows with an offset, or (B, L, ...) without.
        offset: (S + 1,) integers, cast to int64, or None.
        letters: what each row holds, one letter to a dimension.

    Returns:
        (S + 1,) int64 on the device of ``x``, contiguous, as kernels want it.

    Raises:
        ValueError: the rows and the offset do not fit.
    """
    row = ", ".join(letters)
    if offset is not None and not isinstance(offset, Tensor):
        raise ValueError(f"offset: a {type(offset).__name__} was given, but it must be a tensor, (S + 1,) integers.")
    if offset is None:
        if x.ndim != len(letters) + 2:
            raise ValueError(
                f"{name}: shape {tuple(x.shape)} was given without an offset, but it must be padded, (B, L, {row}); "
                f"for packed rows (T, {row}) also give offset, (S + 1,) integers."
            )
        return torch.arange(x.shape[0] + 1, device=x.device) * x.shape[1]
    if x.ndim != len(letters) + 1:
        raise ValueError(f"{name}: shape {tuple(x.shape)} was given with an offset, but it must be packed, (T, {row}).")
    if offset.ndim != 1 or offset.shape[0] < 1 or not holds_integers(offset) or offset.device != x.device:
        raise ValueError(
            f"offset: shape {tuple(offset.shape)}, {offset.dtype} on {offset.device} was given, but it must be "
            f"(S + 1,) integers on {x.device}, the device of {name}."
        )
    return offset.to(torch.int64).contiguous()


def check_offset(offset: Tensor, rows: int) -> None:
    """Check what an offset on the CPU holds.

    Args:
        offset: (S + 1,) int64.
        rows: number of packed rows.

    Raises:
        ValueError: it does not ascend from 0 to the number of rows.
    """
    descends = (offset.diff() < 0).nonzero()[:1, 0]
    if offset[0] != 0 or offset[-1] != rows or len(descends):
        where = f", descending behind entry {int(descends)}," if len(descends) else ""
        raise ValueError(
            f"offset: {int(offset[0])} to {int(offset[-1])}{where} was given for {rows} rows, but it must begin at 0, "
            "never descend, and end at the number of rows."
        )
