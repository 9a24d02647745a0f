"""The stages in which the engine ``cpu`` processes a tile of particles in one slice.

One loop draws all random words of the tile, and another loop computes the geometry of all splits. Their results are
lines of a small scratch buffer with constant distances, so the compiler can prove that the lines do not overlap, and
vectorises both loops. All other loops index with uint64, because Numba tests whether a signed index is negative.
"""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from supa.arrays import FloatArray, IntArray, UInt64Array
from supa.compiler import stage
from supa.elementary import sin_cos, sin_cos_turn
from supa.physics import LEAK, PASS, SPLIT, STOP, child_slopes
from supa.random import HALF, MASK, TO_UNIT, Word, identity_words, philox

TILE = 128
_CACHE_LINE = 64  # bytes
LANES = 8  # divisor of TILE, and a multiple of the vector length of all common processors

ZERO, ONE = Word(0), Word(1)
BYTE, LOW_BYTE = Word(8), Word(255)

# The position and the slopes of a particle are a row of 4 numbers.
ROW = Word(4)
X, Y, SX, SY = (Word(column) for column in range(4))
# A hit consists of x, y, energy and the tag.
HIT_ROW = Word(4)
HIT_X, HIT_Y, HIT_ENERGY, HIT_TAG = (Word(column) for column in range(4))
# A recorded particle consists of x, y, energy, parent, tag, and a word with 8 bits of slice and 8 bits of fate.
NODE_ROW = Word(6)
NODE_X, NODE_Y, NODE_ENERGY, NODE_PARENT, NODE_TAG, NODE_CODE = (Word(column) for column in range(6))

# Offsets of the lines of the scratch buffers: words, then reals, then slots.
_FATE, _THETA_WORD, _DELTA_WORD, _PHI_WORD = 0, TILE, 2 * TILE, 3 * TILE
_SX_1, _SY_1, _SX_2, _SY_2, _SHARE = 2 * TILE, 3 * TILE, 4 * TILE, 5 * TILE, 6 * TILE
_SPLIT_SLOT, _PASS_SLOT = Word(TILE), Word(2 * TILE)
_NUM_WORD_LINES, _NUM_REAL_LINES, _NUM_SLOT_LINES = 4, 7, 3

# Four counts of 16 bits in one word: stops, splits, passes and children.
_FIELD = Word(0xFFFF)
_SPLITS, _PASSES, _CHILDREN = Word(16), Word(32), Word(48)
_COUNT_STOP = Word(1)
_COUNT_SPLIT = Word((1 << 16) + (2 << 48))
_COUNT_PASS = Word((1 << 32) + (1 << 48))


@stage
def whole_vectors(count: Word) -> np.int64:
    """Round up to a multiple of the vector length.

    The compiler sees that the result is a multiple, and leaves out a scalar loop for the remainder.
    """
    return np.int64((count + Word(LANES - 1)) // Word(LANES)) * LANES


def aligned_empty(count: int, kind: npt.DTypeLike) -> npt.NDArray[Any]:
    """Allocate an array that starts with a cache line, because vectors that cross two lines are slow."""
    memory = np.empty(count + _CACHE_LINE // 8, kind)
    skipped = -memory.ctypes.data % _CACHE_LINE // 8
    return memory[skipped : skipped + count]


class Particles(NamedTuple):
    """The active particles of a slice."""

    geometry: FloatArray
    """(4 capacity,) rows of position and slopes."""
    energy: FloatArray
    path: UInt64Array
    tag: UInt64Array
    """Number of the shower in the chunk, and 8 bits of primary."""
    parent: UInt64Array
    """Number of the parent in its shower, if particles are recorded."""

    @classmethod
    def empty(cls, count: int) -> "Particles":
        """Allocate memory for particles. The vectorised loops read a few numbers beyond the last particle."""
        size = count + LANES
        return cls(
            aligned_empty(4 * size, np.float64),
            aligned_empty(size, np.float64),
            *(aligned_empty(size, np.uint64) for _ in ("path", "tag", "parent")),
        )

    @property
    def capacity(self) -> int:
        """Number of particles that fit."""
        return len(self.energy) - LANES


class Scratch(NamedTuple):
    """Memory for one tile."""

    words: UInt64Array
    reals: FloatArray
    slots: UInt64Array

    @classmethod
    def empty(cls) -> "Scratch":
        """Allocate memory for one tile."""
        return cls(
            aligned_empty(_NUM_WORD_LINES * TILE, np.uint64),
            aligned_empty(_NUM_REAL_LINES * TILE, np.float64),
            aligned_empty(_NUM_SLOT_LINES * TILE, np.uint64),
        )


@stage
def draw_words(
    path: UInt64Array,
    tag: UInt64Array,
    energy: FloatArray,
    m: Word,
    words: UInt64Array,
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
    for j in range(whole_vectors(m)):
        p, t = path[j], tag[j]
        low, high = identity_words(first + (t >> BYTE), t & LOW_BYTE)
        fate, theta, delta, phi = philox(p & MASK, p >> HALF, low, high, k0, k1)
        goes_on = _COUNT_SPLIT if fate < split_word else _COUNT_PASS
        stops = (fate < stop_word) | (energy[j] < critical_energy)
        words[_FATE + j] = _COUNT_STOP if stops else goes_on
        words[_THETA_WORD + j] = theta
        words[_DELTA_WORD + j] = delta
        words[_PHI_WORD + j] = phi


@stage
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


@stage
def stop_particles(
    here: Particles,
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
        i, at = start + (slots[j] & _FIELD), HIT_ROW * (hits + j)
        hit[at + HIT_X] = here.geometry[ROW * i + X]
        hit[at + HIT_Y] = here.geometry[ROW * i + Y]
        hit[at + HIT_ENERGY] = here.energy[i]
        tag = here.tag[i]
        hit_id[at + HIT_TAG] = tag
        hits_of_layer[(tag >> BYTE) * num_layers + layer] += 1


@stage
def pass_particles(
    here: Particles, start: Word, slots: UInt64Array, passes: Word, dz: float, there: Particles, born: Word
) -> None:
    """Move the particles that pass to the next slice."""
    for j in range(passes):
        entry = slots[_PASS_SLOT + j]
        i, at = start + (entry & _FIELD), born + (entry >> Word(16))
        sx, sy = here.geometry[ROW * i + SX], here.geometry[ROW * i + SY]
        there.geometry[ROW * at + X] = here.geometry[ROW * i + X] + dz * sx
        there.geometry[ROW * at + Y] = here.geometry[ROW * i + Y] + dz * sy
        there.geometry[ROW * at + SX] = sx
        there.geometry[ROW * at + SY] = sy
        there.energy[at] = here.energy[i]
        there.path[at] = here.path[i] << ONE
        there.tag[at] = here.tag[i]


@stage
def gather_splits(
    here: Particles, start: Word, slots: UInt64Array, splits: Word, words: UInt64Array, reals: FloatArray
) -> None:
    """Copy the slopes and random words of the particles that split to the front of the scratch lines."""
    for j in range(splits):
        s = slots[_SPLIT_SLOT + j] & _FIELD
        reals[j] = here.geometry[ROW * (start + s) + SX]
        reals[Word(TILE) + j] = here.geometry[ROW * (start + s) + SY]
        words[Word(_THETA_WORD) + j] = words[Word(_THETA_WORD) + s]
        words[Word(_DELTA_WORD) + j] = words[Word(_DELTA_WORD) + s]
        words[Word(_PHI_WORD) + j] = words[Word(_PHI_WORD) + s]


@stage
def split_directions(
    words: UInt64Array,
    reals: FloatArray,
    splits: Word,
    theta_start: float,
    theta_span: float,
    deviation: float,
    parent_frame: bool,
) -> None:
    """Compute the slopes of both children and theta2 / theta from the slopes of the parent in real lines 0 and 1."""
    for j in range(whole_vectors(splits)):
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


@stage
def split_particles(
    here: Particles,
    start: Word,
    slots: UInt64Array,
    splits: Word,
    reals: FloatArray,
    balanced: bool,
    dz: float,
    there: Particles,
    born: Word,
) -> None:
    """Write the children of the particles that split to the next slice."""
    for j in range(splits):
        entry = slots[_SPLIT_SLOT + j]
        i, at = start + (entry & _FIELD), born + (entry >> Word(16))
        x, y, energy = here.geometry[ROW * i + X], here.geometry[ROW * i + Y], here.energy[i]
        sx_1, sy_1 = reals[Word(_SX_1) + j], reals[Word(_SY_1) + j]
        sx_2, sy_2 = reals[Word(_SX_2) + j], reals[Word(_SY_2) + j]
        share = reals[Word(_SHARE) + j] if balanced else 0.5
        path, tag = here.path[i] << ONE, here.tag[i]
        there.geometry[ROW * at + X] = x + dz * sx_1
        there.geometry[ROW * at + Y] = y + dz * sy_1
        there.geometry[ROW * at + SX] = sx_1
        there.geometry[ROW * at + SY] = sy_1
        there.energy[at] = energy * share
        there.path[at] = path
        there.tag[at] = tag
        at += ONE
        there.geometry[ROW * at + X] = x + dz * sx_2
        there.geometry[ROW * at + Y] = y + dz * sy_2
        there.geometry[ROW * at + SX] = sx_2
        there.geometry[ROW * at + SY] = sy_2
        there.energy[at] = energy * (1.0 - share)
        there.path[at] = path | ONE
        there.tag[at] = tag


@stage
def record_tile(
    here: Particles,
    start: Word,
    m: Word,
    slots: UInt64Array,
    stops: Word,
    splits: Word,
    passes: Word,
    l: int,
    there: Particles,
    born: Word,
    num_nodes: IntArray,
    node: FloatArray,
    node_id: UInt64Array,
    nodes: Word,
) -> None:
    """Number the particles of the tile within their showers, record them, and store their numbers in their children."""
    for j in range(m):
        at = NODE_ROW * (nodes + j)
        k = here.tag[start + j] >> BYTE
        _record(here, start + j, node, node_id, at)
        node_id[at + NODE_CODE] = Word(num_nodes[k])  # replaced below by slice and fate
        num_nodes[k] += 1
    code = Word(l) << BYTE
    for j in range(stops):
        node_id[NODE_ROW * (nodes + (slots[j] & _FIELD)) + NODE_CODE] = code | Word(STOP)
    for j in range(splits):
        entry = slots[_SPLIT_SLOT + j]
        at, child = NODE_ROW * (nodes + (entry & _FIELD)) + NODE_CODE, born + (entry >> Word(16))
        there.parent[child] = node_id[at]
        there.parent[child + ONE] = node_id[at]
        node_id[at] = code | Word(SPLIT)
    for j in range(passes):
        entry = slots[_PASS_SLOT + j]
        at = NODE_ROW * (nodes + (entry & _FIELD)) + NODE_CODE
        there.parent[born + (entry >> Word(16))] = node_id[at]
        node_id[at] = code | Word(PASS)


@stage
def record_leak(here: Particles, i: Word, num_slices: int, node: FloatArray, node_id: UInt64Array, nodes: Word) -> None:
    """Record a particle that left the last slice."""
    _record(here, i, node, node_id, NODE_ROW * nodes)
    node_id[NODE_ROW * nodes + NODE_CODE] = (Word(num_slices) << BYTE) | Word(LEAK)


@stage
def _record(here: Particles, i: Word, node: FloatArray, node_id: UInt64Array, at: Word) -> None:
    node[at + NODE_X], node[at + NODE_Y] = here.geometry[ROW * i + X], here.geometry[ROW * i + Y]
    node[at + NODE_ENERGY] = here.energy[i]
    node_id[at + NODE_PARENT], node_id[at + NODE_TAG] = here.parent[i], here.tag[i]
