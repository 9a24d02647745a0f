"""The engine for processors: blocks of showers, all walked slice by slice together, in vector instructions.

The particles that are alive lie in flat rows. A tile of them at a time is copied to a small scratch, where one loop
draws all random words and another does the geometry of all splits. The lines of the scratch lie at constant distances,
so the compiler sees that they never overlap, and both loops become vector instructions.
"""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from supa.arrays import BoolArray, ByteArray, FloatArray, IntArray, WordArray
from supa.compiler import kernel
from supa.elementary import sin_cos, sin_cos_turn
from supa.engines.growth import lengthened, taller
from supa.engines.results import WalkResult
from supa.physics import LEAK, PASS, SPLIT, STOP, Walk, child_slopes
from supa.primaries import Primaries
from supa.random import HALF, MASK, TO_UNIT, identity_words, philox

TILE = 256
_LANES = 32  # divides the tile; a multiple of what any processor's vector loop takes at a time

# A living particle is a row of 8 words, so one line of the cache: 5 float64, and 3 uint64 that are reached through a
# view of another type. Its tag is: shower's number in the chunk, 8 bits of primary. A hit is x, y, energy and the tag
# with 8 bits of slice; a recorded particle is x, y, energy, parent, tag, and 8 bits of slice with 8 bits of fate.
_X, _Y, _SX, _SY, _ENERGY, _PATH, _TAG, _PARENT = range(8)
_HIT_ID = 3
_NODE_PARENT, _NODE_TAG, _NODE_CODE = 3, 4, 5
_BYTE = np.uint64(8)
_LOW_BYTE = np.uint64(255)
_ONE = np.uint64(1)

# Lines of the scratch: words, then reals, then slots.
_FATE_WORD, _THETA_WORD, _DELTA_WORD, _PHI_WORD = 2 * TILE, 3 * TILE, 4 * TILE, 5 * TILE
_SX_1, _SY_1, _SX_2, _SY_2, _SHARE, _TILE_ENERGY = 2 * TILE, 3 * TILE, 4 * TILE, 5 * TILE, 6 * TILE, 7 * TILE
_SPLIT_SLOT, _PASS_SLOT, _CHILD = TILE, 2 * TILE, 3 * TILE


class _Buffers(NamedTuple):
    """Arrays that one call leaves to the next, so that their memory is asked for once."""

    here: FloatArray
    there: FloatArray
    hit: FloatArray
    node: FloatArray
    x: FloatArray
    y: FloatArray
    energy: FloatArray
    slice: ByteArray
    layer: ByteArray
    primary: ByteArray
    particle_x: FloatArray
    particle_y: FloatArray
    particle_energy: FloatArray
    particle_parent: npt.NDArray[np.int32]
    particle_slice: ByteArray
    particle_fate: ByteArray
    particle_primary: ByteArray


class Workspace:
    """The memory in which one thread walks chunk after chunk; a result is overwritten by the walk that follows it."""

    def __init__(self) -> None:
        kinds: dict[str, type] = {"particle_parent": np.int32}
        kinds.update(
            dict.fromkeys(
                ("slice", "layer", "primary", "particle_slice", "particle_fate", "particle_primary"), np.uint8
            )
        )
        widths = {"here": (8,), "there": (8,), "hit": (4,), "node": (6,)}
        self._buffers = _Buffers(
            *(np.empty((TILE, *widths.get(name, ())), kinds.get(name, np.float64)) for name in _Buffers._fields)
        )

    def walk_showers(
        self,
        walk: Walk,
        seed: int,
        first: int,
        primaries: Primaries,
        *,
        block_size: int,
        complete_only: bool,
        record: bool,
        max_particles: int,
    ) -> WalkResult:
        """Walk showers from their primaries to their hits.

        Args:
            walk: the physics.
            seed: 0 to 2**64 - 1.
            first: index of the first shower; the others follow it.
            primaries: their initial conditions.
            block_size: how many showers are walked together; it does not change the result.
            complete_only: drop showers that leave a readout layer empty.
            record: keep every particle, not only the hits.
            max_particles: the most particles that a block may hold at a time.

        Returns:
            The hits and particles, by shower, in the order slice, creation: views of this workspace.
        """
        too_large, kept, num_hits, num_nodes, leaked, hits, nodes, self._buffers = _walk(
            walk,
            np.uint64(seed),
            np.uint64(first),
            primaries,
            block_size,
            complete_only,
            record,
            max_particles,
            self._buffers,
        )
        columns = self._buffers._asdict()
        names = list(_Buffers._fields)[4:]
        return WalkResult(
            too_large=too_large,
            kept=kept,
            num_hits=num_hits,
            num_particles=num_nodes,
            leaked_energy=leaked,
            **{name: columns[name][: nodes if name.startswith("particle_") else hits] for name in names},
        )


@kernel
def _walk(
    walk: Walk,
    seed: np.uint64,
    first: np.uint64,
    primaries: Primaries,
    block_size: int,
    complete_only: bool,
    record: bool,
    max_particles: int,
    buffers: _Buffers,
) -> Any:
    words, reals, slots = np.empty(6 * TILE, np.uint64), np.empty(8 * TILE), np.empty(4 * TILE, np.int64)
    here, there, hit, node = buffers.here, buffers.there, buffers.hit, buffers.node
    here_id, there_id = here.view(np.uint64), there.view(np.uint64)
    hit_id, node_id = hit.view(np.uint64), node.view(np.uint64)
    x, y, energy = buffers.x, buffers.y, buffers.energy
    slice_, layer, primary = buffers.slice, buffers.layer, buffers.primary
    p_x, p_y, p_energy = buffers.particle_x, buffers.particle_y, buffers.particle_energy
    p_parent, p_slice = buffers.particle_parent, buffers.particle_slice
    p_fate, p_primary = buffers.particle_fate, buffers.particle_primary
    num_showers, num_slices = len(primaries.incident_energy), len(walk.stop_word)
    kept = np.zeros(num_showers, np.bool_)
    hits_of_layer = np.zeros((num_showers, walk.num_layers), np.int64)
    num_hits, num_nodes = np.zeros(num_showers, np.int64), np.zeros(num_showers, np.int64)
    leaked = np.zeros(num_showers)
    cursor = np.zeros(num_showers, np.int64)
    end, node_end, too_large = 0, 0, np.int64(-1)

    for block in range(0, num_showers, block_size):
        block_end = min(block + block_size, num_showers)
        n = primaries.offset[block_end] - primaries.offset[block]
        if n > len(here):
            here = taller(here, n)
            here_id = here.view(np.uint64)
        _load_primaries(primaries, block, block_end, here, here_id)
        hits, nodes = 0, 0
        for l in range(num_slices):
            if 2 * n + hits + nodes > max_particles:
                too_large = np.int64(here_id[n // 2, _TAG] >> _BYTE)
                break
            if 2 * n > len(there):
                there = taller(there, 2 * n)
                there_id = there.view(np.uint64)
            if hits + n > len(hit):
                hit = taller(hit, hits + n)
                hit_id = hit.view(np.uint64)
            if record and nodes + n > len(node):
                node = taller(node, nodes + n)
                node_id = node.view(np.uint64)
            born = 0
            for start in range(0, n, TILE):
                m = min(TILE, n - start)
                _load_tile(here, here_id, start, m, words, reals)
                _draw_words(words, _whole_vectors(m), first, seed & MASK, seed >> HALF)
                stops, splits, passes, children = _sort_fates(
                    words, reals, m, walk.stop_word[l], walk.split_word[l], walk.critical_energy, slots
                )
                _stop(here, here_id, start, slots, stops, l, hit, hit_id, hits)
                _pass(here, here_id, start, slots, passes, walk.slice_spacing, there, there_id, born)
                _gather_splits(here, start, slots, splits, words, reals)
                _split_directions(
                    words,
                    reals,
                    _whole_vectors(splits),
                    walk.theta_start,
                    walk.theta_span,
                    walk.deviation,
                    walk.parent_frame,
                )
                _split(
                    here, here_id, start, slots, splits, reals, walk.balanced, walk.slice_spacing, there, there_id, born
                )
                if record:
                    _record_tile(
                        here,
                        here_id,
                        start,
                        m,
                        slots,
                        stops,
                        splits,
                        l,
                        there_id,
                        born,
                        num_nodes,
                        node,
                        node_id,
                        nodes,
                    )
                    nodes += m
                for i in range(hits, hits + stops):
                    hits_of_layer[int(hit_id[i, _HIT_ID] >> np.uint64(16)), walk.layer_of_slice[l]] += 1
                hits += stops
                born += children
            here, here_id, there, there_id = there, there_id, here, here_id
            n = born
            if n == 0:
                break
        if too_large >= 0:
            break
        if record and nodes + n > len(node):
            node = taller(node, nodes + n)
            node_id = node.view(np.uint64)
        for i in range(n):
            k = int(here_id[i, _TAG] >> _BYTE)
            leaked[k] += here[i, _ENERGY]
            if record:
                _record(here, here_id, i, num_slices, LEAK, node, node_id, nodes)
                num_nodes[k] += 1
                nodes += 1

        for k in range(block, block_end):
            complete = True
            for readout in range(walk.num_layers):
                num_hits[k] += hits_of_layer[k, readout]
                complete &= hits_of_layer[k, readout] > 0
            kept[k] = complete or not complete_only
        end = _place(kept, num_hits, block, block_end, cursor, end)
        if end > len(x):
            x, y, energy = lengthened(x, end), lengthened(y, end), lengthened(energy, end)
        if end > len(slice_):
            slice_, layer, primary = lengthened(slice_, end), lengthened(layer, end), lengthened(primary, end)
        _scatter_hits(hit, hit_id, hits, walk.layer_of_slice, kept, cursor, x, y, energy, slice_, layer, primary)
        if record:
            node_end = _place(kept, num_nodes, block, block_end, cursor, node_end)
            if node_end > len(p_x):
                p_x, p_y = lengthened(p_x, node_end), lengthened(p_y, node_end)
                p_energy, p_parent = lengthened(p_energy, node_end), lengthened(p_parent, node_end)
                p_slice, p_fate = lengthened(p_slice, node_end), lengthened(p_fate, node_end)
                p_primary = lengthened(p_primary, node_end)
            _scatter_nodes(node, node_id, nodes, kept, cursor, p_x, p_y, p_energy, p_parent, p_slice, p_fate, p_primary)

    return (
        too_large,
        kept,
        num_hits,
        num_nodes,
        leaked,
        end,
        node_end,
        _Buffers(
            here,
            there,
            hit,
            node,
            x,
            y,
            energy,
            slice_,
            layer,
            primary,
            p_x,
            p_y,
            p_energy,
            p_parent,
            p_slice,
            p_fate,
            p_primary,
        ),
    )


@kernel
def _whole_vectors(count: int) -> int:
    """Round up, within the tile, so that no lane is left to the slow loop that follows a vector loop."""
    return (count + _LANES - 1) // _LANES * _LANES


@kernel
def _load_primaries(primaries: Primaries, block: int, block_end: int, here: FloatArray, here_id: WordArray) -> None:
    i = 0
    for k in range(block, block_end):
        for p in range(primaries.offset[k], primaries.offset[k + 1]):
            here[i, _X], here[i, _Y] = primaries.x[p], primaries.y[p]
            here[i, _SX], here[i, _SY] = primaries.slope_x[p], primaries.slope_y[p]
            here[i, _ENERGY] = primaries.energy[p]
            here_id[i, _PATH] = _ONE
            here_id[i, _TAG] = (np.uint64(k) << _BYTE) | np.uint64(p - primaries.offset[k])
            here_id[i, _PARENT] = MASK  # nobody
            i += 1


@kernel
def _load_tile(
    here: FloatArray,
    here_id: WordArray,
    start: int,
    m: int,
    words: WordArray,
    reals: FloatArray,
) -> None:
    """Word lines 0 and 1: path and tag; real line _TILE_ENERGY: energy."""
    for j in range(m):
        words[j] = here_id[start + j, _PATH]
        words[TILE + j] = here_id[start + j, _TAG]
        reals[_TILE_ENERGY + j] = here[start + j, _ENERGY]


@kernel
def _draw_words(words: WordArray, m: int, first: np.uint64, k0: np.uint64, k1: np.uint64) -> None:
    for j in range(m):
        path, tag = words[j], words[TILE + j]
        low, high = identity_words(first + (tag >> _BYTE), tag & _LOW_BYTE)
        fate, theta, delta, phi = philox(path & MASK, path >> HALF, low, high, k0, k1)
        words[_FATE_WORD + j] = fate
        words[_THETA_WORD + j] = theta
        words[_DELTA_WORD + j] = delta
        words[_PHI_WORD + j] = phi


@kernel
def _sort_fates(
    words: WordArray,
    reals: FloatArray,
    m: int,
    stop_word: np.uint64,
    split_word: np.uint64,
    critical_energy: float,
    slots: IntArray,
) -> tuple[int, int, int, int]:
    """List the tile's particles by fate, and where each one's first child goes; without branches, which would miss."""
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
def _stop(
    here: FloatArray,
    here_id: WordArray,
    start: int,
    slots: IntArray,
    stops: int,
    l: int,
    hit: FloatArray,
    hit_id: WordArray,
    hits: int,
) -> None:
    for j in range(stops):
        i, at = start + slots[j], hits + j
        hit[at, 0] = here[i, _X]
        hit[at, 1] = here[i, _Y]
        hit[at, 2] = here[i, _ENERGY]
        hit_id[at, _HIT_ID] = (here_id[i, _TAG] << _BYTE) | np.uint64(l)


@kernel
def _pass(
    here: FloatArray,
    here_id: WordArray,
    start: int,
    slots: IntArray,
    passes: int,
    dz: float,
    there: FloatArray,
    there_id: WordArray,
    born: int,
) -> None:
    for j in range(passes):
        s = slots[_PASS_SLOT + j]
        i, at = start + s, born + slots[_CHILD + s]
        there[at, _X] = here[i, _X] + dz * here[i, _SX]
        there[at, _Y] = here[i, _Y] + dz * here[i, _SY]
        there[at, _SX] = here[i, _SX]
        there[at, _SY] = here[i, _SY]
        there[at, _ENERGY] = here[i, _ENERGY]
        there_id[at, _PATH] = here_id[i, _PATH] << _ONE
        there_id[at, _TAG] = here_id[i, _TAG]


@kernel
def _gather_splits(
    here: FloatArray, start: int, slots: IntArray, splits: int, words: WordArray, reals: FloatArray
) -> None:
    for j in range(splits):
        s = slots[_SPLIT_SLOT + j]
        reals[j] = here[start + s, _SX]
        reals[TILE + j] = here[start + s, _SY]
        words[_THETA_WORD + j] = words[_THETA_WORD + s]
        words[_DELTA_WORD + j] = words[_DELTA_WORD + s]
        words[_PHI_WORD + j] = words[_PHI_WORD + s]


@kernel
def _split_directions(
    words: WordArray,
    reals: FloatArray,
    splits: int,
    theta_start: float,
    theta_span: float,
    deviation: float,
    parent_frame: bool,
) -> None:
    """Real lines 0 and 1: the parent's slopes; then both children's slopes and theta2 / theta."""
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
def _split(
    here: FloatArray,
    here_id: WordArray,
    start: int,
    slots: IntArray,
    splits: int,
    reals: FloatArray,
    balanced: bool,
    dz: float,
    there: FloatArray,
    there_id: WordArray,
    born: int,
) -> None:
    for j in range(splits):
        s = slots[_SPLIT_SLOT + j]
        i, at = start + s, born + slots[_CHILD + s]
        x, y, energy = here[i, _X], here[i, _Y], here[i, _ENERGY]
        share = reals[_SHARE + j] if balanced else 0.5
        there[at, _X] = x + dz * reals[_SX_1 + j]
        there[at, _Y] = y + dz * reals[_SY_1 + j]
        there[at, _SX] = reals[_SX_1 + j]
        there[at, _SY] = reals[_SY_1 + j]
        there[at, _ENERGY] = energy * share
        there[at + 1, _X] = x + dz * reals[_SX_2 + j]
        there[at + 1, _Y] = y + dz * reals[_SY_2 + j]
        there[at + 1, _SX] = reals[_SX_2 + j]
        there[at + 1, _SY] = reals[_SY_2 + j]
        there[at + 1, _ENERGY] = energy * (1.0 - share)
        path, tag = here_id[i, _PATH] << _ONE, here_id[i, _TAG]
        there_id[at, _PATH] = path
        there_id[at, _TAG] = tag
        there_id[at + 1, _PATH] = path | _ONE
        there_id[at + 1, _TAG] = tag


@kernel
def _record(
    here: FloatArray, here_id: WordArray, i: int, l: int, fate: int, node: FloatArray, node_id: WordArray, at: int
) -> None:
    node[at, 0], node[at, 1], node[at, 2] = here[i, _X], here[i, _Y], here[i, _ENERGY]
    node_id[at, _NODE_PARENT], node_id[at, _NODE_TAG] = here_id[i, _PARENT], here_id[i, _TAG]
    node_id[at, _NODE_CODE] = (np.uint64(l) << _BYTE) | np.uint64(fate)


@kernel
def _record_tile(
    here: FloatArray,
    here_id: WordArray,
    start: int,
    m: int,
    slots: IntArray,
    stops: int,
    splits: int,
    l: int,
    there_id: WordArray,
    born: int,
    num_nodes: IntArray,
    node: FloatArray,
    node_id: WordArray,
    nodes: int,
) -> None:
    """Number the tile's particles within their showers, record them, and tell their children who their parent is."""
    stop, split = 0, 0
    for j in range(m):
        k = int(here_id[start + j, _TAG] >> _BYTE)
        number = np.uint64(num_nodes[k])
        num_nodes[k] += 1
        child = born + slots[_CHILD + j]
        if stop < stops and slots[stop] == j:
            stop += 1
            fate = STOP
        elif split < splits and slots[_SPLIT_SLOT + split] == j:
            split += 1
            fate = SPLIT
            there_id[child, _PARENT], there_id[child + 1, _PARENT] = number, number
        else:
            fate = PASS
            there_id[child, _PARENT] = number
        _record(here, here_id, start + j, l, fate, node, node_id, nodes + j)


@kernel
def _place(kept: BoolArray, counts: IntArray, block: int, block_end: int, cursor: IntArray, end: int) -> int:
    """Put the block's kept showers behind ``end``; give the new end."""
    for k in range(block, block_end):
        cursor[k] = end
        if kept[k]:
            end += counts[k]
    return end


@kernel
def _scatter_hits(
    hit: FloatArray,
    hit_id: WordArray,
    hits: int,
    layer_of_slice: ByteArray,
    kept: BoolArray,
    cursor: IntArray,
    x: FloatArray,
    y: FloatArray,
    energy: FloatArray,
    slice_: ByteArray,
    layer: ByteArray,
    primary: ByteArray,
) -> None:
    """Sort the block's hits, which are ordered by slice, by shower."""
    for i in range(hits):
        k = int(hit_id[i, _HIT_ID] >> np.uint64(16))
        if kept[k]:
            at = cursor[k]
            cursor[k] = at + 1
            x[at], y[at], energy[at] = hit[i, 0], hit[i, 1], hit[i, 2]
            l = hit_id[i, _HIT_ID] & _LOW_BYTE
            slice_[at] = l
            layer[at] = layer_of_slice[l]
            primary[at] = (hit_id[i, _HIT_ID] >> _BYTE) & _LOW_BYTE


@kernel
def _scatter_nodes(
    node: FloatArray,
    node_id: WordArray,
    nodes: int,
    kept: BoolArray,
    cursor: IntArray,
    x: FloatArray,
    y: FloatArray,
    energy: FloatArray,
    parent: npt.NDArray[np.int32],
    slice_: ByteArray,
    fate: ByteArray,
    primary: ByteArray,
) -> None:
    """Sort the block's particles, which are ordered by slice, by shower."""
    for i in range(nodes):
        k = int(node_id[i, _NODE_TAG] >> _BYTE)
        if kept[k]:
            at = cursor[k]
            cursor[k] = at + 1
            x[at], y[at], energy[at] = node[i, 0], node[i, 1], node[i, 2]
            parent[at] = -1 if node_id[i, _NODE_PARENT] == MASK else int(node_id[i, _NODE_PARENT])
            primary[at] = node_id[i, _NODE_TAG] & _LOW_BYTE
            slice_[at] = node_id[i, _NODE_CODE] >> _BYTE
            fate[at] = node_id[i, _NODE_CODE] & _LOW_BYTE
