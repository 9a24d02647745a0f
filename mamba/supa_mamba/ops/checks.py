"""Checks of the inputs of operations."""

import torch
from torch import Tensor

DEVICES = ("cpu", "cuda")

INTEGER_DTYPES = (
    torch.int64, torch.int32, torch.int16, torch.int8, torch.uint64, torch.uint32, torch.uint16, torch.uint8,
)  # fmt: skip
"""The dtypes that offsets, rows and counts may have; all are cast to int64."""


def check_device(name: str, x: Tensor) -> None:
    """Check that the operations run on the device of a tensor.

    Args:
        name: The name of the tensor in the message.
        x: Any tensor.

    Raises:
        ValueError: The device is neither a CPU nor a GPU of type ``cuda``, which is also the type of AMD's GPUs.
    """
    if x.device.type not in DEVICES:
        raise ValueError(
            f"{name}: device {str(x.device)!r} was given, but the operations run on 'cpu' and 'cuda' only; move the "
            "tensors and the module to the CPU."
        )


def check_shape(name: str, x: Tensor | None, shape: tuple[int, ...], like: Tensor, words: str) -> None:
    """Check the shape, the dtype and the device of a tensor.

    Args:
        name: what the tensor is called.
        x: the tensor, or None, which passes.
        shape: the shape that it must have.
        like: a tensor on the device where it must lie.
        words: the shape in letters.

    Raises:
        ValueError: The shape differs, it holds no real numbers, or it lies on another device.
    """
    if x is None:
        return
    if tuple(x.shape) != shape:
        raise ValueError(f"{name}: shape {tuple(x.shape)} was given, but it must be {words} = {shape}.")
    if not x.is_floating_point():
        raise ValueError(f"{name}: {x.dtype} was given, but it must hold floating-point numbers.")
    if x.device != like.device:
        raise ValueError(f"{name}: it lies on {x.device}, but the other tensors on {like.device}; move it there.")


def activation_is_silu(activation: str | None) -> bool:
    """Return whether silu follows a convolution.

    Args:
        activation: None, or "silu" or "swish", which are two names of x sigmoid(x).

    Returns:
        Whether it is silu.

    Raises:
        ValueError: The activation is another one.
    """
    if activation not in (None, "silu", "swish"):
        raise ValueError(f"activation: {activation!r} was given, but it must be None, 'silu' or 'swish'.")
    return activation is not None


def holds_integers(x: Tensor) -> bool:
    """Return whether a tensor can be used as row numbers, after a cast to int64.

    Args:
        x: Any tensor.

    Returns:
        True for every signed or unsigned integer dtype, False for bool, floating-point and complex dtypes.
    """
    return x.dtype in INTEGER_DTYPES
