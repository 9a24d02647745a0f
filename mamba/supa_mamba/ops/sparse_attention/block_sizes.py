"""Block sizes of the kernels, which depend on the head size and the precision."""

from typing import NamedTuple

import torch

LANES = 256
"""Number of rows per program of the kernels that prepare the order."""


class Blocks(NamedTuple):
    """Block sizes of a kernel.

    Args:
        queries: Number of queries of a tile or a block.
        keys: Number of keys of a block or a tile.
        warps: Number of warps per program.
        stages: Number of blocks that are loaded in advance, and the current one.
    """

    queries: int
    keys: int
    warps: int
    stages: int


def operands(dtype: torch.dtype) -> tuple[torch.dtype, str]:
    """Choose the precision of matrix products: the inputs are multiplied exactly, or nearly so in single precision.

    Args:
        dtype: Dtype of the inputs.

    Returns:
        Dtype to which operands are rounded, and ``input_precision`` of ``tl.dot``.
    """
    if dtype == torch.float64:
        return torch.float64, "ieee"
    if dtype == torch.bfloat16:
        return torch.bfloat16, "tf32"
    # Gradients may exceed the range of float16; tf32 has its precision and the range of float32.
    return torch.float32, "tf32x3" if dtype == torch.float32 else "tf32"


def forward_blocks(width: int, operand: torch.dtype) -> Blocks:
    """Choose the block sizes of the forward kernel.

    Args:
        width: Head size, rounded up to a power of two.
        operand: Dtype of the operands of matrix products.

    Returns:
        Block sizes.
    """
    if operand == torch.float64:
        return Blocks(16, 16, 4, 1)
    if operand == torch.float32:
        return Blocks(32, 32, 4, 1) if width > 64 else Blocks(64, 64, 4, 1)
    return Blocks(128, 64, 8, 2) if width > 64 else Blocks(64, 64, 4, 3)


def backward_blocks(width: int, operand: torch.dtype) -> Blocks:
    """Choose the block sizes of both backward kernels.

    Args:
        width: Head size, rounded up to a power of two.
        operand: Dtype of the operands of matrix products.

    Returns:
        Block sizes.
    """
    if operand == torch.float64:
        return Blocks(16, 16, 4, 1)
    if operand == torch.float32:
        return Blocks(32, 32, 8, 1) if width > 64 else Blocks(32, 64, 4, 1)
    return Blocks(64, 64, 8, 2) if width > 64 else Blocks(64, 64, 4, 3)
