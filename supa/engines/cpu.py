"""The engine ``cpu``, which advances blocks of showers slice by slice and processes tiles of particles."""

from typing import Any, NamedTuple

import numpy as np

from supa.arrays import BoolArray, ByteArray, FloatArray, IntArray, UInt64Array
from supa.compiler import kernel, stage
from supa.engines.columns import HitColumns, ParticleColumns, longer
from supa.engines.results import WalkResult
from supa.engines.tiles import (
    BYTE,
    HIT_ENERGY,
    HIT_ROW,
    HIT_TAG,
    HIT_X,
    HIT_Y,
    LANES,
    LOW_BYTE,
    NODE_CODE,
    NODE_ENERGY,
    NODE_PARENT,
    NODE_ROW,
    NODE_TAG,
    NODE_X,
    NODE_Y,
    ONE,
    ROW,
    SX,
    SY,
    TILE,
    ZERO,
    Particles,
    Scratch,
    X,
    Y,
    aligned_empty,
    draw_words,
    gather_splits,
    pass_particles,
    record_leak,
    record_tile,
    sort_fates,
    split_directions,
    split_particles,
    stop_particles,
)
from supa.physics import Walk
from supa.primaries import Primaries
from supa.random import HALF, MASK, Word


class _Tally(NamedTuple):
    """What is counted for each shower of a chunk."""

    kept: BoolArray
    num_hits: IntArray
    num_particles: IntArray
    leaked_energy: FloatArray
    hits_of_layer: IntArray
    """(showers num_layers,)"""
    cursor: UInt64Array
    """Place of the next hit or particle in the columns."""

    @classmethod
    def zeros(cls, showers: int, num_layers: int) -> "_Tally":
        num_hits, num_particles = np.zeros((2, showers), np.int64)
        hits_of_layer, cursor = np.zeros(showers * num_layers, np.int64), np.zeros(showers, np.uint64)
        return cls(np.zeros(showers, np.bool_), num_hits, num_particles, np.zeros(showers), hits_of_layer, cursor)


class Workspace:
    """Memory in which one thread simulates chunk after chunk."""

    def __init__(self) -> None:
        self._scratch = Scratch.empty()
        self._here, self._there = Particles.empty(TILE), Particles.empty(TILE)
        self._hit, self._node = aligned_empty(TILE, np.float64), aligned_empty(TILE, np.float64)

    def walk_showers(
        self,
        walk: Walk,
        seed: int,
        first: int,
        primaries: Primaries,
        hits: HitColumns,
        particles: ParticleColumns | None,
        *,
        block_size: int,
        complete_only: bool,
        max_particles: int,
    ) -> tuple[WalkResult, HitColumns, ParticleColumns | None]:
        """Simulate showers from their primaries to their hits.

        Args:
            walk: Physics of the showers.
            seed: Random seed from 0 to 2**64 - 1.
            first: Index of the first shower; the others have consecutive indices.
            primaries: Initial conditions of the showers.
            hits: Columns to write the hits to.
            particles: Columns to write all particles to, or None to record hits only.
            block_size: Number of showers that are advanced together. It does not change the result.
            complete_only: Whether to drop showers that leave a readout layer empty.
            max_particles: Maximum number of particles in memory for one block.

        Returns:
            Hits and particles, ordered by shower, then slice, then creation, and the columns that contain them. The
            columns are new ones if the given ones were too short.
        """
        tally = _Tally.zeros(len(primaries.incident_energy), walk.num_layers)
        slice_end, needed = np.empty(len(walk.stop_word), np.uint64), np.zeros(5, np.int64)
        block = end = node_end = 0
        while True:
            block, end, node_end, too_large = _walk_blocks(
                walk,
                np.uint64(seed),
                np.uint64(first),
                primaries,
                block_size,
                complete_only,
                max_particles,
                self._scratch,
                self._here,
                self._there,
                self._hit,
                slice_end,
                hits,
                None if particles is None else self._node,
                particles,
                tally,
                needed,
                block,
                end,
                node_end,
            )
            if not needed.any():
                break
            hits, particles = self._enlarge(needed, hits, end, particles, node_end)
            needed[:] = 0
        columns = {name: column[:end] for name, column in hits._asdict().items()}
        if particles is not None:
            columns |= {f"particle_{name}": column[:node_end] for name, column in particles._asdict().items()}
        result = WalkResult(too_large, tally.kept, tally.num_hits, tally.num_particles, tally.leaked_energy, **columns)
        return result, hits, particles

    def _enlarge(
        self, needed: IntArray, hits: HitColumns, end: int, particles: ParticleColumns | None, node_end: int
    ) -> tuple[HitColumns, ParticleColumns | None]:
        active, hit_rows, hit_columns, node_rows, node_columns = (int(count) for count in needed)
        if active:
            count = max(active, 2 * self._here.capacity)
            self._here, self._there = Particles.empty(count), Particles.empty(count)
        if hit_rows:
            self._hit = aligned_empty(max(int(HIT_ROW) * hit_rows, 2 * len(self._hit)), np.float64)
        if node_rows:
            self._node = aligned_empty(max(int(NODE_ROW) * node_rows, 2 * len(self._node)), np.float64)
        if hit_columns:
            hits = longer(hits, end, hit_columns)
        if particles is not None and node_columns:
            particles = longer(particles, node_end, node_columns)
        return hits, particles


# Places in the array `needed`.
_ACTIVE, _HIT_ROWS, _HIT_COLUMNS, _NODE_ROWS, _NODE_COLUMNS = range(5)


@kernel
def _walk_blocks(
    walk: Walk,
    seed: Word,
    first: Word,
    primaries: Primaries,
    block_size: int,
    complete_only: bool,
    max_particles: int,
    scratch: Scratch,
    here: Particles,
    there: Particles,
    hit: FloatArray,
    slice_end: UInt64Array,
    columns: HitColumns,
    node: Any,  # FloatArray, or None to record hits only
    records: Any,  # ParticleColumns or None
    tally: _Tally,
    needed: IntArray,
    start_block: int,
    start_end: int,
    start_node_end: int,
) -> tuple[Any, Any, Any, Any]:
    """Simulate the showers from `start_block` on.

    If an array is too short for a block, write the required length to `needed` and return. The caller enlarges it and
    calls again, and the block starts again. Compiled code that allocates arrays would take longer to compile.

    Returns:
        Number of the next shower, numbers of hits and of recorded particles, and the number of a shower that is too
        large, or -1.
    """
    capacity = Word(len(here.energy) - LANES)
    hit_id = hit.view(np.uint64)
    num_showers, num_slices, num_layers = len(primaries.incident_energy), len(walk.stop_word), Word(walk.num_layers)
    end, node_end = Word(start_end), Word(start_node_end)
    for block in range(start_block, num_showers, block_size):
        block_end = min(block + block_size, num_showers)
        n = Word(primaries.offset[block_end] - primaries.offset[block])
        if n > capacity:
            needed[_ACTIVE] = n
            return block, np.int64(end), np.int64(node_end), -1
        _load_primaries(primaries, block, block_end, here)
        for k in range(block, block_end):
            tally.num_hits[k] = 0
            tally.num_particles[k] = 0
            tally.leaked_energy[k] = 0.0
        for i in range(block * walk.num_layers, block_end * walk.num_layers):
            tally.hits_of_layer[i] = 0
        hits, nodes = ZERO, ZERO
        for l in range(num_slices):
            if Word(2) * n + hits + nodes > Word(max_particles):
                return block, np.int64(end), np.int64(node_end), np.int64(here.tag[n >> ONE] >> BYTE)
            if Word(2) * n > capacity:
                needed[_ACTIVE] = Word(2) * n
            if HIT_ROW * (hits + n) > Word(len(hit)):
                needed[_HIT_ROWS] = hits + n
            if node is not None and NODE_ROW * (nodes + n) > Word(len(node)):
                needed[_NODE_ROWS] = nodes + n
            if needed[_ACTIVE] + needed[_HIT_ROWS] + needed[_NODE_ROWS] > 0:
                return block, np.int64(end), np.int64(node_end), -1
            born, start = ZERO, ZERO
            while start < n:
                m = min(Word(TILE), n - start)
                draw_words(
                    here.path[start:],
                    here.tag[start:],
                    here.energy[start:],
                    m,
                    scratch.words,
                    first,
                    seed & MASK,
                    seed >> HALF,
                    walk.stop_word[l],
                    walk.split_word[l],
                    walk.critical_energy,
                )
                stops, splits, passes, children = sort_fates(scratch.words, m, scratch.slots)
                stop_particles(
                    here,
                    start,
                    scratch.slots,
                    stops,
                    Word(walk.layer_of_slice[l]),
                    num_layers,
                    tally.hits_of_layer,
                    hit,
                    hit_id,
                    hits,
                )
                pass_particles(here, start, scratch.slots, passes, walk.slice_spacing, there, born)
                gather_splits(here, start, scratch.slots, splits, scratch.words, scratch.reals)
                split_directions(
                    scratch.words,
                    scratch.reals,
                    splits,
                    walk.theta_start,
                    walk.theta_span,
                    walk.deviation,
                    walk.parent_frame,
                )
                split_particles(
                    here, start, scratch.slots, splits, scratch.reals, walk.balanced, walk.slice_spacing, there, born
                )
                if node is not None:
                    record_tile(
                        here,
                        start,
                        m,
                        scratch.slots,
                        stops,
                        splits,
                        passes,
                        l,
                        there,
                        born,
                        tally.num_particles,
                        node,
                        node.view(np.uint64),
                        nodes,
                    )
                    nodes += m
                hits += stops
                born += children
                start += Word(TILE)
            slice_end[l] = hits
            here, there = there, here
            n = born
        if node is not None and NODE_ROW * (nodes + n) > Word(len(node)):
            needed[_NODE_ROWS] = nodes + n
        if end + hits > Word(len(columns.x)):
            needed[_HIT_COLUMNS] = end + hits
        if records is not None and node_end + nodes + n > Word(len(records.x)):
            needed[_NODE_COLUMNS] = node_end + nodes + n
        if needed[_HIT_COLUMNS] + needed[_NODE_ROWS] + needed[_NODE_COLUMNS] > 0:
            return block, np.int64(end), np.int64(node_end), -1
        for i in range(n):
            k = here.tag[i] >> BYTE
            tally.leaked_energy[k] += here.energy[i]
            if node is not None:
                record_leak(here, Word(i), num_slices, node, node.view(np.uint64), nodes)
                tally.num_particles[k] += 1
                nodes += ONE

        for k in range(block, block_end):
            complete = True
            for readout in range(walk.num_layers):
                in_layer = tally.hits_of_layer[k * walk.num_layers + readout]
                tally.num_hits[k] += in_layer
                complete &= in_layer > 0
            tally.kept[k] = complete or not complete_only
        after = _place(tally.kept, tally.num_hits, block, block_end, tally.cursor, end)
        _scatter_hits(hit, hit_id, slice_end, walk.layer_of_slice, tally.cursor, columns)
        end = after
        if node is not None:
            after = _place(tally.kept, tally.num_particles, block, block_end, tally.cursor, node_end)
            _scatter_nodes(node, node.view(np.uint64), nodes, tally.cursor, records)
            node_end = after
    return num_showers, np.int64(end), np.int64(node_end), -1


@stage
def _load_primaries(primaries: Primaries, block: int, block_end: int, here: Particles) -> None:
    i = ZERO
    for k in range(block, block_end):
        for p in range(primaries.offset[k], primaries.offset[k + 1]):
            here.geometry[ROW * i + X], here.geometry[ROW * i + Y] = primaries.x[p], primaries.y[p]
            here.geometry[ROW * i + SX], here.geometry[ROW * i + SY] = primaries.slope_x[p], primaries.slope_y[p]
            here.energy[i] = primaries.energy[p]
            here.path[i] = ONE
            here.tag[i] = (Word(k) << BYTE) | Word(p - primaries.offset[k])
            here.parent[i] = MASK  # no parent
            i += ONE


@stage
def _place(kept: Any, counts: IntArray, block: int, block_end: int, cursor: UInt64Array, end: Word) -> Word:
    """Compute where the showers of a block start in the output, and return the new end of the output.

    Dropped showers are placed after all kept ones, where the next block overwrites them.
    """
    for k in range(block, block_end):
        if kept[k]:
            cursor[k] = end
            end += Word(counts[k])
    spare = end
    for k in range(block, block_end):
        if not kept[k]:
            cursor[k] = spare
            spare += Word(counts[k])
    return end


@stage
def _scatter_hits(
    hit: FloatArray,
    hit_id: UInt64Array,
    slice_end: UInt64Array,
    layer_of_slice: ByteArray,
    cursor: UInt64Array,
    columns: HitColumns,
) -> None:
    """Copy the hits of a block, which are ordered by slice, to the places of their showers."""
    i = ZERO
    for l in range(len(slice_end)):
        layer = layer_of_slice[l]
        while i < slice_end[l]:
            row = HIT_ROW * i
            tag = hit_id[row + HIT_TAG]
            k = tag >> BYTE
            at = cursor[k]
            cursor[k] = at + ONE
            columns.x[at] = hit[row + HIT_X]
            columns.y[at] = hit[row + HIT_Y]
            columns.energy[at] = hit[row + HIT_ENERGY]
            columns.slice[at] = l
            columns.layer[at] = layer
            columns.primary[at] = tag & LOW_BYTE
            i += ONE


@stage
def _scatter_nodes(
    node: FloatArray, node_id: UInt64Array, nodes: Word, cursor: UInt64Array, columns: ParticleColumns
) -> None:
    """Copy the particles of a block, which are ordered by slice, to the places of their showers."""
    for i in range(nodes):
        row = NODE_ROW * i
        tag = node_id[row + NODE_TAG]
        k = tag >> BYTE
        at = cursor[k]
        cursor[k] = at + ONE
        columns.x[at] = node[row + NODE_X]
        columns.y[at] = node[row + NODE_Y]
        columns.energy[at] = node[row + NODE_ENERGY]
        columns.parent[at] = np.int32(node_id[row + NODE_PARENT])  # 2**32 - 1, no parent, becomes -1
        columns.primary[at] = tag & LOW_BYTE
        columns.slice[at] = node_id[row + NODE_CODE] >> BYTE
        columns.fate[at] = node_id[row + NODE_CODE] & LOW_BYTE
