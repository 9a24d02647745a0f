"""Block sizes of the kernels, which depend on the feature sizes, the precision and the shared memory of the GPU."""

from dataclasses import dataclass

import torch
from torch import Tensor

from supa_mamba.ops import backend
from supa_mamba.ops.kernel_inputs import power_of_two

SHARES = 1024
"""Maximum number of groups of sequences whose parameter gradients are summed separately."""

CPU_TILE = 16
"""Number of rows between two stored states on a CPU."""


@dataclass(frozen=True)
class Blocks:
    """Block sizes of a kernel.

    Args:
        chunk: Number of rows per chunk.
        width: Number of channels of a head per program.
        heads: Number of heads per program, a divisor of the heads of a group.
        warps: Number of warps per program.
        stages: Number of heads whose inputs are prefetched at once.
        registers: Maximum number of registers per lane, or None for no limit.
    """

    chunk: int
    width: int
    heads: int
    warps: int
    stages: int
    registers: int | None


def operands(x: Tensor, A: Tensor, B: Tensor, C: Tensor) -> tuple[torch.dtype, str]:
    """Choose the precision of matrix products: the inputs are multiplied exactly, or nearly so in single precision.

    Args:
        x: Input.
        A: Decay rates in the precision of states.
        B: Input matrix.
        C: Output matrix.

    Returns:
        Dtype to which operands are rounded, also in memory, and ``input_precision`` of ``tl.dot``.
    """
    dtypes = {x.dtype, B.dtype, C.dtype}
    if A.dtype == torch.float64:
        return torch.float64, "ieee"
    if dtypes == {torch.bfloat16}:
        return torch.bfloat16, "tf32"
    # States may exceed the range of float16; tf32 has its precision and the range of float32.
    return torch.float32, "tf32x3" if torch.float32 in dtypes else "tf32"


def padded(size: int) -> int:
    """Round a size up to a block size that ``tl.dot`` supports.

    Args:
        size: Size of at least 1.

    Returns:
        A power of two of at least 16.
    """
    return max(16, power_of_two(size))


def walk_blocks(width: int, states: int, dtype: torch.dtype) -> Blocks:
    """Choose the block sizes of ``walk_kernel``.

    Args:
        width: Number of channels per head, P.
        states: Number of states per channel, N.
        dtype: Dtype of the operands of matrix products: bfloat16, float32 or float64.

    Returns:
        The fastest block sizes among those tested on an H200, with one head.
    """
    block = min(padded(width), max(16, 4096 // padded(states)))
    if dtype == torch.float64:
        return Blocks(16, min(block, 16), 1, 4, 1, None)
    if dtype == torch.float32:
        return Blocks(16, block, 1, 2, 1, None)
    return Blocks(32, block, 1, 4, 1, 168)


def pairs_blocks(heads: int, width: int, states: int, dtype: torch.dtype) -> Blocks:
    """Choose the block sizes of ``pairs_kernel``.

    Args:
        heads: Number of heads per group.
        width: Number of channels per head, P.
        states: Number of states per channel, N.
        dtype: Dtype of the operands of matrix products; see ``walk_blocks``.

    Returns:
        The fastest block sizes among those tested on an H200. The chunk is a multiple of that of ``walk_kernel``, which
        stores the states at the chunk boundaries.
    """
    together = max(k for k in range(1, 9) if heads % k == 0)
    # With up to 256 states, the prefetched inputs take at most 99 KB of shared memory, which GPUs since Ampere have.
    block = min(padded(width), 64, max(16, 8192 // padded(states)))
    stages = 3 if padded(states) <= 64 else 2
    if dtype == torch.bfloat16:
        return Blocks(64, block, together, 4, stages, None)
    if dtype == torch.float32:
        return Blocks(32, min(block, 32), together, 4, stages, None)
    # In double precision 256 states of 32 channels take 136 KB of shared memory, and those of 16 channels take 72 KB.
    widest = 32 if padded(states) <= 128 or backend.shared_memory() >= 136 else 16
    return Blocks(16, min(block, widest), together, 4, 1, None)
