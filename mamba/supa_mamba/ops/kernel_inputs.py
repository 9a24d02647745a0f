"""What Triton kernels take: sizes, strides and precisions."""

from typing import Any

import torch
from torch import Tensor


def power_of_two(size: int) -> int:
    """Give the next power of two, which the sizes of Triton's blocks must be.

    Args:
        size: at least 1.

    Returns:
        The smallest power of two that is not smaller.
    """
    return 1 << (size - 1).bit_length()


def with_unit_stride(x: Tensor) -> Tensor:
    """Put the values of each row beside each other; the rows themselves may lie anywhere.

    Args:
        x: (rows, values).

    Returns:
        The tensor itself where it is so already, or a copy.
    """
    return x if x.stride(-1) == 1 else x.contiguous()


def contiguous(x: Tensor | None) -> Tensor | None:
    """Put the values of a tensor that may be missing behind each other, as kernels read what has no stride.

    Args:
        x: any shape, or None.

    Returns:
        The tensor itself where it is so already, a copy, or None.
    """
    return None if x is None else x.contiguous()


def triton_dtype(x: Tensor) -> Any:
    """Name the precision of states in Triton's words.

    Args:
        x: float32 or float64.

    Returns:
        Triton's float32 or float64.
    """
    import triton.language as tl

    return tl.float64 if x.dtype == torch.float64 else tl.float32
