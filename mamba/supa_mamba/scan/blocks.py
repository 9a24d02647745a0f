"""The sizes of the blocks and tiles in which the kernels walk, chosen by the sizes of features alone."""

from supa_mamba.kernel_inputs import power_of_two

TILE = 32
"""Steps between two stored states. The gradient of A sums over a tile: a longer one loses digits where steps are
large."""


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


def most_registers(states: int, *, double: bool) -> tuple[int | None, int | None]:
    """Choose how many registers a lane may take: few, so that many warps run together, but spill next to none.

    Args:
        states: N.
        double: whether states are in double precision.

    Returns:
        The numbers forward and backward, None for as many as the compiler likes. Found by compiling for compute
        capability 9.0 and reading what ptxas spills.
    """
    return (None, None) if double or states > 64 else (128, 200)
