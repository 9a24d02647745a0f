"""The hash of SplitMix64 (Steele, Lea and Flood 2014, OOPSLA, figure 15)."""

import numpy as np

from supa.arrays import FloatArray, UInt64Array


def splitmix64(values: UInt64Array) -> UInt64Array:
    """Hash integers to integers, one to one.

    Args:
        values: (n,) uint64.

    Returns:
        (n,) uint64.
    """
    z = values + np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def to_unit(values: UInt64Array) -> FloatArray:
    """Map integers to numbers from 0 to below 1, by their upper 53 bits.

    Args:
        values: (n,) uint64.

    Returns:
        (n,) float64.
    """
    return (values >> np.uint64(11)).astype(np.float64) * 2.0**-53
