"""The engine ``cpu``, which advances blocks of showers slice by slice and processes tiles of particles."""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from supa.arrays import BoolArray, ByteArray, FloatArray, IntArray, UInt64Array
from supa.compiler import kernel
from supa.engines.growable import lengthened, taller
from supa.engines.results import WalkResult
from supa.engines.tiles import (
    BYTE,
    ENERGY,
    HIT_ID,
    LOW_BYTE,
    NODE_CODE,
    NODE_PARENT,
    NODE_TAG,
    ONE,
    PARENT,
    PATH,
    SX,
    SY,
    TAG,
    TILE,
    X,
    Y,
    draw_words,
    gather_splits,
    load_tile,
    pass_particles,
    record_particle,
    record_tile,
    sort_fates,
    split_directions,
    split_particles,
    stop_particles,
    whole_vectors,
)
from supa.physics import LEAK, Walk
from supa.primaries import Primaries
from supa.random import HALF, MASK


class _Buffers(NamedTuple):
    """Arrays that are reused between calls to avoid repeated allocation."""

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
    """Memory in which one thread simulates chunk after chunk. Each call overwrites the previous result."""

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
        """Simulate showers from their primaries to their hits.

        Args:
            walk: Physics of the showers.
            seed: Random seed from 0 to 2**64 - 1.
            first: Index of the first shower; the others have consecutive indices.
            primaries: Initial conditions of the showers.
            block_size: Number of showers that are advanced together. It does not change the result.
            complete_only: Whether to drop showers that leave a readout layer empty.
            record: Whether to record all particles in addition to the hits.
            max_particles: Maximum number of particles in memory for one block.

        Returns:
            Hits and particles, ordered by shower, then slice, then creation. The arrays are views of this workspace.
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
                too_large = np.int64(here_id[n // 2, TAG] >> BYTE)
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
                load_tile(here, here_id, start, m, words, reals)
                draw_words(words, whole_vectors(m), first, seed & MASK, seed >> HALF)
                stops, splits, passes, children = sort_fates(
                    words, reals, m, walk.stop_word[l], walk.split_word[l], walk.critical_energy, slots
                )
                stop_particles(here, here_id, start, slots, stops, l, hit, hit_id, hits)
                pass_particles(here, here_id, start, slots, passes, walk.slice_spacing, there, there_id, born)
                gather_splits(here, start, slots, splits, words, reals)
                split_directions(
                    words,
                    reals,
                    whole_vectors(splits),
                    walk.theta_start,
                    walk.theta_span,
                    walk.deviation,
                    walk.parent_frame,
                )
                split_particles(
                    here, here_id, start, slots, splits, reals, walk.balanced, walk.slice_spacing, there, there_id, born
                )
                if record:
                    record_tile(
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
                    hits_of_layer[int(hit_id[i, HIT_ID] >> np.uint64(16)), walk.layer_of_slice[l]] += 1
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
            k = int(here_id[i, TAG] >> BYTE)
            leaked[k] += here[i, ENERGY]
            if record:
                record_particle(here, here_id, i, num_slices, LEAK, node, node_id, nodes)
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
def _load_primaries(primaries: Primaries, block: int, block_end: int, here: FloatArray, here_id: UInt64Array) -> None:
    i = 0
    for k in range(block, block_end):
        for p in range(primaries.offset[k], primaries.offset[k + 1]):
            here[i, X], here[i, Y] = primaries.x[p], primaries.y[p]
            here[i, SX], here[i, SY] = primaries.slope_x[p], primaries.slope_y[p]
            here[i, ENERGY] = primaries.energy[p]
            here_id[i, PATH] = ONE
            here_id[i, TAG] = (np.uint64(k) << BYTE) | np.uint64(p - primaries.offset[k])
            here_id[i, PARENT] = MASK  # no parent
            i += 1


@kernel
def _place(kept: BoolArray, counts: IntArray, block: int, block_end: int, cursor: IntArray, end: int) -> int:
    """Compute where the kept showers of a block start in the output, and return the new end of the output."""
    for k in range(block, block_end):
        cursor[k] = end
        if kept[k]:
            end += counts[k]
    return end


@kernel
def _scatter_hits(
    hit: FloatArray,
    hit_id: UInt64Array,
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
    """Copy the hits of a block, which are ordered by slice, to the places of their showers."""
    for i in range(hits):
        k = int(hit_id[i, HIT_ID] >> np.uint64(16))
        if kept[k]:
            at = cursor[k]
            cursor[k] = at + 1
            x[at], y[at], energy[at] = hit[i, 0], hit[i, 1], hit[i, 2]
            l = hit_id[i, HIT_ID] & LOW_BYTE
            slice_[at] = l
            layer[at] = layer_of_slice[l]
            primary[at] = (hit_id[i, HIT_ID] >> BYTE) & LOW_BYTE


@kernel
def _scatter_nodes(
    node: FloatArray,
    node_id: UInt64Array,
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
    """Copy the particles of a block, which are ordered by slice, to the places of their showers."""
    for i in range(nodes):
        k = int(node_id[i, NODE_TAG] >> BYTE)
        if kept[k]:
            at = cursor[k]
            cursor[k] = at + 1
            x[at], y[at], energy[at] = node[i, 0], node[i, 1], node[i, 2]
            parent[at] = -1 if node_id[i, NODE_PARENT] == MASK else int(node_id[i, NODE_PARENT])
            primary[at] = node_id[i, NODE_TAG] & LOW_BYTE
            slice_[at] = node_id[i, NODE_CODE] >> BYTE
            fate[at] = node_id[i, NODE_CODE] & LOW_BYTE
