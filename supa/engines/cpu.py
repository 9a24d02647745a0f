"""The engine ``cpu``, which advances blocks of showers slice by slice and processes tiles of particles."""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from supa.arrays import ByteArray, FloatArray, IntArray, UInt64Array
from supa.compiler import kernel
from supa.engines.growable import lengthened
from supa.engines.results import WalkResult
from supa.engines.tiles import (
    BYTE,
    ENERGY,
    HIT_ENERGY,
    HIT_ROW,
    HIT_TAG,
    HIT_X,
    HIT_Y,
    LOW_BYTE,
    NODE_CODE,
    NODE_ENERGY,
    NODE_PARENT,
    NODE_ROW,
    NODE_TAG,
    NODE_X,
    NODE_Y,
    NUM_REAL_LINES,
    NUM_SLOT_LINES,
    NUM_WORD_LINES,
    ONE,
    PARENT,
    PATH,
    ROW,
    SX,
    SY,
    TAG,
    TILE,
    ZERO,
    X,
    Y,
    draw_words,
    gather_splits,
    load_tile,
    pass_particles,
    record_leak,
    record_tile,
    sort_fates,
    split_directions,
    split_particles,
    stop_particles,
    whole_vectors,
)
from supa.physics import Walk
from supa.primaries import Primaries
from supa.random import HALF, MASK, Word


class HitColumns(NamedTuple):
    """Columns of hits."""

    x: FloatArray
    y: FloatArray
    energy: FloatArray
    slice: ByteArray
    layer: ByteArray
    primary: ByteArray

    @classmethod
    def empty(cls, rows: int) -> "HitColumns":
        """Return uninitialised columns."""
        real, byte = np.empty((3, rows)), np.empty((3, rows), np.uint8)
        return cls(*real, *byte)


class ParticleColumns(NamedTuple):
    """Columns of recorded particles."""

    x: FloatArray
    y: FloatArray
    energy: FloatArray
    parent: npt.NDArray[np.int32]
    slice: ByteArray
    fate: ByteArray
    primary: ByteArray

    @classmethod
    def empty(cls, rows: int) -> "ParticleColumns":
        """Return uninitialised columns."""
        x, y, energy = np.empty((3, rows))
        slice_, fate, primary = np.empty((3, rows), np.uint8)
        return cls(x, y, energy, np.empty(rows, np.int32), slice_, fate, primary)


class _Rows(NamedTuple):
    """Rows of words of the particles of two slices, and of the hits of a block."""

    here: FloatArray
    there: FloatArray
    hit: FloatArray


class Workspace:
    """Memory in which one thread simulates chunk after chunk."""

    def __init__(self) -> None:
        self._rows = _Rows(*(np.empty(8 * TILE) for _ in _Rows._fields))
        self._nodes = np.empty(8 * TILE)

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
            Hits and particles, ordered by shower, then slice, then creation, and the columns, whose first rows they
            are. The columns are new ones if the given ones were too short.
        """
        result = _walk(
            walk,
            np.uint64(seed),
            np.uint64(first),
            primaries,
            block_size,
            complete_only,
            max_particles,
            self._rows,
            hits,
            None if particles is None else self._nodes,
            particles,
        )
        too_large, kept, num_hits, num_nodes, leaked, end, node_end, self._rows, hits, nodes, particles = result
        if particles is not None:
            self._nodes = nodes
        recorded = ParticleColumns.empty(0) if particles is None else particles
        return (
            WalkResult(
                too_large=too_large,
                kept=kept,
                num_hits=num_hits,
                num_particles=num_nodes,
                leaked_energy=leaked,
                **{name: column[:end] for name, column in hits._asdict().items()},
                **{f"particle_{name}": column[:node_end] for name, column in recorded._asdict().items()},
            ),
            hits,
            particles,
        )


@kernel
def _walk(
    walk: Walk,
    seed: Word,
    first: Word,
    primaries: Primaries,
    block_size: int,
    complete_only: bool,
    max_particles: int,
    rows: _Rows,
    hits_out: HitColumns,
    nodes_in: Any,  # FloatArray, or None to record hits only
    particles_out: Any,  # ParticleColumns or None
) -> Any:
    words, reals = np.empty(NUM_WORD_LINES * TILE, np.uint64), np.empty(NUM_REAL_LINES * TILE)
    slots = np.empty(NUM_SLOT_LINES * TILE, np.uint64)
    here, there, hit = rows.here, rows.there, rows.hit
    here_id, there_id, hit_id = here.view(np.uint64), there.view(np.uint64), hit.view(np.uint64)
    columns, node, records = hits_out, nodes_in, particles_out
    num_showers, num_slices, num_layers = len(primaries.incident_energy), len(walk.stop_word), Word(walk.num_layers)
    num_hits, num_nodes = np.zeros(num_showers, np.int64), np.zeros(num_showers, np.int64)
    hits_of_layer = np.zeros(num_showers * walk.num_layers, np.int64)
    slice_end = np.empty(num_slices, np.uint64)
    kept, leaked = np.ones(num_showers, np.bool_), np.zeros(num_showers)
    cursor = np.empty(num_showers, np.uint64)
    end, node_end, too_large = ZERO, ZERO, np.int64(-1)

    for block in range(0, num_showers, block_size):
        block_end = min(block + block_size, num_showers)
        n = Word(primaries.offset[block_end] - primaries.offset[block])
        if ROW * n > Word(len(here)):
            here = lengthened(here, ROW * n)
            here_id = here.view(np.uint64)
        _load_primaries(primaries, block, block_end, here, here_id)
        hits, nodes = ZERO, ZERO
        for l in range(num_slices):
            if Word(2) * n + hits + nodes > Word(max_particles):
                too_large = np.int64(here_id[ROW * (n >> ONE) + TAG] >> BYTE)
                break
            if ROW * Word(2) * n > Word(len(there)):
                there = lengthened(there, ROW * Word(2) * n)
                there_id = there.view(np.uint64)
            if HIT_ROW * (hits + n) > Word(len(hit)):
                hit = lengthened(hit, HIT_ROW * (hits + n))
                hit_id = hit.view(np.uint64)
            if nodes_in is not None and NODE_ROW * (nodes + n) > Word(len(node)):
                node = lengthened(node, NODE_ROW * (nodes + n))
            born, start = ZERO, ZERO
            while start < n:
                m = min(Word(TILE), n - start)
                load_tile(here, here_id, start, m, words, reals)
                draw_words(
                    words,
                    reals,
                    whole_vectors(np.int64(m)),
                    first,
                    seed & MASK,
                    seed >> HALF,
                    walk.stop_word[l],
                    walk.split_word[l],
                    walk.critical_energy,
                )
                stops, splits, passes, children = sort_fates(words, m, slots)
                stop_particles(
                    here,
                    here_id,
                    start,
                    slots,
                    stops,
                    Word(walk.layer_of_slice[l]),
                    num_layers,
                    hits_of_layer,
                    hit,
                    hit_id,
                    hits,
                )
                pass_particles(here, here_id, start, slots, passes, walk.slice_spacing, there, there_id, born)
                gather_splits(here, start, slots, splits, words, reals)
                split_directions(
                    words,
                    reals,
                    whole_vectors(np.int64(splits)),
                    walk.theta_start,
                    walk.theta_span,
                    walk.deviation,
                    walk.parent_frame,
                )
                split_particles(
                    here, here_id, start, slots, splits, reals, walk.balanced, walk.slice_spacing, there, there_id, born
                )
                if nodes_in is not None:
                    record_tile(
                        here,
                        here_id,
                        start,
                        m,
                        slots,
                        stops,
                        splits,
                        passes,
                        l,
                        there_id,
                        born,
                        num_nodes,
                        node,
                        node.view(np.uint64),
                        nodes,
                    )
                    nodes += m
                hits += stops
                born += children
                start += Word(TILE)
            slice_end[l] = hits
            here, here_id, there, there_id = there, there_id, here, here_id
            n = born
        if too_large >= 0:
            break
        if nodes_in is not None and NODE_ROW * (nodes + n) > Word(len(node)):
            node = lengthened(node, NODE_ROW * (nodes + n))
        for i in range(n):
            k = here_id[ROW * i + TAG] >> BYTE
            leaked[k] += here[ROW * i + ENERGY]
            if nodes_in is not None:
                record_leak(here, here_id, Word(i), num_slices, node, node.view(np.uint64), nodes)
                num_nodes[k] += 1
                nodes += ONE

        for k in range(block, block_end):
            complete = True
            for readout in range(walk.num_layers):
                in_layer = hits_of_layer[k * walk.num_layers + readout]
                num_hits[k] += in_layer
                complete &= in_layer > 0
            kept[k] = complete or not complete_only
        after = _place(kept, num_hits, block, block_end, cursor, end)
        if end + hits > Word(len(columns.x)):
            columns = HitColumns(
                lengthened(columns.x, end + hits),
                lengthened(columns.y, end + hits),
                lengthened(columns.energy, end + hits),
                lengthened(columns.slice, end + hits),
                lengthened(columns.layer, end + hits),
                lengthened(columns.primary, end + hits),
            )
        _scatter_hits(hit, hit_id, slice_end, walk.layer_of_slice, cursor, columns)
        end = after
        if nodes_in is not None:
            after = _place(kept, num_nodes, block, block_end, cursor, node_end)
            if node_end + nodes > Word(len(records.x)):
                records = ParticleColumns(
                    lengthened(records.x, node_end + nodes),
                    lengthened(records.y, node_end + nodes),
                    lengthened(records.energy, node_end + nodes),
                    lengthened(records.parent, node_end + nodes),
                    lengthened(records.slice, node_end + nodes),
                    lengthened(records.fate, node_end + nodes),
                    lengthened(records.primary, node_end + nodes),
                )
            _scatter_nodes(node, node.view(np.uint64), nodes, cursor, records)
            node_end = after

    return (
        too_large,
        kept,
        num_hits,
        num_nodes,
        leaked,
        end,
        node_end,
        _Rows(here, there, hit),
        columns,
        node,
        records,
    )


@kernel
def _load_primaries(primaries: Primaries, block: int, block_end: int, here: FloatArray, here_id: UInt64Array) -> None:
    row = ZERO
    for k in range(block, block_end):
        for p in range(primaries.offset[k], primaries.offset[k + 1]):
            here[row + X], here[row + Y] = primaries.x[p], primaries.y[p]
            here[row + SX], here[row + SY] = primaries.slope_x[p], primaries.slope_y[p]
            here[row + ENERGY] = primaries.energy[p]
            here_id[row + PATH] = ONE
            here_id[row + TAG] = (Word(k) << BYTE) | Word(p - primaries.offset[k])
            here_id[row + PARENT] = MASK  # no parent
            row += ROW


@kernel
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


@kernel
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


@kernel
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
