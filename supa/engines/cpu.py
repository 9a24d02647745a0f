"""The engine for processors: blocks of showers, all walked slice by slice together, in vector instructions.

The particles of a block lie in flat columns. A tile of them at a time is copied to a small scratch, where one loop
draws all random words and another does the geometry of all splits. The rows of the scratch lie at constant distances,
so the compiler sees that they never overlap, and both loops become vector instructions.
"""

from typing import Any

import numpy as np

from supa.arrays import FloatArray, IntArray, WordArray
from supa.compiler import kernel
from supa.elementary import sin_cos, sin_cos_turn
from supa.engines.results import WalkResult
from supa.physics import LEAK, PASS, SPLIT, STOP, Walk, child_slopes
from supa.primaries import Primaries
from supa.random import HALF, MASK, TO_UNIT, identity_words, philox

TILE = 256

# Rows of the columns of the particles that are alive. A tag is the shower's number in the chunk times 256 + primary.
_X, _Y, _SX, _SY, _ENERGY = 0, 1, 2, 3, 4
_PATH, _TAG, _PARENT = 0, 1, 2
_TAG_BITS = np.uint64(8)
_TAG_PRIMARY = np.uint64(255)
_ONE = np.uint64(1)


def walk_showers(
    walk: Walk,
    seed: int,
    indices: IntArray,
    primaries: Primaries,
    *,
    block_size: int,
    hits_hint: int,
    complete_only: bool,
    record: bool,
    max_particles: int,
) -> WalkResult:
    """Walk showers from their primaries to their hits.

    Args:
        walk: the physics.
        seed: 0 to 2**64 - 1.
        indices: (showers,) the showers' indices.
        primaries: their initial conditions.
        block_size: how many showers are walked together; it does not change the result.
        hits_hint: how many hits to make room for at first; it does not change the result.
        complete_only: drop showers that leave a readout layer empty.
        record: keep every particle, not only the hits.
        max_particles: the most particles that may be alive at a time.

    Returns:
        The hits and particles, by shower, in the order slice, creation.
    """
    return WalkResult(*_walk(walk, np.uint64(seed), indices, primaries, block_size, hits_hint, complete_only, record, max_particles))


@kernel
def _draw_words(words: WordArray, m: int, k0: np.uint64, k1: np.uint64) -> None:
    """Rows 0-2: path, identity words; rows 3-6: the draws fate, theta, delta, phi."""
    for j in range(m):
        path = words[j]
        fate, theta, delta, phi = philox(path & MASK, path >> HALF, words[TILE + j], words[2 * TILE + j], k0, k1)
        words[3 * TILE + j] = fate
        words[4 * TILE + j] = theta
        words[5 * TILE + j] = delta
        words[6 * TILE + j] = phi


@kernel
def _split_directions(
    reals: FloatArray,
    words: WordArray,
    m: int,
    theta_start: float,
    theta_span: float,
    deviation: float,
    parent_frame: bool,
) -> None:
    """Rows 0-1: the parent's slopes; rows 2-5: both children's slopes; row 6: theta2 / theta."""
    for j in range(m):
        theta = theta_start + theta_span * (np.float64(np.int64(words[4 * TILE + j])) * TO_UNIT)
        fraction = (0.5 - deviation) + 2.0 * deviation * (np.float64(np.int64(words[5 * TILE + j])) * TO_UNIT)
        sine_phi, cosine_phi = sin_cos_turn(words[6 * TILE + j])
        sine, cosine = sin_cos(theta * (1.0 - fraction))
        sx, sy = child_slopes(reals[j], reals[TILE + j], sine, cosine, sine_phi, cosine_phi, parent_frame)
        reals[2 * TILE + j] = sx
        reals[3 * TILE + j] = sy
        sine, cosine = sin_cos(theta * fraction)
        sx, sy = child_slopes(reals[j], reals[TILE + j], -sine, cosine, sine_phi, cosine_phi, parent_frame)
        reals[4 * TILE + j] = sx
        reals[5 * TILE + j] = sy
        reals[6 * TILE + j] = fraction


@kernel
def _lengthened(column: Any, length: int) -> Any:
    longer = np.empty(max(length, 2 * len(column)), dtype=column.dtype)
    longer[: len(column)] = column
    return longer


@kernel
def _walk(
    walk: Walk,
    seed: np.uint64,
    indices: IntArray,
    primaries: Primaries,
    block_size: int,
    hits_hint: int,
    complete_only: bool,
    record: bool,
    max_particles: int,
) -> Any:
    k0, k1 = seed & MASK, seed >> HALF
    num_showers, num_slices, dz = len(indices), len(walk.stop_word), walk.slice_spacing
    words, slots, reals = np.empty(7 * TILE, np.uint64), np.empty(5 * TILE, np.int64), np.empty(7 * TILE)
    here, here_id = np.empty(5 * TILE), np.empty(3 * TILE, np.uint64)
    there, there_id = np.empty(5 * TILE), np.empty(3 * TILE, np.uint64)
    hit, hit_id = np.empty(3 * TILE), np.empty(TILE, np.uint64)
    node, node_id = np.empty(3 * TILE), np.empty(3 * TILE, np.uint64)
    x, y, energy = np.empty(hits_hint), np.empty(hits_hint), np.empty(hits_hint)
    slice_, primary = np.empty(hits_hint, np.uint8), np.empty(hits_hint, np.uint8)
    p_x, p_y, p_energy = np.empty(TILE), np.empty(TILE), np.empty(TILE)
    p_parent, p_slice = np.empty(TILE, np.int32), np.empty(TILE, np.uint8)
    p_fate, p_primary = np.empty(TILE, np.uint8), np.empty(TILE, np.uint8)
    kept = np.zeros(num_showers, np.bool_)
    num_hits, num_nodes = np.zeros(num_showers, np.int64), np.zeros(num_showers, np.int64)
    leaked = np.zeros(num_showers)
    cursor = np.zeros(num_showers, np.int64)
    hits_of_layer = np.zeros((num_showers, walk.num_layers), np.int32)
    end, p_end, too_large = 0, 0, -1

    for block in range(0, num_showers, block_size):
        block_end = min(block + block_size, num_showers)
        n = primaries.offset[block_end] - primaries.offset[block]
        if 3 * n > len(here_id):
            here, here_id = _lengthened(here, 5 * n), _lengthened(here_id, 3 * n)
        i = 0
        for k in range(block, block_end):
            for p in range(primaries.offset[k], primaries.offset[k + 1]):
                here[5 * i + _X], here[5 * i + _Y] = primaries.x[p], primaries.y[p]
                here[5 * i + _SX], here[5 * i + _SY] = primaries.slope_x[p], primaries.slope_y[p]
                here[5 * i + _ENERGY] = primaries.energy[p]
                here_id[3 * i + _PATH] = _ONE
                here_id[3 * i + _TAG] = (np.uint64(k) << _TAG_BITS) | np.uint64(p - primaries.offset[k])
                here_id[3 * i + _PARENT] = MASK
                i += 1

        hits, nodes = 0, 0
        for l in range(num_slices):
            if n == 0:
                break
            if 2 * n > max_particles:
                too_large = np.int64(here_id[3 * (n // 2) + _TAG] >> _TAG_BITS)
                break
            stop_word, split_word = walk.stop_word[l], walk.split_word[l]
            layer = walk.layer_of_slice[l]
            if 6 * n > len(there_id):
                there, there_id = _lengthened(there, 10 * n), _lengthened(there_id, 6 * n)
            if hits + n > len(hit_id):
                hit, hit_id = _lengthened(hit, 3 * (hits + n)), _lengthened(hit_id, hits + n)
            if record and 3 * (nodes + n) > len(node):
                node, node_id = _lengthened(node, 3 * (nodes + n)), _lengthened(node_id, 3 * (nodes + n))
            child = 0
            for start in range(0, n, TILE):
                m = min(TILE, n - start)
                for j in range(m):
                    tag = here_id[3 * (start + j) + _TAG]
                    index = np.uint64(indices[np.int64(tag >> _TAG_BITS)])
                    words[j] = here_id[3 * (start + j) + _PATH]
                    words[TILE + j], words[2 * TILE + j] = identity_words(index, tag & _TAG_PRIMARY)
                _draw_words(words, m, k0, k1)

                stops, splits, passes = 0, 0, 0
                for j in range(m):
                    word = words[3 * TILE + j]
                    stop = np.int64(word < stop_word) | np.int64(here[5 * (start + j) + _ENERGY] < walk.critical_energy)
                    split = (1 - stop) & np.int64(word < split_word)
                    slots[stops] = j
                    slots[TILE + splits] = j
                    slots[2 * TILE + splits] = child
                    slots[3 * TILE + passes] = j
                    slots[4 * TILE + passes] = child
                    stops += stop
                    splits += split
                    passes += 1 - stop - split
                    child += 1 - stop + split

                for j in range(stops):
                    i = start + slots[j]
                    hit[3 * hits + 0], hit[3 * hits + 1], hit[3 * hits + 2] = here[5 * i + _X], here[5 * i + _Y], here[5 * i + _ENERGY]
                    hit_id[hits] = (here_id[3 * i + _TAG] << _TAG_BITS) | np.uint64(l)
                    k = np.int64(here_id[3 * i + _TAG] >> _TAG_BITS)
                    num_hits[k] += 1
                    hits_of_layer[k, layer] += 1
                    hits += 1
                for j in range(passes):
                    i, at = start + slots[3 * TILE + j], slots[4 * TILE + j]
                    there[5 * at + _X] = here[5 * i + _X] + dz * here[5 * i + _SX]
                    there[5 * at + _Y] = here[5 * i + _Y] + dz * here[5 * i + _SY]
                    there[5 * at + _SX], there[5 * at + _SY] = here[5 * i + _SX], here[5 * i + _SY]
                    there[5 * at + _ENERGY] = here[5 * i + _ENERGY]
                    there_id[3 * at + _PATH] = here_id[3 * i + _PATH] << _ONE
                    there_id[3 * at + _TAG] = here_id[3 * i + _TAG]
                for j in range(splits):
                    s = slots[TILE + j]
                    reals[j], reals[TILE + j] = here[5 * (start + s) + _SX], here[5 * (start + s) + _SY]
                    words[4 * TILE + j] = words[4 * TILE + s]
                    words[5 * TILE + j] = words[5 * TILE + s]
                    words[6 * TILE + j] = words[6 * TILE + s]
                _split_directions(
                    reals, words, splits, walk.theta_start, walk.theta_span, walk.deviation, walk.parent_frame
                )
                for j in range(splits):
                    i, at = start + slots[TILE + j], slots[2 * TILE + j]
                    sx_1, sy_1 = reals[2 * TILE + j], reals[3 * TILE + j]
                    sx_2, sy_2 = reals[4 * TILE + j], reals[5 * TILE + j]
                    share = reals[6 * TILE + j] if walk.balanced else 0.5
                    there[5 * at + _X], there[5 * (at + 1) + _X] = here[5 * i + _X] + dz * sx_1, here[5 * i + _X] + dz * sx_2
                    there[5 * at + _Y], there[5 * (at + 1) + _Y] = here[5 * i + _Y] + dz * sy_1, here[5 * i + _Y] + dz * sy_2
                    there[5 * at + _SX], there[5 * (at + 1) + _SX] = sx_1, sx_2
                    there[5 * at + _SY], there[5 * (at + 1) + _SY] = sy_1, sy_2
                    there[5 * at + _ENERGY] = here[5 * i + _ENERGY] * share
                    there[5 * (at + 1) + _ENERGY] = here[5 * i + _ENERGY] * (1.0 - share)
                    path = here_id[3 * i + _PATH] << _ONE
                    there_id[3 * at + _PATH], there_id[3 * (at + 1) + _PATH] = path, path | _ONE
                    there_id[3 * at + _TAG] = here_id[3 * i + _TAG]
                    there_id[3 * (at + 1) + _TAG] = here_id[3 * i + _TAG]
                if record:
                    nodes = _record_tile(
                        node, node_id, nodes, here, here_id, there_id, start, l, slots, stops, splits, passes, num_nodes
                    )
            here, there = there, here
            here_id, there_id = there_id, here_id
            n = child
        if too_large >= 0:
            break
        if record and 3 * (nodes + n) > len(node):
            node, node_id = _lengthened(node, 3 * (nodes + n)), _lengthened(node_id, 3 * (nodes + n))
        for i in range(n):
            leaked[np.int64(here_id[3 * i + _TAG] >> _TAG_BITS)] += here[5 * i + _ENERGY]
            if record:
                _record_one(node, node_id, nodes, here, here_id, i, num_slices, LEAK)
                num_nodes[np.int64(here_id[3 * i + _TAG] >> _TAG_BITS)] += 1
                nodes += 1

        for k in range(block, block_end):
            kept[k] = (not complete_only) or np.all(hits_of_layer[k] > 0)
            cursor[k] = end
            if kept[k]:
                end += num_hits[k]
        if end > len(x):
            x, y, energy = _lengthened(x, end), _lengthened(y, end), _lengthened(energy, end)
            slice_, primary = _lengthened(slice_, end), _lengthened(primary, end)
        for i in range(hits):
            k = np.int64(hit_id[i] >> np.uint64(16))
            if kept[k]:
                at = cursor[k]
                cursor[k] += 1
                x[at], y[at], energy[at] = hit[3 * i + 0], hit[3 * i + 1], hit[3 * i + 2]
                slice_[at] = hit_id[i] & _TAG_PRIMARY
                primary[at] = (hit_id[i] >> _TAG_BITS) & _TAG_PRIMARY
        if record:
            for k in range(block, block_end):
                cursor[k] = p_end
                if kept[k]:
                    p_end += num_nodes[k]
            if p_end > len(p_x):
                p_x, p_y, p_energy = _lengthened(p_x, p_end), _lengthened(p_y, p_end), _lengthened(p_energy, p_end)
                p_parent, p_slice = _lengthened(p_parent, p_end), _lengthened(p_slice, p_end)
                p_fate, p_primary = _lengthened(p_fate, p_end), _lengthened(p_primary, p_end)
            for i in range(nodes):
                k = np.int64(node_id[3 * i + 1] >> _TAG_BITS)
                if kept[k]:
                    at = cursor[k]
                    cursor[k] += 1
                    p_x[at], p_y[at], p_energy[at] = node[3 * i + 0], node[3 * i + 1], node[3 * i + 2]
                    p_parent[at] = -1 if node_id[3 * i + 0] == MASK else np.int64(node_id[3 * i + 0])
                    p_primary[at] = node_id[3 * i + 1] & _TAG_PRIMARY
                    p_slice[at] = node_id[3 * i + 2] >> _TAG_BITS
                    p_fate[at] = node_id[3 * i + 2] & _TAG_PRIMARY

    return (
        too_large,
        kept,
        num_hits,
        num_nodes,
        leaked,
        x[:end],
        y[:end],
        energy[:end],
        slice_[:end],
        primary[:end],
        p_x[:p_end],
        p_y[:p_end],
        p_energy[:p_end],
        p_parent[:p_end],
        p_slice[:p_end],
        p_fate[:p_end],
        p_primary[:p_end],
    )


@kernel
def _record_one(
    node: FloatArray, node_id: WordArray, at: int, here: FloatArray, here_id: WordArray, i: int, l: int, fate: int
) -> None:
    node[3 * at + 0], node[3 * at + 1], node[3 * at + 2] = here[5 * i + _X], here[5 * i + _Y], here[5 * i + _ENERGY]
    node_id[3 * at + 0], node_id[3 * at + 1] = here_id[3 * i + _PARENT], here_id[3 * i + _TAG]
    node_id[3 * at + 2] = (np.uint64(l) << _TAG_BITS) | np.uint64(fate)


@kernel
def _record_tile(
    node: FloatArray,
    node_id: WordArray,
    nodes: int,
    here: FloatArray,
    here_id: WordArray,
    there_id: WordArray,
    start: int,
    l: int,
    slots: IntArray,
    stops: int,
    splits: int,
    passes: int,
    num_nodes: IntArray,
) -> int:
    """Number the tile's particles within their showers, record them, and tell their children who their parent is."""
    a, b, c = 0, 0, 0
    for j in range(stops + splits + passes):
        i = start + j
        k = np.int64(here_id[3 * i + _TAG] >> _TAG_BITS)
        number = np.uint64(num_nodes[k])
        num_nodes[k] += 1
        if a < stops and slots[a] == j:
            a += 1
            fate = STOP
        elif b < splits and slots[TILE + b] == j:
            at = slots[2 * TILE + b]
            there_id[3 * at + _PARENT], there_id[3 * (at + 1) + _PARENT] = number, number
            b += 1
            fate = SPLIT
        else:
            there_id[3 * slots[4 * TILE + c] + _PARENT] = number
            c += 1
            fate = PASS
        _record_one(node, node_id, nodes, here, here_id, i, l, fate)
        nodes += 1
    return nodes
