"""The sizes of the blocks in which the kernels walk, chosen by the sizes of features and precision alone."""

from dataclasses import dataclass

import torch
from torch import Tensor

from supa_mamba.ops.kernel_inputs import power_of_two

SHARES = 1024
"""Into how many shares the sequences are cut at most, of which gradients of parameters are summed one by one."""


@dataclass(frozen=True)
class Blocks:
    """How a kernel walks.

    Args:
        chunk: steps of a chunk.
        width: values of a head that a program takes.
        heads: heads that a program takes, a divisor of the heads of a group.
        warps: warps of a program.
        stages: how many heads' inputs are under way at once.
        registers: how many registers a lane may take, None for as many as the compiler likes.
    """

    chunk: int
    width: int
    heads: int
    warps: int
    stages: int
    registers: int | None


def operands(x: Tensor, A: Tensor, B: Tensor, C: Tensor) -> tuple[torch.dtype, str]:
    """Choose how matrix products are made: what tensor cores multiply exactly, or nearly so in single precision.

    Args:
        x: an input.
        A: an input in the precision of states.
        B: an input.
        C: an input.

    Returns:
        What operands are rounded to, also where they are stored, and Triton's name of how they are multiplied.
    """
    dtypes = {x.dtype, B.dtype, C.dtype}
    if A.dtype == torch.float64:
        return torch.float64, "ieee"
    if dtypes == {torch.bfloat16}:
        return torch.bfloat16, "tf32"
    # States may lie beyond what float16 holds; tf32 has its digits and the range of float32.
    return torch.float32, "tf32x3" if torch.float32 in dtypes else "tf32"


def padded(size: int) -> int:
    """Return the size of a block that matrix products take.

    Args:
        size: at least 1.

    Returns:
        A power of two, at least 16.
    """
    return max(16, power_of_two(size))


def walk_blocks(width: int, states: int, dtype: torch.dtype) -> Blocks:
    """Choose the blocks of the walking kernel.

    Args:
        width: P.
        states: N.
        dtype: in which matrix products take their operands: bfloat16, float32 or float64.

    Returns:
        The blocks, with one head; the fastest of those tried on an H200.
    """
    block = min(padded(width), max(16, 4096 // padded(states)))
    if dtype == torch.float64:
        return Blocks(16, min(block, 16), 1, 4, 1, None)
    if dtype == torch.float32:
        return Blocks(16, block, 1, 2, 1, None)
    return Blocks(32, block, 1, 4, 1, 168)


def pairs_blocks(heads: int, width: int, states: int, dtype: torch.dtype) -> Blocks:
    """Choose the blocks of the kernel that pairs steps.

    Args:
        heads: heads of a group.
        width: P.
        states: N.
        dtype: as in ``walk_blocks``.

    Returns:
        The blocks, the fastest of those tried on an H200; the chunk is a multiple of the walking kernel's, which stores
        states at its borders.
    """
    together = max(k for k in range(1, 9) if heads % k == 0)
    # All that is under way of up to 256 states takes 99 KB of shared memory at most, which GPUs since Ampere have.
    block = min(padded(width), 64, max(16, 8192 // padded(states)))
    stages = 3 if padded(states) <= 64 else 2
    if dtype == torch.bfloat16:
        return Blocks(64, block, together, 4, stages, None)
    if dtype == torch.float32:
        return Blocks(32, min(block, 32), together, 4, stages, None)
    return Blocks(16, min(block, 32), together, 4, 1, None)
