"""Counter-based random numbers: each number is a pure function of seed, shower, primary and path of the particle.

The generator is Philox4x32-10 of Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3" (SC
2011). The key is the seed. The 128 bits of the counter are, from the lowest, 64 bits of path, 56 bits of shower index
and 8 bits of primary. The path of a primary is 1. If a particle with path p passes or splits, the particle that passed
or its first child has path 2p, and its second child has path 2p + 1.
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

# Blocks of initial conditions have numbers from here on; the paths of particles are smaller.
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
    """Compute four random words from a counter and a key. All words are 32-bit values stored as uint64.

    Args:
        c0: Lowest word of the counter.
        c1: Second word of the counter.
        c2: Third word of the counter.
        c3: Highest word of the counter.
        k0: Lower word of the key.
        k1: Upper word of the key.

    Returns:
        Four independent words, uniform from 0 to 2**32 - 1.
    """
    # The rounds are unrolled, because only then does the compiler vectorise the loop over particles around them.
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
    """Return the two upper words of the counter, which identify the shower and the primary.

    Args:
        index: Index of the shower (uint64 below 2**56).
        primary: Number of the primary in its shower (uint64 below 256).

    Returns:
        Words c2 and c3 (uint64).
    """
    return index & MASK, ((index >> HALF) << PRIMARY_BITS) | primary
