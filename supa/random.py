"""The counter-based generator: every random number is a pure function of (seed, shower, primary, particle path).

Philox4x32-10 of Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3" (SC 2011). The key is the
seed; the counter's 128 bits are, from the lowest: 64 bits of path, 56 of shower index, 8 of primary. The path of a
particle is 1 for a primary, 2p for the first child of p or for p itself after it passed, 2p + 1 for the second child.
"""

from typing import TypeAlias

import numpy as np

from supa.compiler import inline

Word: TypeAlias = np.uint64

MAX_SEED = 2**64 - 1
MAX_INDEX = 2**56 - 1

MASK = np.uint64(0xFFFFFFFF)
HALF = np.uint64(32)
PRIMARY_BITS = np.uint64(8)
TO_UNIT = 2.0**-32

# Blocks of a primary's initial conditions are numbered from here up, where no particle's path can be.
INITIAL_PATH = np.uint64(1 << 63)

_MULTIPLIER_0 = np.uint64(0xD2511F53)
_MULTIPLIER_1 = np.uint64(0xCD9E8D57)
_WEYL_0 = np.uint64(0x9E3779B9)
_WEYL_1 = np.uint64(0xBB67AE85)


@inline
def _round(c0: Word, c1: Word, c2: Word, c3: Word, k0: Word, k1: Word) -> tuple[Word, Word, Word, Word]:
    product_0 = _MULTIPLIER_0 * c0
    product_1 = _MULTIPLIER_1 * c2
    return (product_1 >> HALF) ^ c1 ^ k0, product_1 & MASK, (product_0 >> HALF) ^ c3 ^ k1, product_0 & MASK


@inline
def philox(c0: Word, c1: Word, c2: Word, c3: Word, k0: Word, k1: Word) -> tuple[Word, Word, Word, Word]:
    """Turn a counter and a key into four random words; all are 32-bit values held in uint64.

    Args:
        c0: the counter's lowest word.
        c1: its second word.
        c2: its third word.
        c3: its highest word.
        k0: the key's lower word.
        k1: the key's upper word.

    Returns:
        Four independent words, uniform from 0 to 2**32 - 1.
    """
    # Written out, not looped: only so does the loop over particles around it become vector instructions.
    c0, c1, c2, c3 = _round(c0, c1, c2, c3, k0, k1)
    k0, k1 = (k0 + _WEYL_0) & MASK, (k1 + _WEYL_1) & MASK
    c0, c1, c2, c3 = _round(c0, c1, c2, c3, k0, k1)
    k0, k1 = (k0 + _WEYL_0) & MASK, (k1 + _WEYL_1) & MASK
    c0, c1, c2, c3 = _round(c0, c1, c2, c3, k0, k1)
    k0, k1 = (k0 + _WEYL_0) & MASK, (k1 + _WEYL_1) & MASK
    c0, c1, c2, c3 = _round(c0, c1, c2, c3, k0, k1)
    k0, k1 = (k0 + _WEYL_0) & MASK, (k1 + _WEYL_1) & MASK
    c0, c1, c2, c3 = _round(c0, c1, c2, c3, k0, k1)
    k0, k1 = (k0 + _WEYL_0) & MASK, (k1 + _WEYL_1) & MASK
    c0, c1, c2, c3 = _round(c0, c1, c2, c3, k0, k1)
    k0, k1 = (k0 + _WEYL_0) & MASK, (k1 + _WEYL_1) & MASK
    c0, c1, c2, c3 = _round(c0, c1, c2, c3, k0, k1)
    k0, k1 = (k0 + _WEYL_0) & MASK, (k1 + _WEYL_1) & MASK
    c0, c1, c2, c3 = _round(c0, c1, c2, c3, k0, k1)
    k0, k1 = (k0 + _WEYL_0) & MASK, (k1 + _WEYL_1) & MASK
    c0, c1, c2, c3 = _round(c0, c1, c2, c3, k0, k1)
    k0, k1 = (k0 + _WEYL_0) & MASK, (k1 + _WEYL_1) & MASK
    return _round(c0, c1, c2, c3, k0, k1)


@inline
def identity_words(index: Word, primary: Word) -> tuple[Word, Word]:
    """Return the counter's two upper words, which name the shower and the primary.

    Args:
        index: shower index, uint64 below 2**56.
        primary: number of the primary in its shower, uint64 below 256.

    Returns:
        The words c2 and c3 (uint64).
    """
    return index & MASK, ((index >> HALF) << PRIMARY_BITS) | primary
