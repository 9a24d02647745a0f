"""Tiles of rows for the Triton kernels of norms, which depend on the number of features only."""

from typing import NamedTuple

from supa_mamba.ops.kernel_inputs import power_of_two

ELEMENTS = 1024
"""Number of elements of a tile of narrow rows: 8 for each lane of 4 warps, so that many programs run at once."""

PREFETCHED_ELEMENTS = 512
"""Number of elements of a tile in kernels that load the next tile in advance."""

PROGRAMS = 2048
"""Number of programs of a backward kernel. Each sums the gradient of the weight over its tiles; a second kernel adds
these sums. The number does not depend on the number of rows, so that further rows without a gradient change no bit."""


class RowTile(NamedTuple):
    """Sizes of a program that processes whole rows.

    Args:
        rows: Number of rows at a time.
        columns: Number of features of a row, rounded up to a power of two.
        warps: Number of warps per program.
    """

    rows: int
    columns: int
    warps: int


def row_tile(width: int, *, prefetched: bool = False) -> RowTile:
    """Choose the sizes of a program.

    A lane holds 8 elements of each tensor up to a width of 1,024, 16 up to 16,384, and more above it, where registers
    are spilled.

    Args:
        width: Number of features of a row, at least 1.
        prefetched: Whether the kernel loads the next tile in advance.

    Returns:
        The sizes.
    """
    columns, elements = power_of_two(width), PREFETCHED_ELEMENTS if prefetched else ELEMENTS
    return RowTile(max(1, elements // columns), columns, min(32, max(4, columns // 512)))


def forward_programs(rows: int, tile: RowTile) -> int:
    """Return the number of programs of a forward kernel, one for each tile.

    Args:
        rows: Number of rows.
        tile: Sizes of a program.

    Returns:
        Number of programs.
    """
    return -(-rows // tile.rows)


def backward_programs(rows: int, groups: int = 1) -> int:
    """Return the number of programs of a backward kernel for each group of features.

    Args:
        rows: Number of rows.
        groups: Number of groups.

    Returns:
        Number of programs, 0 without rows.
    """
    return max(1, PROGRAMS // groups) if rows else 0
