"""Random numbers of a sample: each number is a pure function of seed, index of the shower and number of the hit.

The generator is the counter-based one of `supa.random`. Primaries of simulated showers have numbers up to 254, so that
number 255 belongs to samples, and a simulation with the same seed and index has other random numbers.
"""

from typing import Any

import numpy as np

from supa.arrays import FloatArray, IntArray
from supa.compiler import kernel
from supa.random import HALF, MASK, TO_UNIT, Word, identity_words, philox

PER_HIT = 5
"""Random numbers of a hit: of its energy (2) and its position (3)."""

PER_SLICE = 5
"""Random numbers of a slice: of its number of hits (2), whether it is the last one with hits, and its energy (2)."""

PER_LEAK = 3
"""Random numbers of the leak of a shower: whether energy leaks, and how much (2)."""

HITS = 1 << 32
"""Block of the random numbers of the first hit. Those of the leak are in block 0, followed by those of the slices."""

PER_TRIAL = 6
"""Random numbers of a trial of a hit in speculative sampling: those of a hit, and whether it is accepted."""

TRIALS = 1 << 60
"""Block of the random numbers of the first trial of the first hit."""

TRIAL_BITS = 20
"""Logarithm of the largest number of trials of a hit. Trial 0 is that of the draft."""

OWNER = Word(255)
"""Number in the place of a primary, which belongs to samples."""

_BLOCKS = 2  # of a slice or a hit
_WORDS = 4


def hit_uniforms(seed: int, index: IntArray, number: IntArray) -> FloatArray:
    """Return the random numbers of hits.

    Args:
        seed: Random seed from 0 to 2**64 - 1.
        index: (M,) int64 indices of the showers.
        number: (M,) int64 numbers of earlier hits of the showers.

    Returns:
        (M, 5) float64 numbers, above 0 and below 1.
    """
    found = np.empty((len(index), _BLOCKS * _WORDS))
    _fill(np.uint64(seed), index, HITS + _BLOCKS * number, found)
    return found[:, :PER_HIT]


def slice_uniforms(seed: int, index: IntArray, number: int) -> FloatArray:
    """Return the random numbers of slices.

    Args:
        seed: Random seed from 0 to 2**64 - 1.
        index: (M,) int64 indices of the showers.
        number: Slice, numbered from the first slice of the readout layers.

    Returns:
        (M, 5) float64 numbers, above 0 and below 1.
    """
    found = np.empty((len(index), _BLOCKS * _WORDS))
    _fill(np.uint64(seed), index, np.full_like(index, 1 + _BLOCKS * number), found)
    return found[:, :PER_SLICE]


def leak_uniforms(seed: int, index: IntArray) -> FloatArray:
    """Return the random numbers of the leak of showers.

    Args:
        seed: Random seed from 0 to 2**64 - 1.
        index: (M,) int64 indices of the showers.

    Returns:
        (M, 3) float64 numbers, above 0 and below 1.
    """
    found = np.empty((len(index), _WORDS))
    _fill(np.uint64(seed), index, np.zeros_like(index), found)
    return found[:, :PER_LEAK]


def trial_uniforms(seed: int, index: IntArray, number: IntArray, trial: IntArray) -> FloatArray:
    """Return the random numbers of trials of hits, in speculative sampling.

    Args:
        seed: Random seed from 0 to 2**64 - 1.
        index: (M,) int64 indices of the showers.
        number: (M,) int64 numbers of earlier hits of the showers.
        trial: (M,) int64 numbers of the trials, below 2**20.

    Returns:
        (M, 6) float64 numbers, above 0 and below 1.
    """
    found = np.empty((len(index), _BLOCKS * _WORDS))
    _fill(np.uint64(seed), index, TRIALS + _BLOCKS * ((number << TRIAL_BITS) + trial), found)
    return found[:, :PER_TRIAL]


@kernel
def _fill(seed: Any, index: Any, block: Any, found: Any) -> None:
    """Fill rows with the blocks of random numbers from a given one on."""
    for m in range(len(index)):
        low, high = identity_words(Word(index[m]), OWNER)
        for k in range(found.shape[1] // _WORDS):
            path = Word(block[m] + k)
            words = philox(path & MASK, path >> HALF, low, high, seed & MASK, seed >> HALF)
            for w in range(_WORDS):
                found[m, _WORDS * k + w] = (np.float64(words[w]) + 0.5) * TO_UNIT
