"""Slots of a table of states that one step changes, and how many cached inputs each of them takes first."""

import torch
from torch import Tensor

from supa_mamba.ops.checks import check_device, holds_integers
from supa_mamba.ops.transforms import is_transformed

STATE_DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def check_state(name: str, state: Tensor, dims: tuple[int, ...], words: str) -> None:
    """Check a table of states that is changed in place.

    Args:
        name: The name of the argument.
        state: The table, with any strides.
        dims: The numbers of dimensions that it may have.
        words: Its shape in letters.

    Raises:
        ValueError: The shape or the dtype is another one, or several of its values share one place in memory.
    """
    check_device(name, state)
    if state.ndim not in dims or state.dtype not in STATE_DTYPES:
        raise ValueError(
            f"{name}: {state.dtype} of shape {tuple(state.shape)} was given, but it must be {words}, float16, "
            "bfloat16, float32 or float64."
        )
    if _overlaps(state):
        raise ValueError(
            f"{name}: shape {tuple(state.shape)} with strides {state.stride()} was given, but several of its values "
            "share one place in memory, and it is changed in place; pass a copy of it, by .clone() or "
            ".contiguous()."
        )


def _overlaps(x: Tensor) -> bool:
    """Return whether values may share a place: a step along one dimension must pass over all smaller steps."""
    if x.is_contiguous():
        return False
    dims = [(stride, size) for stride, size in zip(x.stride(), x.shape, strict=True) if size != 1]
    return any(
        sum((size - 1) * smaller for j, (smaller, size) in enumerate(dims) if j != i and smaller <= stride) >= stride
        for i, (stride, _) in enumerate(dims)
    )


def normalize_slots(name: str, slots: Tensor | None, x: Tensor, state: Tensor) -> Tensor:
    """Check the slots that the sequences have in the table, or name the first ones.

    Args:
        name: The name of the argument.
        slots: (M,) integers, or None.
        x: (M, ...), the input.
        state: (R, ...), the table.

    Returns:
        (M,) int64, contiguous, as kernels want them.

    Raises:
        ValueError: They do not fit the sequences or the table.
    """
    if slots is None:
        if x.shape[0] > state.shape[0]:
            raise ValueError(
                f"x: {x.shape[0]} sequences were given, but the table of states has {state.shape[0]} slots; give the "
                f"slot of each sequence in {name}."
            )
        return torch.arange(x.shape[0], device=x.device)
    return normalize_integers(name, slots, x)


def normalize_integers(name: str, given: Tensor, x: Tensor) -> Tensor:
    """Check one integer for each sequence, but not its value, as a GPU would have to wait for that.

    Args:
        name: The name of the argument.
        given: (M,), of any integer dtype.
        x: (M, ...), the input.

    Returns:
        (M,) int64, contiguous, as kernels want them.

    Raises:
        ValueError: The shape, the dtype or the device does not fit.
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
    """Check a cache that is to hold inputs exactly.

    Args:
        name: The name of the cache.
        cached: The cache.
        shape: The shape that it must have.
        new: The inputs that go into it.
        words: The shape in letters.

    Raises:
        ValueError: The shape or the device differs, it would round, or it is not contiguous.
    """
    if tuple(cached.shape) != shape or cached.device != new.device or not cached.is_contiguous():
        raise ValueError(
            f"{name}: shape {tuple(cached.shape)} on {cached.device} was given, but it must be {words} = {shape}, "
            f"contiguous, on {new.device}."
        )
    if not cached.is_floating_point() or torch.promote_types(cached.dtype, new.dtype) != cached.dtype:
        raise ValueError(
            f"{name}: {cached.dtype} was given, which would round the {new.dtype} inputs; make it {new.dtype}."
        )


def check_no_gradients(name: str, trained: str, *tensors: Tensor | None) -> None:
    """Refuse inputs that ask for gradients.

    Args:
        name: The operation.
        trained: The operation to train with.
        tensors: Its inputs.

    Raises:
        ValueError: Gradients are required.
    """
    if is_transformed(*tensors):
        raise ValueError(
            f"{name}: it changes its state in place, so torch.func and forward-mode derivatives are not supported; "
            f"differentiate {trained}, and for torch.vmap give all sequences slots of one state."
        )
    if torch.is_grad_enabled() and any(x is not None and x.requires_grad for x in tensors):
        raise ValueError(
            f"{name} changes its state and has no gradients, but an input requires them; "
            f"call it under torch.no_grad(), or train with {trained}."
        )


def active_slots(name: str, slots: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    """Find the sequences that have not finished, on the CPU.

    Args:
        name: The name of the argument.
        slots: (M,) int64.
        state: (R, ...), the table.

    Returns:
        Their places among the M, and their slots in the table.

    Raises:
        ValueError: There is no such slot, or two sequences have one.
    """
    if slots.shape[0] and slots.max() >= state.shape[0]:
        raise ValueError(f"{name}: {int(slots.max())} was given, but the table has slots 0 to {state.shape[0] - 1}.")
    live = (slots >= 0).nonzero()[:, 0]
    places = slots[live]
    ascending = places.sort().values
    if (ascending[1:] == ascending[:-1]).any():
        twice = int(ascending[1:][ascending[1:] == ascending[:-1]][0])
        raise ValueError(f"{name}: {twice} was given more than once, but each sequence must have a slot of its own.")
    return live, places


def active_accepted(accepted: Tensor, live: Tensor, inputs: int) -> Tensor:
    """Find how many cached inputs the living sequences take, on the CPU.

    Args:
        accepted: (M,) int64.
        live: Places of the living among the M.
        inputs: How many are cached.

    Returns:
        Their numbers.

    Raises:
        ValueError: More are to be taken than there are, or fewer than none.
    """
    taken = accepted[live]
    if taken.shape[0] and (taken.min() < 0 or taken.max() > inputs):
        raise ValueError(
            f"accepted: {int(taken.min())} to {int(taken.max())} was given, but it must be 0 to {inputs}, "
            "the number of cached inputs."
        )
    return taken
