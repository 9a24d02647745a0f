"""Rows of a table of states that one step changes, and how many cached inputs each of them takes first."""

import torch
from torch import Tensor

from supa_mamba.checks import check_device
from supa_mamba.transforms import transformed


def check_state(state: Tensor, dims: tuple[int, ...], words: str) -> None:
    """Check a table of states that is changed in place.

    Args:
        state: the table.
        dims: the numbers of dimensions that it may have.
        words: its shape in letters.

    Raises:
        ValueError: it has another shape or precision, or its values do not lie behind each other.
    """
    check_device("state", state)
    if state.ndim not in dims or state.dtype not in (torch.float32, torch.float64) or not state.is_contiguous():
        raise ValueError(
            f"state: {state.dtype} of shape {tuple(state.shape)} was given, but it must be {words}, float32 or "
            "float64, and contiguous, as it is changed in place."
        )


def rows_of(rows: Tensor | None, x: Tensor, state: Tensor) -> Tensor:
    """Check the rows that the sequences have in the table, or name the first ones.

    Args:
        rows: (M,) int64, or None.
        x: (M, ...), the input.
        state: (R, ...), the table.

    Returns:
        (M,) int64, contiguous, as kernels want them.

    Raises:
        ValueError: they do not fit the sequences or the table.
    """
    if rows is None:
        if x.shape[0] > state.shape[0]:
            raise ValueError(
                f"x: {x.shape[0]} rows were given, but the state has {state.shape[0]}; say with rows which are meant."
            )
        return torch.arange(x.shape[0], device=x.device)
    _check_integers("rows", rows, x, state)
    return rows.contiguous()


def check_accepted(accepted: Tensor, x: Tensor, state: Tensor) -> None:
    """Check the numbers of cached inputs that are taken, but not what they hold, as a GPU would have to wait for that.

    Args:
        accepted: (M,) int64.
        x: (M, ...), the input.
        state: (R, ...), the table.

    Raises:
        ValueError: they do not fit the sequences.
    """
    _check_integers("accepted", accepted, x, state)


def _check_integers(name: str, x: Tensor, like: Tensor, state: Tensor) -> None:
    if x.shape != like.shape[:1] or x.dtype != torch.int64 or x.device != state.device:
        raise ValueError(
            f"{name}: shape {tuple(x.shape)}, {x.dtype} on {x.device} was given, but it must be (M,) "
            f"= ({like.shape[0]},) int64 on {state.device}."
        )


def check_cached(name: str, cached: Tensor, shape: tuple[int, ...], new: Tensor, words: str) -> None:
    """Check a cache that is to hold inputs exactly.

    Args:
        name: what the cache is called.
        cached: the cache.
        shape: the shape that it must have.
        new: the inputs that go into it.
        words: the shape in letters.

    Raises:
        ValueError: its shape differs, it lies elsewhere, it would round, or its values do not lie behind each other.
    """
    if tuple(cached.shape) != shape or cached.device != new.device or not cached.is_contiguous():
        raise ValueError(
            f"{name}: shape {tuple(cached.shape)} on {cached.device} was given, but it must be {words} = {shape}, "
            f"contiguous, on {new.device}."
        )
    if torch.promote_types(cached.dtype, new.dtype) != cached.dtype:
        raise ValueError(
            f"{name}: {cached.dtype} was given, which would round the {new.dtype} inputs; make it {new.dtype}."
        )


def check_no_gradients(name: str, trained: str, *tensors: Tensor | None) -> None:
    """Refuse inputs that ask for gradients.

    Args:
        name: the operation.
        trained: the operation to train with.
        tensors: its inputs.

    Raises:
        ValueError: gradients are asked for.
    """
    if transformed(*tensors):
        raise ValueError(
            f"{name}: it changes its state in place, so torch.func and forward-mode derivatives are not supported; "
            f"differentiate {trained}, and for torch.vmap give all sequences rows of one state."
        )
    if torch.is_grad_enabled() and any(x is not None and x.requires_grad for x in tensors):
        raise ValueError(
            f"{name} changes its state and gives no gradients, but an input requires them; "
            f"call it under torch.no_grad(), or train with {trained}."
        )


def live_rows(rows: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    """Find the sequences that have not finished, on the CPU.

    Args:
        rows: (M,) int64.
        state: (R, ...), the table.

    Returns:
        Their places among the M, and their rows in the table.

    Raises:
        ValueError: there is no such row, or two sequences have one.
    """
    if rows.shape[0] and rows.max() >= state.shape[0]:
        raise ValueError(f"rows: {int(rows.max())} was given, but the state has rows 0 to {state.shape[0] - 1}.")
    live = (rows >= 0).nonzero()[:, 0]
    places = rows[live]
    ascending = places.sort().values
    if (ascending[1:] == ascending[:-1]).any():
        twice = int(ascending[1:][ascending[1:] == ascending[:-1]][0])
        raise ValueError(f"rows: {twice} was given more than once, but each sequence must have a row of its own.")
    return live, places


def live_accepted(accepted: Tensor, live: Tensor, inputs: int) -> Tensor:
    """Find how many cached inputs the living sequences take, on the CPU.

    Args:
        accepted: (M,) int64.
        live: places of the living among the M.
        inputs: how many are cached.

    Returns:
        Their numbers.

    Raises:
        ValueError: more are to be taken than there are, or fewer than none.
    """
    taken = accepted[live]
    if taken.shape[0] and (taken.min() < 0 or taken.max() > inputs):
        raise ValueError(
            f"accepted: {int(taken.min())} to {int(taken.max())} was given, but it must be 0 to {inputs}, "
            "the number of cached inputs."
        )
    return taken
