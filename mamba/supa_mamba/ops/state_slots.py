"""Checks of state tables, their slots and the caches of inputs."""

import numpy as np
import torch
from torch import Tensor

from supa.checks import counted
from supa_mamba.ops.checks import check_device, holds_integers
from supa_mamba.ops.transforms import is_transformed

STATE_DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def check_state(name: str, state: Tensor, dims: tuple[int, ...], words: str) -> None:
    """Check a state table that is modified in place.

    Args:
        name: Name of the argument.
        state: The table, with any strides.
        dims: Allowed numbers of dimensions.
        words: Shape in letters, for the message.

    Raises:
        ValueError: If the shape or the dtype is wrong, or several elements share memory.
    """
    check_device(name, state)
    if state.ndim not in dims or state.dtype not in STATE_DTYPES:
        raise ValueError(
            f"{name}: {state.dtype} of shape {tuple(state.shape)} was given, but it must be {words}, float16, "
            "bfloat16, float32 or float64."
        )
    if _overlaps(state):
        raise ValueError(
            f"{name}: shape {tuple(state.shape)} with strides {state.stride()} was given, but several of its elements "
            "share memory, and it is modified in place; pass a copy from .clone() or .contiguous()."
        )


def _overlaps(x: Tensor) -> bool:
    """Return whether elements may share memory: each stride must exceed the extent of all smaller strides."""
    if x.is_contiguous():
        return False
    dims = [(stride, size) for stride, size in zip(x.stride(), x.shape, strict=True) if size != 1]
    return any(
        sum((size - 1) * smaller for j, (smaller, size) in enumerate(dims) if j != i and smaller <= stride) >= stride
        for i, (stride, _) in enumerate(dims)
    )


def normalize_slots(name: str, slots: Tensor | None, x: Tensor, state: Tensor) -> Tensor:
    """Check the slots of the sequences. The default is slots 0 to M - 1.

    Args:
        name: Name of the argument.
        slots: (M,) integers, or None.
        x: (M, ...) input.
        state: (R, ...) state table.

    Returns:
        (M,) int64 contiguous slots.

    Raises:
        ValueError: If the slots do not match the sequences or the table.
    """
    if slots is None:
        if x.shape[0] > state.shape[0]:
            raise ValueError(
                f"x: it has {counted(x.shape[0], 'sequence')}, but the state table has "
                f"{counted(state.shape[0], 'slot')}; pass the slot of each sequence in {name}."
            )
        return torch.arange(x.shape[0], device=x.device)
    return normalize_integers(name, slots, x)


def normalize_integers(name: str, given: Tensor, x: Tensor) -> Tensor:
    """Check a tensor of one integer per sequence, except its values, which would require a synchronisation.

    Args:
        name: Name of the argument.
        given: (M,) integers.
        x: (M, ...) input.

    Returns:
        (M,) int64 contiguous integers.

    Raises:
        ValueError: If shape, dtype or device does not match.
    """
    if not isinstance(given, Tensor):
        raise ValueError(f"{name}: a {type(given).__name__} was given, but it must be a tensor, (M,) integers.")
    if given.shape != x.shape[:1] or not holds_integers(given) or given.device != x.device:
        raise ValueError(
            f"{name}: shape {tuple(given.shape)}, {given.dtype} on {given.device} was given, but it must be (M,) "
            f"= ({x.shape[0]},) integers on {x.device}."
        )
    return given.to(torch.int64).contiguous()


def check_cached(name: str, cached: Tensor, shape: tuple[int, ...], new: Tensor, words: str) -> None:
    """Check a cache that stores inputs exactly.

    Args:
        name: Name of the cache.
        cached: The cache.
        shape: Required shape.
        new: The inputs that will be stored.
        words: Required shape in letters, for the message.

    Raises:
        ValueError: If shape or device is wrong, the cache is not contiguous, or its dtype would round the inputs.
    """
    if tuple(cached.shape) != shape or cached.device != new.device or not cached.is_contiguous():
        raise ValueError(
            f"{name}: shape {tuple(cached.shape)} on {cached.device} was given, but it must be {words} = {shape}, "
            f"contiguous, on {new.device}."
        )
    if not cached.is_floating_point() or torch.promote_types(cached.dtype, new.dtype) != cached.dtype:
        raise ValueError(
            f"{name}: {cached.dtype} was given, which would round the {new.dtype} inputs; use {new.dtype}."
        )


def check_no_gradients(name: str, trained: str, *tensors: Tensor | None) -> None:
    """Check that no input requires gradients.

    Args:
        name: Name of the operation.
        trained: Name of the differentiable operation, for the message.
        tensors: Inputs of the operation.

    Raises:
        ValueError: If gradients are required, or a transform of ``torch.func`` is active.
    """
    if is_transformed(*tensors):
        raise ValueError(
            f"{name}: it modifies its state in place, so torch.func and forward-mode derivatives are not supported; "
            f"differentiate {trained} instead, and instead of torch.vmap use one state with a slot per sequence."
        )
    if torch.is_grad_enabled() and any(x is not None and x.requires_grad for x in tensors):
        raise ValueError(
            f"{name} modifies its state and has no gradients, but an input requires them; "
            f"call it under torch.no_grad(), or train with {trained}."
        )


def active_slots(name: str, slots: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    """Find the unfinished sequences, on the CPU.

    Args:
        name: Name of the argument.
        slots: (M,) int64 slots.
        state: (R, ...) state table.

    Returns:
        Indices of the unfinished sequences among the M sequences, and their slots.

    Raises:
        ValueError: If a slot does not exist, or two sequences have the same slot.
    """
    numbers = slots.numpy()  # for a few slots NumPy is several times as fast as PyTorch
    if len(numbers) and numbers.max() >= state.shape[0]:
        raise ValueError(f"{name}: {numbers.max()} was given, but the table has slots 0 to {state.shape[0] - 1}.")
    live = np.flatnonzero(numbers >= 0)
    places = numbers[live]
    ascending = np.sort(places)
    twice = ascending[1:][ascending[1:] == ascending[:-1]]
    if len(twice):
        raise ValueError(f"{name}: {twice[0]} was given more than once, but each sequence must have its own slot.")
    return torch.from_numpy(live), torch.from_numpy(places)


def active_accepted(accepted: Tensor, live: Tensor, inputs: int) -> Tensor:
    """Return the numbers of accepted inputs of the unfinished sequences, on the CPU.

    Args:
        accepted: (M,) int64 numbers of accepted inputs.
        live: Indices of the unfinished sequences among the M sequences.
        inputs: Number of cached inputs.

    Returns:
        Number of accepted inputs of each unfinished sequence.

    Raises:
        ValueError: If a number is negative or exceeds the number of cached inputs.
    """
    taken = accepted[live]
    if taken.shape[0] and (taken.min() < 0 or taken.max() > inputs):
        raise ValueError(
            f"accepted: {int(taken.min())} to {int(taken.max())} was given, but it must be 0 to {inputs}, "
            "the number of cached inputs."
        )
    return taken
