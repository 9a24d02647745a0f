"""Checks of arguments."""

from collections.abc import Sequence

import torch
from torch import Tensor

from supa.checks import did_you_mean, format_value


def one_of(allowed: Sequence[str | None], name: str, value: object) -> None:
    """Check that a value is one of the allowed values.

    Args:
        allowed: Allowed values.
        name: Name of the argument, for the error message.
        value: Value to check.

    Raises:
        ValueError: If the value is not allowed.
    """
    if value not in allowed:
        names = [choice for choice in allowed if choice is not None]
        raise ValueError(
            f"{name} must be one of {', '.join(map(repr, allowed))}, got {format_value(value)}."
            f"{did_you_mean(value, names)}"
        )


def one_of_parts(allowed: Sequence[type], name: str, value: object) -> None:
    """Check that a part of a method has an allowed type.

    Args:
        allowed: Allowed classes.
        name: Name of the argument, for the error message.
        value: Part to check.

    Raises:
        ValueError: If the part is not an instance of an allowed class.
    """
    if not isinstance(value, tuple(allowed)):
        names = ", ".join("None" if kind is type(None) else f"{kind.__name__}(...)" for kind in allowed)
        raise ValueError(f"{name} must be one of {names}, got {format_value(value)}.")


def form(value: object) -> str:
    """Describe the type and shape of something that should be another tensor.

    Args:
        value: Value that is not allowed.

    Returns:
        A text such as "int32 of shape (2, 5)" or "a list".
    """
    if value is None or isinstance(value, str):
        return format_value(value)
    if not isinstance(value, Tensor):
        name = type(value).__name__
        return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"
    sparse = "sparse " if value.layout != torch.strided else ""
    return f"{sparse}{dtype_name(value)} of shape {tuple(value.shape)}"


def dtype_name(value: Tensor) -> str:
    """Return the name of a dtype as users write it.

    Args:
        value: Any tensor.

    Returns:
        A name such as "int64".
    """
    return str(value.dtype).removeprefix("torch.")


def check_indices(name: str, indices: object, items: int) -> Tensor:
    """Check indices of items.

    Args:
        name: Name of the argument, for the error message.
        indices: (count,) int64 indices.
        items: Number of items.

    Returns:
        The indices.

    Raises:
        ValueError: If they are not (count,) int64, there are none, or one is out of range.
    """
    if not isinstance(indices, Tensor) or indices.dtype != torch.int64 or indices.dim() != 1:
        hint = "" if indices is None else " Convert others by torch.as_tensor, and a mask by mask.nonzero().view(-1)."
        raise ValueError(f"{name} must be a (count,) tensor of int64 indices, got {form(indices)}.{hint}")
    if len(indices) == 0:
        raise ValueError(f"{name} must have at least one index.")
    if int(indices.min()) < 0 or int(indices.max()) >= items:
        raise ValueError(
            f"{name} must have indices between 0 and {items - 1}, but they range from {int(indices.min())} to "
            f"{int(indices.max())}."
        )
    return indices
