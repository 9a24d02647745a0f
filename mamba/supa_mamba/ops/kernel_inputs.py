"""Sizes, strides and dtypes of the arguments of Triton kernels."""

from typing import Any

import torch
from torch import Tensor


def power_of_two(size: int) -> int:
    """Round a size up to a power of two, as Triton requires for the sizes of blocks.

    Args:
        size: Size of at least 1.

    Returns:
        The smallest power of two of at least ``size``.
    """
    return 1 << (size - 1).bit_length()


def with_unit_stride(x: Tensor) -> Tensor:
    """Return a tensor whose last dimension has stride 1. The other stride is arbitrary.

    Args:
        x: (rows, values) tensor.

    Returns:
        The tensor itself, or a copy.
    """
    return x if x.stride(-1) == 1 else x.contiguous()


def contiguous(x: Tensor | None) -> Tensor | None:
    """Return a contiguous tensor, for kernels that take no strides.

    Args:
        x: Tensor of any shape, or None.

    Returns:
        The tensor itself, a copy, or None.
    """
    return None if x is None else x.contiguous()


def triton_dtype(x: Tensor) -> Any:
    """Return the Triton dtype of states.

    Args:
        x: A float32 or float64 tensor.

    Returns:
        ``tl.float32`` or ``tl.float64``.
    """
    import triton.language as tl

    return tl.float64 if x.dtype == torch.float64 else tl.float32
