"""Checks of the inputs of operations."""

import torch
from torch import Tensor

DEVICES = ("cpu", "cuda")

INTEGER_DTYPES = (
    torch.int64, torch.int32, torch.int16, torch.int8, torch.uint64, torch.uint32, torch.uint16, torch.uint8,
)  # fmt: skip
"""Allowed dtypes of offsets, slots and counts. All of them are cast to int64."""


def check_tensor(name: str, x: object) -> None:
    """Check that an argument is a tensor.

    Args:
        name: Name of the argument, for the message.
        x: The argument.

    Raises:
        ValueError: If it is something else.
    """
    if not isinstance(x, Tensor):
        given = "None" if x is None else f"a {type(x).__name__}"
        raise ValueError(
            f"{name}: {given} was given, but it must be a tensor; torch.as_tensor converts arrays and lists."
        )


def check_device(name: str, x: Tensor) -> None:
    """Check that the operations run on the device of a tensor.

    Args:
        name: Name of the tensor, for the message.
        x: Any tensor.

    Raises:
        ValueError: If it is no tensor, or the device type is neither ``cpu`` nor ``cuda``. PyTorch also calls AMD GPUs
            ``cuda``.
    """
    check_tensor(name, x)
    if x.device.type not in DEVICES:
        raise ValueError(
            f"{name}: device {str(x.device)!r} was given, but the operations support 'cpu' and 'cuda' only; move the "
            "tensors and the module to the CPU."
        )


def check_shape(name: str, x: Tensor | None, shape: tuple[int, ...], like: Tensor, words: str) -> None:
    """Check the shape, the dtype and the device of a tensor.

    Args:
        name: Name of the tensor, for the message.
        x: The tensor; None is always valid.
        shape: Required shape.
        like: A tensor on the required device.
        words: Required shape in letters, for the message.

    Raises:
        ValueError: If the shape or the device is wrong, or the dtype is not a floating-point dtype.
    """
    if x is None:
        return
    check_tensor(name, x)
    if tuple(x.shape) != shape:
        raise ValueError(f"{name}: shape {tuple(x.shape)} was given, but it must be {words} = {shape}.")
    if not x.is_floating_point():
        raise ValueError(f"{name}: {x.dtype} was given, but it must hold floating-point numbers.")
    if x.device != like.device:
        raise ValueError(f"{name}: it is on {x.device}, but the other tensors are on {like.device}; move it there.")


def activation_is_silu(activation: str | None) -> bool:
    """Return whether the activation after a convolution is SiLU.

    Args:
        activation: None, ``"silu"`` or its synonym ``"swish"``.

    Returns:
        Whether the activation is SiLU.

    Raises:
        ValueError: If the activation is not supported.
    """
    if activation not in (None, "silu", "swish"):
        raise ValueError(f"activation: {activation!r} was given, but it must be None, 'silu' or 'swish'.")
    return activation is not None


def holds_integers(x: Tensor) -> bool:
    """Return whether a tensor has an integer dtype.

    Args:
        x: Any tensor.

    Returns:
        True for every signed or unsigned integer dtype, False for bool, floating-point and complex dtypes.
    """
    return x.dtype in INTEGER_DTYPES
