"""Sizes, strides and dtypes of what Triton kernels take."""

from typing import Any

import torch
from torch import Tensor


def power_of_two(size: int) -> int:
    """Return the next power of two, which the sizes of Triton's blocks must be.

    Args:
        size: at least 1.

    Returns:
        The smallest power of two that is not smaller.
    """
    return 1 << (size - 1).bit_length()


def with_unit_stride(x: Tensor) -> Tensor:
    """Return a tensor whose last dimension is contiguous; the rows may have any strides.

    Args:
        x: (rows, values).

    Returns:
        The tensor itself, or a copy.
    """
    return x if x.stride(-1) == 1 else x.contiguous()


def contiguous(x: Tensor | None) -> Tensor | None:
    """Return a contiguous tensor, as kernels need where they take no strides; None stays None.

    Args:
        x: any shape, or None.

    Returns:
        The tensor itself, a copy, or None.
    """
    return None if x is None else x.contiguous()


def triton_dtype(x: Tensor) -> Any:
    """Return Triton's dtype of the states.

    Args:
        x: float32 or float64.

    Returns:
        Triton's float32 or float64.
    """
    import triton.language as tl

    return tl.float64 if x.dtype == torch.float64 else tl.float32
