"""Packed sequences: the rows of all sequences one after another, and the offset at which each sequence begins."""

from dataclasses import dataclass

import torch
from torch import Tensor

from supa_mamba.ops.checks import check_device, holds_integers


@dataclass(frozen=True)
class TimeMajor:
    """The order of rows on the CPU path: all first steps, all second steps, and so on.

    Within a step the longest sequence comes first, so the sequences that have not ended are always the first ones.

    Args:
        rows: (T,) int64, the packed row of each row in this order.
        counts: The number of sequences that have not ended, step by step.
        longest_first: (S,) int64, the sequences from the longest to the shortest.
        steps: (T,) int64, the step of each row in this order, from 0.
    """

    rows: Tensor
    counts: list[int]
    longest_first: Tensor
    steps: Tensor


def int_list(values: Tensor) -> list[int]:
    """Return the numbers of a tensor, also inside the transforms of ``torch.func``.

    Args:
        values: (n,) integers.

    Returns:
        The numbers.
    """
    try:
        return [int(value) for value in values.tolist()]
    except RuntimeError:  # before PyTorch 2.13, what is computed inside a transform has no storage to list
        return [int(value) for value in values]


def time_major(offset: Tensor, *, reverse: bool) -> TimeMajor:
    """Order the rows of packed sequences by step.

    Args:
        offset: (S + 1,) int64, on the CPU.
        reverse: Whether each sequence runs from its own end to its start.

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
        order: (n,) int64, each of 0..n-1 once.

    Returns:
        (n,) int64.
    """
    return torch.empty_like(order).scatter_(0, order, torch.arange(order.shape[0], device=order.device))


def normalize_offsets(name: str, x: Tensor, offset: Tensor | None, letters: str = "D") -> Tensor:
    """Return the offset of packed rows, or of the equally long sequences of a padded batch.

    The values of the offset are not checked here: on a GPU the program would have to wait for the device.

    Args:
        name: The name of the rows in messages.
        x: (T, ...) packed rows with an offset, or (B, L, ...) without.
        offset: (S + 1,) integers, cast to int64, or None.
        letters: The dimensions of a row, one letter each.

    Returns:
        (S + 1,) int64 on the device of ``x``, contiguous, as the kernels need it.

    Raises:
        ValueError: The rows and the offset do not fit, or the operations do not run on their device.
    """
    check_device(name, x)
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
    if not torch.compiler.is_compiling() and torch._C._functorch.is_batchedtensor(offset):
        raise ValueError(
            "offset: torch.vmap over offsets is not supported, as the sequences differ in length; give all sequences "
            "packed with one offset."
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
    """Return the rows of a padded batch one after another; packed rows are returned unchanged.

    Args:
        x: (T, ...) with an offset, or (B, L, ...) without.
        offset: (S + 1,), or None.

    Returns:
        (T, ...), or (B L, ...).
    """
    return x.flatten(0, 1) if offset is None else x


def check_offsets(offset: Tensor, rows: int) -> None:
    """Check the values of an offset on the CPU.

    Args:
        offset: (S + 1,) int64.
        rows: number of packed rows.

    Raises:
        ValueError: It does not ascend from 0 to the number of rows.
    """
    descends = (offset.diff() < 0).nonzero()[:1, 0]
    if offset[0] != 0 or offset[-1] != rows or descends.shape[0]:
        where = f", descending behind entry {int(descends)}," if descends.shape[0] else ""
        raise ValueError(
            f"offset: {int(offset[0])} to {int(offset[-1])}{where} was given for {rows} rows, but it must begin at 0, "
            "never descend, and end at the number of rows."
        )
