"""The sizes of the blocks and tiles in which the kernels walk, chosen by the sizes of features alone."""

from supa_mamba.kernel_inputs import power_of_two

TILE = 32
"""Steps between two stored states. The gradient of A sums over a tile: a longer one loses digits where steps are
large."""

REGISTERS_FORWARD = 128
REGISTERS_BACKWARD = 200
"""Of each lane, in single precision: about the fewest with which nothing is spilled at 16 states, so that most warps run."""


def block_sizes(states: int) -> tuple[int, int, int]:
    """Choose the channels of a program's block.

    Args:
        states: N.

    Returns:
        Channels a program walks with forward, and backward, and over how many of the 32 lanes the backward kernel
        spreads the states.
    """
    padded = power_of_two(states)
    lanes = min(4, padded)
    return max(8, min(128, 512 // padded)), max(32 // lanes, min(128, 512 // padded)), lanes
