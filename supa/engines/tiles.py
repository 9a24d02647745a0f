"""The stages in which the engine ``cpu`` processes a tile of particles in one slice.

The active particles are rows of 8 words in a flat array. One tile of them at a time is copied to a small scratch
buffer. One loop draws all random words of the tile, and another loop computes the geometry of all splits. The lines of
the scratch buffer have constant distances, so the compiler can prove that they do not overlap and vectorises both
loops. All other loops index with uint64, because Numba tests whether a signed index is negative.
"""

import numpy as np

from supa.arrays import FloatArray, IntArray, UInt64Array
from supa.compiler import kernel
from supa.elementary import sin_cos, sin_cos_turn
from supa.physics import LEAK, PASS, SPLIT, STOP, child_slopes
from supa.random import HALF, MASK, TO_UNIT, Word, identity_words, philox

TILE = 128
_LANES = 8  # divisor of TILE, and a multiple of the vector length of all common processors

ZERO, ONE = Word(0), Word(1)
BYTE, LOW_BYTE = Word(8), Word(255)

# An active particle is a row of 8 words, which fill one cache line: 5 float64 numbers, and 3 uint64 numbers that are
# accessed through a view of that type. The tag contains the number of the shower in the chunk and 8 bits of primary.
ROW = Word(8)
X, Y, SX, SY, ENERGY, PATH, TAG, PARENT = (Word(column) for column in range(8))
# A hit consists of x, y, energy and the tag.
HIT_ROW = Word(4)
HIT_X, HIT_Y, HIT_ENERGY, HIT_TAG = (Word(column) for column in range(4))
# A recorded particle consists of x, y, energy, parent, tag, and a word with 8 bits of slice and 8 bits of fate.
NODE_ROW = Word(6)
NODE_X, NODE_Y, NODE_ENERGY, NODE_PARENT, NODE_TAG, NODE_CODE = (Word(column) for column in range(6))

# Offsets of the lines of the scratch buffers: words, then reals, then slots.
_TAG, _FATE, _THETA_WORD, _DELTA_WORD, _PHI_WORD = TILE, 2 * TILE, 3 * TILE, 4 * TILE, 5 * TILE
_SX_1, _SY_1, _SX_2, _SY_2, _SHARE, _TILE_ENERGY = 2 * TILE, 3 * TILE, 4 * TILE, 5 * TILE, 6 * TILE, 7 * TILE
_SPLIT_SLOT, _PASS_SLOT = Word(TILE), Word(2 * TILE)
NUM_WORD_LINES, NUM_REAL_LINES, NUM_SLOT_LINES = 6, 8, 3

# Four counts of 16 bits in one word: stops, splits, passes and children.
_FIELD = Word(0xFFFF)
_SPLITS, _PASSES, _CHILDREN = Word(16), Word(32), Word(48)
_COUNT_STOP = Word(1)
_COUNT_SPLIT = Word((1 << 16) + (2 << 48))
_COUNT_PASS = Word((1 << 32) + (1 << 48))


@kernel
def whole_vectors(count: np.int64) -> np.int64:
    """Round up to a multiple of the vector length, so that the slow scalar loop for the remainder is never used."""
    return (count + _LANES - 1) // _LANES * _LANES


@kernel
def load_tile(
    here: FloatArray, here_id: UInt64Array, start: Word, m: Word, words: UInt64Array, reals: FloatArray
) -> None:
    """Copy path and tag to word lines 0 and 1, and the energy to real line _TILE_ENERGY."""
    for j in range(m):
        row = ROW * (start + j)
        words[j] = here_id[row + PATH]
        words[Word(_TAG) + j] = here_id[row + TAG]
        reals[Word(_TILE_ENERGY) + j] = here[row + ENERGY]


@kernel
def draw_words(
    words: UInt64Array,
    reals: FloatArray,
    m: np.int64,
    first: Word,
    k0: Word,
    k1: Word,
    stop_word: Word,
    split_word: Word,
    critical_energy: float,
) -> None:
    """Draw four random words for each particle and write its fate and the other words to the lines of the words.

    A fate is written as the counts that it adds to: one stop, or one split and two children, or one pass and one child.
    """
    for j in range(m):
        path, tag = words[j], words[_TAG + j]
        low, high = identity_words(first + (tag >> BYTE), tag & LOW_BYTE)
        fate, theta, delta, phi = philox(path & MASK, path >> HALF, low, high, k0, k1)
        goes_on = _COUNT_SPLIT if fate < split_word else _COUNT_PASS
        stops = (fate < stop_word) | (reals[_TILE_ENERGY + j] < critical_energy)
        words[_FATE + j] = _COUNT_STOP if stops else goes_on
        words[_THETA_WORD + j] = theta
        words[_DELTA_WORD + j] = delta
        words[_PHI_WORD + j] = phi


@kernel
def sort_fates(words: UInt64Array, m: Word, slots: UInt64Array) -> tuple[Word, Word, Word, Word]:
    """List the particles of the tile by fate.

    An entry contains the number of the particle in the tile and, above 16 bits, the place of its first child. The loop
    has no branches, because random fates would cause branch mispredictions.
    """
    counts = ZERO
    for j in range(m):
        entry = j | (counts >> _CHILDREN << Word(16))
        slots[counts & _FIELD] = entry
        slots[_SPLIT_SLOT + ((counts >> _SPLITS) & _FIELD)] = entry
        slots[_PASS_SLOT + ((counts >> _PASSES) & _FIELD)] = entry
        counts += words[Word(_FATE) + j]
    return counts & _FIELD, (counts >> _SPLITS) & _FIELD, (counts >> _PASSES) & _FIELD, counts >> _CHILDREN


@kernel
def stop_particles(
    here: FloatArray,
    here_id: UInt64Array,
    start: Word,
    slots: UInt64Array,
    stops: Word,
    layer: Word,
    num_layers: Word,
    hits_of_layer: IntArray,
    hit: FloatArray,
    hit_id: UInt64Array,
    hits: Word,
) -> None:
    """Write the hits of the particles that stop, and count them."""
    for j in range(stops):
        row, at = ROW * (start + (slots[j] & _FIELD)), HIT_ROW * (hits + j)
        hit[at + HIT_X] = here[row + X]
        hit[at + HIT_Y] = here[row + Y]
        hit[at + HIT_ENERGY] = here[row + ENERGY]
        tag = here_id[row + TAG]
        hit_id[at + HIT_TAG] = tag
        hits_of_layer[(tag >> BYTE) * num_layers + layer] += 1


@kernel
def pass_particles(
    here: FloatArray,
    here_id: UInt64Array,
    start: Word,
    slots: UInt64Array,
    passes: Word,
    dz: float,
    there: FloatArray,
    there_id: UInt64Array,
    born: Word,
) -> None:
    """Move the particles that pass to the next slice."""
    for j in range(passes):
        entry = slots[_PASS_SLOT + j]
        row, at = ROW * (start + (entry & _FIELD)), ROW * (born + (entry >> Word(16)))
        there[at + X] = here[row + X] + dz * here[row + SX]
        there[at + Y] = here[row + Y] + dz * here[row + SY]
        there[at + SX] = here[row + SX]
        there[at + SY] = here[row + SY]
        there[at + ENERGY] = here[row + ENERGY]
        there_id[at + PATH] = here_id[row + PATH] << ONE
        there_id[at + TAG] = here_id[row + TAG]


@kernel
def gather_splits(
    here: FloatArray, start: Word, slots: UInt64Array, splits: Word, words: UInt64Array, reals: FloatArray
) -> None:
    """Copy the slopes and random words of the particles that split to the front of the scratch lines."""
    for j in range(splits):
        s = slots[_SPLIT_SLOT + j] & _FIELD
        row = ROW * (start + s)
        reals[j] = here[row + SX]
        reals[Word(TILE) + j] = here[row + SY]
        words[Word(_THETA_WORD) + j] = words[Word(_THETA_WORD) + s]
        words[Word(_DELTA_WORD) + j] = words[Word(_DELTA_WORD) + s]
        words[Word(_PHI_WORD) + j] = words[Word(_PHI_WORD) + s]


@kernel
def split_directions(
    words: UInt64Array,
    reals: FloatArray,
    splits: np.int64,
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
    start: Word,
    slots: UInt64Array,
    splits: Word,
    reals: FloatArray,
    balanced: bool,
    dz: float,
    there: FloatArray,
    there_id: UInt64Array,
    born: Word,
) -> None:
    """Write the children of the particles that split to the next slice."""
    for j in range(splits):
        entry = slots[_SPLIT_SLOT + j]
        row, at = ROW * (start + (entry & _FIELD)), ROW * (born + (entry >> Word(16)))
        x, y, energy = here[row + X], here[row + Y], here[row + ENERGY]
        sx_1, sy_1 = reals[Word(_SX_1) + j], reals[Word(_SY_1) + j]
        sx_2, sy_2 = reals[Word(_SX_2) + j], reals[Word(_SY_2) + j]
        share = reals[Word(_SHARE) + j] if balanced else 0.5
        path, tag = here_id[row + PATH] << ONE, here_id[row + TAG]
        there[at + X] = x + dz * sx_1
        there[at + Y] = y + dz * sy_1
        there[at + SX] = sx_1
        there[at + SY] = sy_1
        there[at + ENERGY] = energy * share
        there_id[at + PATH] = path
        there_id[at + TAG] = tag
        at += ROW
        there[at + X] = x + dz * sx_2
        there[at + Y] = y + dz * sy_2
        there[at + SX] = sx_2
        there[at + SY] = sy_2
        there[at + ENERGY] = energy * (1.0 - share)
        there_id[at + PATH] = path | ONE
        there_id[at + TAG] = tag


@kernel
def record_tile(
    here: FloatArray,
    here_id: UInt64Array,
    start: Word,
    m: Word,
    slots: UInt64Array,
    stops: Word,
    splits: Word,
    passes: Word,
    l: int,
    there_id: UInt64Array,
    born: Word,
    num_nodes: IntArray,
    node: FloatArray,
    node_id: UInt64Array,
    nodes: Word,
) -> None:
    """Number the particles of the tile within their showers, record them, and store their numbers in their children."""
    for j in range(m):
        at = NODE_ROW * (nodes + j)
        k = here_id[ROW * (start + j) + TAG] >> BYTE
        _record(here, here_id, start + j, node, node_id, at)
        node_id[at + NODE_CODE] = Word(num_nodes[k])  # replaced below by slice and fate
        num_nodes[k] += 1
    code = Word(l) << BYTE
    for j in range(stops):
        node_id[NODE_ROW * (nodes + (slots[j] & _FIELD)) + NODE_CODE] = code | Word(STOP)
    for j in range(splits):
        entry = slots[_SPLIT_SLOT + j]
        at, child = NODE_ROW * (nodes + (entry & _FIELD)) + NODE_CODE, ROW * (born + (entry >> Word(16))) + PARENT
        there_id[child] = node_id[at]
        there_id[child + ROW] = node_id[at]
        node_id[at] = code | Word(SPLIT)
    for j in range(passes):
        entry = slots[_PASS_SLOT + j]
        at = NODE_ROW * (nodes + (entry & _FIELD)) + NODE_CODE
        there_id[ROW * (born + (entry >> Word(16))) + PARENT] = node_id[at]
        node_id[at] = code | Word(PASS)


@kernel
def record_leak(
    here: FloatArray,
    here_id: UInt64Array,
    i: Word,
    num_slices: int,
    node: FloatArray,
    node_id: UInt64Array,
    nodes: Word,
) -> None:
    """Record a particle that left the last slice."""
    _record(here, here_id, i, node, node_id, NODE_ROW * nodes)
    node_id[NODE_ROW * nodes + NODE_CODE] = (Word(num_slices) << BYTE) | Word(LEAK)


@kernel
def _record(here: FloatArray, here_id: UInt64Array, i: Word, node: FloatArray, node_id: UInt64Array, at: Word) -> None:
    row = ROW * i
    node[at + NODE_X], node[at + NODE_Y], node[at + NODE_ENERGY] = here[row + X], here[row + Y], here[row + ENERGY]
    node_id[at + NODE_PARENT], node_id[at + NODE_TAG] = here_id[row + PARENT], here_id[row + TAG]
