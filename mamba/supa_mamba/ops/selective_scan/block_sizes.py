"""The sizes of the blocks and tiles in which the kernels walk, chosen by the sizes of features alone."""

from typing import NamedTuple

from supa_mamba.ops.kernel_inputs import power_of_two

TILE = 16
"""Steps between two stored states. What the backward kernel keeps of a tile is to stay in the caches, and the gradient
of A, which sums over a tile, loses digits in a longer one where steps are large."""


class ForwardBlock(NamedTuple):
    """How a program of the forward kernel, one warp, walks.

    Args:
        channels: channels of a program.
        registers: most registers of a lane: few, so that many warps run together, but enough to spill nothing; None
            for as many as the compiler likes.
    """

    channels: int
    registers: int | None


class BackwardBlock(NamedTuple):
    """How a program of the backward kernel, one warp, walks.

    Args:
        channels: channels of a program at a time.
        state_lanes: over how many of the 32 lanes the states are spread.
        outer_states: into how many rounds over those lanes the states are cut.
        rows: steps at a time in what is done step by step alone.
        groups: programs of a sequence; each walks over several blocks of channels, one after the other, and sums the
            gradients of B and C over them, so that these sums need little memory.
        registers: as of ``ForwardBlock``.
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
        states: N.
        double: whether states are in double precision.

    Returns:
        The sizes, the fastest of those tried on an H200.
    """
    padded = power_of_two(states)
    of_lanes = 2048 if padded > 32 else 1024
    return ForwardBlock(max(8, min(128, of_lanes // padded)), None if double or padded > 16 else 128)


def backward_block(channels: int, states: int) -> BackwardBlock:
    """Choose the sizes of the backward kernel.

    Args:
        channels: D.
        states: N.

    Returns:
        The sizes, the fastest of those tried on an H200 but for N of 64, where twice as many groups, and twice their
        memory, would be 10 % faster. A lane holds four states, or twice four, of four channels: what a load brings.
    """
    padded = power_of_two(states)
    outer = 2 if padded > 16 else 1
    lanes = min(32, max(1, padded // 4 // outer))
    block = 4 * (32 // lanes)
    groups = max(1, min(-(-channels // block), 2 * channels // states))
    return BackwardBlock(block, lanes, outer, min(16, 512 // block), groups, None)
