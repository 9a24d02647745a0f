"""The stages in which the engine ``cpu`` processes a tile of particles in one slice.

The active particles are rows of an array. One tile of them at a time is copied to a small scratch buffer. One loop
draws all random words of the tile, and another loop computes the geometry of all splits. The lines of the scratch
buffer have constant distances, so the compiler can prove that they do not overlap and vectorises both loops.
"""

import numpy as np

from supa.arrays import FloatArray, IntArray, UInt64Array
from supa.compiler import kernel
from supa.elementary import sin_cos, sin_cos_turn
from supa.physics import PASS, SPLIT, STOP, child_slopes
from supa.random import HALF, MASK, TO_UNIT, identity_words, philox

TILE = 256
_LANES = 32  # divisor of TILE, and a multiple of the vector length of all common processors

# An active particle is a row of 8 words, which fill one cache line: 5 float64 numbers, and 3 uint64 numbers that are
# accessed through a view of that type. The tag contains the number of the shower in the chunk and 8 bits of primary. A
# hit consists of x, y, energy and the tag with 8 bits of slice. A recorded particle consists of x, y, energy, parent,
# tag, and a word with 8 bits of slice and 8 bits of fate.
X, Y, SX, SY, ENERGY, PATH, TAG, PARENT = range(8)
HIT_ID = 3
NODE_PARENT, NODE_TAG, NODE_CODE = 3, 4, 5
BYTE = np.uint64(8)
LOW_BYTE = np.uint64(255)
ONE = np.uint64(1)

# Offsets of the lines of the scratch buffers: words, then reals, then slots.
_FATE_WORD, _THETA_WORD, _DELTA_WORD, _PHI_WORD = 2 * TILE, 3 * TILE, 4 * TILE, 5 * TILE
_SX_1, _SY_1, _SX_2, _SY_2, _SHARE, _TILE_ENERGY = 2 * TILE, 3 * TILE, 4 * TILE, 5 * TILE, 6 * TILE, 7 * TILE
_SPLIT_SLOT, _PASS_SLOT, _CHILD = TILE, 2 * TILE, 3 * TILE


@kernel
def whole_vectors(count: int) -> int:
    """Round up to a multiple of the vector length, so that the slow scalar loop for the remainder is never used."""
    return (count + _LANES - 1) // _LANES * _LANES


@kernel
def load_tile(
    here: FloatArray,
    here_id: UInt64Array,
    start: int,
    m: int,
    words: UInt64Array,
    reals: FloatArray,
) -> None:
    """Copy path and tag to word lines 0 and 1, and the energy to real line _TILE_ENERGY."""
    for j in range(m):
        words[j] = here_id[start + j, PATH]
        words[TILE + j] = here_id[start + j, TAG]
        reals[_TILE_ENERGY + j] = here[start + j, ENERGY]


@kernel
def draw_words(words: UInt64Array, m: int, first: np.uint64, k0: np.uint64, k1: np.uint64) -> None:
    """Draw four random words for each particle and write them to the word lines _FATE_WORD to _PHI_WORD."""
    for j in range(m):
        path, tag = words[j], words[TILE + j]
        low, high = identity_words(first + (tag >> BYTE), tag & LOW_BYTE)
        fate, theta, delta, phi = philox(path & MASK, path >> HALF, low, high, k0, k1)
        words[_FATE_WORD + j] = fate
        words[_THETA_WORD + j] = theta
        words[_DELTA_WORD + j] = delta
        words[_PHI_WORD + j] = phi


@kernel
def sort_fates(
    words: UInt64Array,
    reals: FloatArray,
    m: int,
    stop_word: np.uint64,
    split_word: np.uint64,
    critical_energy: float,
    slots: IntArray,
) -> tuple[int, int, int, int]:
    """List the particles of the tile by fate, and the place of the first child of each particle.

    The loop has no branches, because random fates would cause branch mispredictions.
    """
    stops, splits, passes, children = 0, 0, 0, 0
    for j in range(m):
        word = words[_FATE_WORD + j]
        stop = int(word < stop_word) | int(reals[_TILE_ENERGY + j] < critical_energy)
        split = (1 - stop) & int(word < split_word)
        slots[stops] = j
        slots[_SPLIT_SLOT + splits] = j
        slots[_PASS_SLOT + passes] = j
        slots[_CHILD + j] = children
        stops += stop
        splits += split
        passes += (1 - stop) & (1 - split)
        children += (1 - stop) + split
    return stops, splits, passes, children


@kernel
def stop_particles(
    here: FloatArray,
    here_id: UInt64Array,
    start: int,
    slots: IntArray,
    stops: int,
    l: int,
    hit: FloatArray,
    hit_id: UInt64Array,
    hits: int,
) -> None:
    """Write the hits of the particles that stop."""
    for j in range(stops):
        i, at = start + slots[j], hits + j
        hit[at, 0] = here[i, X]
        hit[at, 1] = here[i, Y]
        hit[at, 2] = here[i, ENERGY]
        hit_id[at, HIT_ID] = (here_id[i, TAG] << BYTE) | np.uint64(l)


@kernel
def pass_particles(
    here: FloatArray,
    here_id: UInt64Array,
    start: int,
    slots: IntArray,
    passes: int,
    dz: float,
    there: FloatArray,
    there_id: UInt64Array,
    born: int,
) -> None:
    """Move the particles that pass to the next slice."""
    for j in range(passes):
        s = slots[_PASS_SLOT + j]
        i, at = start + s, born + slots[_CHILD + s]
        there[at, X] = here[i, X] + dz * here[i, SX]
        there[at, Y] = here[i, Y] + dz * here[i, SY]
        there[at, SX] = here[i, SX]
        there[at, SY] = here[i, SY]
        there[at, ENERGY] = here[i, ENERGY]
        there_id[at, PATH] = here_id[i, PATH] << ONE
        there_id[at, TAG] = here_id[i, TAG]


@kernel
def gather_splits(
    here: FloatArray, start: int, slots: IntArray, splits: int, words: UInt64Array, reals: FloatArray
) -> None:
    """Copy the slopes and random words of the particles that split to the front of the scratch lines."""
    for j in range(splits):
        s = slots[_SPLIT_SLOT + j]
        reals[j] = here[start + s, SX]
        reals[TILE + j] = here[start + s, SY]
        words[_THETA_WORD + j] = words[_THETA_WORD + s]
        words[_DELTA_WORD + j] = words[_DELTA_WORD + s]
        words[_PHI_WORD + j] = words[_PHI_WORD + s]


@kernel
def split_directions(
    words: UInt64Array,
    reals: FloatArray,
    splits: int,
    theta_start: float,
    theta_span: float,
    deviation: float,
    parent_frame: bool,
) -> None:
    """Compute the slopes of both children and theta2 / theta from the slopes of the parent in real lines 0 and 1."""
    for j in range(splits):
        theta = theta_start + theta_span * (np.float64(np.int64(words[_THETA_WORD + j])) * TO_UNIT)
        share = (0.5 - deviation) + 2.0 * deviation * (np.float64(np.int64(words[_DELTA_WORD + j])) * TO_UNIT)
        sine_phi, cosine_phi = sin_cos_turn(words[_PHI_WORD + j])
        sine, cosine = sin_cos(theta * (1.0 - share))
        sx, sy = child_slopes(reals[j], reals[TILE + j], sine, cosine, sine_phi, cosine_phi, parent_frame)
        reals[_SX_1 + j] = sx
        reals[_SY_1 + j] = sy
        sine, cosine = sin_cos(theta * share)
        sx, sy = child_slopes(reals[j], reals[TILE + j], -sine, cosine, sine_phi, cosine_phi, parent_frame)
        reals[_SX_2 + j] = sx
        reals[_SY_2 + j] = sy
        reals[_SHARE + j] = share


@kernel
def split_particles(
    here: FloatArray,
    here_id: UInt64Array,
    start: int,
    slots: IntArray,
    splits: int,
    reals: FloatArray,
    balanced: bool,
    dz: float,
    there: FloatArray,
    there_id: UInt64Array,
    born: int,
) -> None:
    """Write the children of the particles that split to the next slice."""
    for j in range(splits):
        s = slots[_SPLIT_SLOT + j]
        i, at = start + s, born + slots[_CHILD + s]
        x, y, energy = here[i, X], here[i, Y], here[i, ENERGY]
        share = reals[_SHARE + j] if balanced else 0.5
        there[at, X] = x + dz * reals[_SX_1 + j]
        there[at, Y] = y + dz * reals[_SY_1 + j]
        there[at, SX] = reals[_SX_1 + j]
        there[at, SY] = reals[_SY_1 + j]
        there[at, ENERGY] = energy * share
        there[at + 1, X] = x + dz * reals[_SX_2 + j]
        there[at + 1, Y] = y + dz * reals[_SY_2 + j]
        there[at + 1, SX] = reals[_SX_2 + j]
        there[at + 1, SY] = reals[_SY_2 + j]
        there[at + 1, ENERGY] = energy * (1.0 - share)
        path, tag = here_id[i, PATH] << ONE, here_id[i, TAG]
        there_id[at, PATH] = path
        there_id[at, TAG] = tag
        there_id[at + 1, PATH] = path | ONE
        there_id[at + 1, TAG] = tag


@kernel
def record_particle(
    here: FloatArray, here_id: UInt64Array, i: int, l: int, fate: int, node: FloatArray, node_id: UInt64Array, at: int
) -> None:
    """Record one particle."""
    node[at, 0], node[at, 1], node[at, 2] = here[i, X], here[i, Y], here[i, ENERGY]
    node_id[at, NODE_PARENT], node_id[at, NODE_TAG] = here_id[i, PARENT], here_id[i, TAG]
    node_id[at, NODE_CODE] = (np.uint64(l) << BYTE) | np.uint64(fate)


@kernel
def record_tile(
    here: FloatArray,
    here_id: UInt64Array,
    start: int,
    m: int,
    slots: IntArray,
    stops: int,
    splits: int,
    l: int,
    there_id: UInt64Array,
    born: int,
    num_nodes: IntArray,
    node: FloatArray,
    node_id: UInt64Array,
    nodes: int,
) -> None:
    """Number the particles of the tile within their showers, record them, and store their numbers in their children."""
    stop, split = 0, 0
    for j in range(m):
        k = int(here_id[start + j, TAG] >> BYTE)
        number = np.uint64(num_nodes[k])
        num_nodes[k] += 1
        child = born + slots[_CHILD + j]
        if stop < stops and slots[stop] == j:
            stop += 1
            fate = STOP
        elif split < splits and slots[_SPLIT_SLOT + split] == j:
            split += 1
            fate = SPLIT
            there_id[child, PARENT], there_id[child + 1, PARENT] = number, number
        else:
            fate = PASS
            there_id[child, PARENT] = number
        record_particle(here, here_id, start + j, l, fate, node, node_id, nodes + j)
