"""Bins for numbers of hits: exact up to 63, then of a constant relative width."""

_EXACT_BITS = 6
_BINS_PER_OCTAVE = 32


def bin_edges(most: int) -> list[int]:
    """Return the edges of bins for the integers from 0 to at least a given one.

    A bin contains the integers from its edge to below the next edge. There is a bin for each integer below 64, and 32
    bins of equal width from one power of two to the next above.

    Args:
        most: Integer that must be in a bin.

    Returns:
        Edges in ascending order, one more than there are bins.

    Example:
        >>> from supa_mamba.generator.number_bins import bin_edges
        >>> bin_edges(3)
        [0, 1, 2, 3, 4]
        >>> bin_edges(200)[60:68], bin_edges(200)[-2:]
        ([60, 61, 62, 63, 64, 66, 68, 70], [200, 204])
    """
    edges = [0]
    while edges[-1] <= most:
        octave = edges[-1].bit_length() - 1
        edges.append(edges[-1] + (1 if octave < _EXACT_BITS else 2**octave // _BINS_PER_OCTAVE))
    return edges
