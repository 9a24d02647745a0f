"""Block and tile sizes of the kernels, which depend on the feature sizes only."""

from typing import NamedTuple

from supa_mamba.ops.kernel_inputs import power_of_two

TILE = 16
"""Number of rows between two stored states. The intermediate values of a tile should stay in the GPU caches, and the
gradient of A, a sum over a tile, loses digits in longer tiles if step sizes are large."""


class ForwardBlock(NamedTuple):
    """Sizes of a program of the forward kernel, which is one warp.

    Args:
        channels: Number of channels per program.
        registers: Maximum number of registers per lane, or None for no limit. Fewer registers allow more concurrent
            warps, but too few cause spills.
    """

    channels: int
    registers: int | None


class BackwardBlock(NamedTuple):
    """Sizes of a program of the backward kernel, which is one warp.

    Args:
        channels: Number of channels per block.
        state_lanes: Number of the 32 lanes over which the states are distributed.
        outer_states: Number of rounds over these lanes into which the states are divided.
        rows: Number of rows at a time in computations that are independent for each row.
        groups: Number of programs per sequence. Each program processes several blocks of channels in turn and sums the
            gradients of B and C over them, which reduces the memory of these sums.
        registers: Maximum number of registers per lane; see ``ForwardBlock``.
    """

    channels: int
    state_lanes: int
    outer_states: int
    rows: int
    groups: int
    registers: int | None


def forward_block(states: int, *, double: bool) -> ForwardBlock:
    """Choose the sizes of the forward kernel.

    Args:
        states: Number of states per channel, N.
        double: Whether states are float64.

    Returns:
        The fastest sizes among those tested on an H200.
    """
    padded = power_of_two(states)
    of_lanes = 2048 if padded > 32 else 1024
    return ForwardBlock(max(8, min(128, of_lanes // padded)), None if double or padded > 16 else 128)


def backward_block(channels: int, states: int) -> BackwardBlock:
    """Choose the sizes of the backward kernel.

    A lane holds four or eight states of four channels. One load fetches four values.

    Args:
        channels: Number of channels, D.
        states: Number of states per channel, N.

    Returns:
        The fastest sizes among those tested on an H200. For N = 64, twice as many groups would be 10 % faster but need
        twice the memory.
    """
    padded = power_of_two(states)
    outer = 2 if padded > 16 else 1
    lanes = min(32, max(1, padded // 4 // outer))
    block = 4 * (32 // lanes)
    groups = max(1, min(-(-channels // block), 2 * channels // states))
    return BackwardBlock(block, lanes, outer, min(16, 512 // block), groups, None)
