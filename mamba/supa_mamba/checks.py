"""Checks of what a user gives to operations: one clear error each."""

from torch import Tensor


def check_shape(name: str, x: Tensor | None, shape: tuple[int, ...], like: Tensor, words: str) -> None:
    """Check the shape, the kind and the place of a tensor.

    Args:
        name: what the tensor is called.
        x: the tensor, or None, which passes.
        shape: the shape that it must have.
        like: a tensor on the device where it must lie.
        words: the shape in letters.

    Raises:
        ValueError: the shape differs, it holds no real numbers, or it lies on another device.
    """
    if x is None:
        return
    if tuple(x.shape) != shape:
        raise ValueError(f"{name}: shape {tuple(x.shape)} was given, but it must be {words} = {shape}.")
    if not x.is_floating_point():
        raise ValueError(f"{name}: {x.dtype} was given, but it must hold floating-point numbers.")
    if x.device != like.device:
        raise ValueError(f"{name}: it lies on {x.device}, but the other tensors on {like.device}; move it there.")


def check_activation(activation: str | None) -> None:
    """Check what follows a convolution.

    Args:
        activation: None or "silu".

    Raises:
        ValueError: it is another.
    """
    if activation not in (None, "silu"):
        raise ValueError(f"activation: {activation!r} was given, but it must be None or 'silu'.")
