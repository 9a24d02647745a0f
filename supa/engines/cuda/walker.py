"""Simulation of chunks of showers on a machine that runs the kernels of ``walk.cu``."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from supa.arrays import IntArray
from supa.config import ShowerConfig
from supa.engines.results import WalkResult
from supa.expectations import mean_particles
from supa.physics import Walk, build_walk
from supa.primaries import Primaries, distribution_codes

THREADS = 128
"""Number of threads per block."""

MAX_PARTICLES = 2**31 - 1
"""Largest number of particles in a shower."""

_STATIC_BYTES = 2368  # static shared memory of a block, and what the system needs
_PENDING_BYTES = 40  # five float64 of a pending sibling
_LEAST_DEPTH = 4  # pending siblings in shared memory
_DEEP_BYTES = 64  # a pending sibling in global memory
_FATES_PER_WORD = 16
_MAX_NARROW_PARTICLES = 65_535
_HIT_BYTES, _NODE_BYTES = 32, 32
_LARGE = 4.0  # Fates are stored for showers up to this multiple of the mean size. Larger ones are counted again.
_MAX_FATE_WORDS = 2048  # at first
_MAX_SHOWERS = 2**31 - 1
_BLOCKS = {"count_showers": 12, "write_showers": 4}  # per multiprocessor
_OTHER_BLOCKS = 16
_TOTALS = ("primaries", "hits", "particles", "most_particles", "too_large")


class GpuMemoryError(MemoryError):
    """The GPU has too little free memory."""


class Machine(Protocol):
    """Interface of a machine that runs the kernels: a GPU, or the host in tests."""

    multiprocessors: int
    """Number of multiprocessors, among which the blocks of a kernel are distributed."""
    shared_bytes: int
    """Size of the shared memory of a multiprocessor."""

    def empty(self, size: int, dtype: npt.DTypeLike) -> Any:
        """Return an uninitialised array on the machine."""

    def send(self, values: npt.NDArray[Any]) -> Any:
        """Return a copy of an array on the machine."""

    def fetch(self, array: Any) -> npt.NDArray[Any]:
        """Return a copy of an array in the memory of the host."""

    def fetch_all(self, arrays: Mapping[str, Any]) -> dict[str, npt.NDArray[Any]]:
        """Return copies of arrays in the memory of the host."""

    def launch(
        self, kernel: str, macros: "Macros", arguments: tuple[Any, ...], blocks: int, shared_bytes: int = 0
    ) -> None:
        """Run a kernel of ``walk.cu`` on a number of blocks."""


@dataclass(frozen=True)
class Macros:
    """Constants with which ``walk.cu`` is compiled."""

    wide_path: bool
    """Whether paths have 64 bits, for more than 31 slices."""
    wide_place: bool
    """Whether a shower may have more than 65,535 hits."""
    cut: bool
    """Whether particles below a critical energy stop."""
    parent_frame: bool
    """Whether the children of a split are rotated in the frame of the parent."""
    record: bool
    """Whether particles are recorded."""
    single: bool
    """Whether positions and energies are written as float32."""

    def definitions(self) -> dict[str, str]:
        """Return the names and values of the macros."""
        return {
            "PATH": "unsigned long long" if self.wide_path else "unsigned int",
            "PLACE": "unsigned int" if self.wide_place else "unsigned short",
            "CUT": "true" if self.cut else "false",
            "PARENT_FRAME": "true" if self.parent_frame else "false",
            "COUNT_BLOCKS": str(_BLOCKS["count_showers"]),
            "WALK_BLOCKS": str(_BLOCKS["write_showers"]),
            "RECORD": "true" if self.record else "false",
            "REAL": "float" if self.single else "double",
        }


@dataclass(frozen=True)
class Chunk:
    """Consecutive showers, whose arrays are in the memory of the machine."""

    count: int
    too_large: int
    """Number of a shower with too many particles, or -1. The hits are defined only if it is -1."""
    num_primaries: int
    num_hits: int
    num_particles: int
    incident_energy: Any
    primary_offset: Any
    primaries: Any
    kept: Any
    hit_offset: Any
    particle_offset: Any
    leaked_energy: Any
    hits: dict[str, Any]
    particles: dict[str, Any]


class Walker:
    """Walks chunks of showers of one config and seed.

    Args:
        config: Physics of the showers.
        seed: Random seed from 0 to 2**64 - 1.
        complete_only: Whether to drop showers that leave a readout layer empty.
        record: Whether particles are recorded.
        machine: Machine that runs the kernels.
        max_particles: Largest allowed number of particles in a shower.
        single: Whether positions and energies are float32, rounded from float64.
    """

    def __init__(
        self,
        config: ShowerConfig,
        seed: int,
        complete_only: bool,
        record: bool,
        machine: Machine,
        *,
        max_particles: int = MAX_PARTICLES,
        single: bool = False,
    ) -> None:
        self._machine = machine
        self._max_particles = min(max_particles, MAX_PARTICLES)
        self._single = single
        self._num_slices = config.num_slices
        self._record = record
        self._cut = config.critical_energy > 0.0
        self._fixed_count = int(config.primary_count.value) if config.primary_count.law == "fixed" else None
        walk = build_walk(config)
        self._parent_frame = walk.parent_frame
        self._walk = self._walk_arguments(config, walk, seed, complete_only)
        particles, _ = mean_particles(config)
        self._fate_words = min(math.ceil(_LARGE * float(particles.sum()) / _FATES_PER_WORD), _MAX_FATE_WORDS)
        self._wide_place = False

    def walk(self, first: int, count: int) -> Chunk:
        """Walk consecutive showers.

        Args:
            first: Index of the first shower.
            count: Number of showers.

        Returns:
            The showers, in the memory of the machine.
        """
        if count > _MAX_SHOWERS:
            raise GpuMemoryError(f"the GPU simulates at most {_MAX_SHOWERS:,} showers at a time")
        incident_energy, primary_offset, num_primaries, primaries, totals = self._draw(first, count)
        while True:
            counted = self._count(first, count, primary_offset, primaries, totals)
            fate_words = -(-counted.most_particles // _FATES_PER_WORD)
            wide_place = self._wide_place or counted.most_particles > _MAX_NARROW_PARTICLES
            if counted.too_large >= 0 or (fate_words <= self._fate_words and wide_place == self._wide_place):
                break
            # A shower is larger than expected: count again, with more memory for each shower.
            self._fate_words, self._wide_place = max(fate_words * 5 // 4, self._fate_words), wide_place
        hits, particles, leaked_energy = self._write(first, count, primary_offset, primaries, num_primaries, counted)
        return Chunk(
            count=count,
            too_large=counted.too_large,
            num_primaries=num_primaries,
            num_hits=counted.num_hits,
            num_particles=counted.num_particles,
            incident_energy=incident_energy,
            primary_offset=primary_offset,
            primaries=primaries,
            kept=counted.kept,
            hit_offset=counted.hit_offset,
            particle_offset=counted.particle_offset,
            leaked_energy=leaked_energy,
            hits=hits,
            particles=particles,
        )

    def _walk_arguments(self, config: ShowerConfig, walk: Walk, seed: int, complete_only: bool) -> tuple[Any, ...]:
        machine = self._machine
        energy_law, energies, count_law, count_value = distribution_codes(config)
        code = np.arange(config.num_slices, dtype=np.uint32) | walk.layer_of_slice.astype(np.uint32) << np.uint32(8)
        reals = (
            walk.slice_spacing,
            walk.theta_start,
            walk.theta_span,
            walk.deviation,
            walk.critical_energy,
            config.polar_angle[0],
            config.polar_angle[1] - config.polar_angle[0],
            config.polar_angle[1],
            config.azimuth[0],
            config.azimuth[1] - config.azimuth[0],
            config.impact_spread,
            count_value,
        )
        integers = (
            config.num_slices,
            walk.num_layers,
            walk.balanced,
            energy_law,
            len(energies),
            count_law,
            complete_only,
        )
        return (
            machine.send(np.column_stack([walk.stop_word, walk.split_word])),
            machine.send(code),
            machine.send(energies),
            *map(np.float64, reals),
            *_round_keys(seed),
            *map(np.int32, integers),
        )

    def _column_type(self, dtype: Any) -> Any:
        return np.float32 if self._single and dtype is np.float64 else dtype

    def _macros(self) -> Macros:
        return Macros(
            wide_path=self._num_slices > 31,
            wide_place=self._wide_place,
            cut=self._cut,
            parent_frame=self._parent_frame,
            record=self._record,
            single=self._single,
        )

    def _launch(self, kernel: str, *arguments: Any, shared_bytes: int = 0) -> None:
        blocks = _BLOCKS.get(kernel, _OTHER_BLOCKS) * self._machine.multiprocessors
        self._machine.launch(kernel, self._macros(), arguments, blocks, shared_bytes)

    def _draw(self, first: int, count: int) -> tuple[Any, Any, int, Any, Any]:
        machine = self._machine
        totals = machine.empty(len(_TOTALS), np.int64)
        incident_energy = machine.empty(count, np.float64)
        number = machine.empty(count, np.uint32)
        offset = machine.empty(count + 1, np.int64)
        self._launch(
            "draw_showers", *self._walk, np.int64(first), np.int64(count), incident_energy, number, offset, totals
        )
        if self._fixed_count is None:
            self._write_offsets(number, count, offset, totals, "primaries")
            total = self._fetch_totals(totals)["primaries"]
        else:
            total = self._fixed_count * count
        primaries = machine.empty(5 * total, np.float64)
        self._launch(
            "draw_primaries",
            *self._walk,
            np.int64(first),
            np.int64(count),
            np.int64(total),
            incident_energy,
            offset,
            primaries,
        )
        return incident_energy, offset, total, primaries, totals

    def _write_offsets(self, counts: Any, count: int, offset: Any, totals: Any, name: str) -> None:
        """Write the offsets of counts, and their sum as one of the totals."""
        sums = self._machine.empty(_OTHER_BLOCKS * self._machine.multiprocessors, np.int64)
        self._launch("sum_parts", np.int64(count), counts, sums)
        self._launch("write_offsets", np.int64(count), counts, sums, offset, totals, np.int32(_TOTALS.index(name)))

    def _fetch_totals(self, totals: Any) -> dict[str, int]:
        return dict(zip(_TOTALS, map(int, self._machine.fetch(totals)), strict=True))

    def _count(self, first: int, count: int, primary_offset: Any, primaries: Any, totals: Any) -> "_Counted":
        machine = self._machine
        place = np.dtype(np.uint32 if self._wide_place else np.uint16)
        row = -(-self._num_slices * place.itemsize // 16) * 16 // place.itemsize
        fates = machine.empty(count * self._fate_words + 2, np.uint32)
        hits_of_slice = machine.empty(count * row, place)
        particles_of_slice = machine.empty(count * (self._num_slices + 1) if self._record else 1, np.uint32)
        num_hits, num_particles = machine.empty(count, np.uint32), machine.empty(count, np.uint32)
        kept = machine.empty(count, np.uint8)
        hit_offset, particle_offset = machine.empty(count + 1, np.int64), machine.empty(count + 1, np.int64)
        self._launch(
            "count_showers",
            *self._walk,
            np.int64(first),
            np.uint32(count),
            primary_offset,
            primaries,
            fates,
            np.uint32(self._fate_words),
            np.uint32(row),
            hits_of_slice,
            particles_of_slice,
            num_hits,
            num_particles,
            kept,
            np.uint32(self._max_particles),
            totals,
            shared_bytes=4 * row * (THREADS + 1),
        )
        self._write_offsets(num_hits, count, hit_offset, totals, "hits")
        if self._record:
            self._write_offsets(num_particles, count, particle_offset, totals, "particles")
        sizes = self._fetch_totals(totals)
        return _Counted(
            fates=fates,
            row=row,
            place=place,
            hits_of_slice=hits_of_slice,
            particles_of_slice=particles_of_slice,
            kept=kept,
            hit_offset=hit_offset,
            num_hits=sizes["hits"],
            particle_offset=particle_offset,
            num_particles=sizes["particles"],
            most_particles=sizes["most_particles"],
            too_large=sizes["too_large"] - 1,
        )

    def _write(
        self, first: int, count: int, primary_offset: Any, primaries: Any, num_primaries: int, counted: "_Counted"
    ) -> tuple[dict[str, Any], dict[str, Any], Any]:
        machine = self._machine
        if counted.too_large >= 0:
            columns = {name: machine.empty(0, dtype) for name, dtype in (_HIT_COLUMNS | _NODE_COLUMNS).items()}
            return (
                {name: columns[name] for name in _HIT_COLUMNS},
                {name: columns[name] for name in _NODE_COLUMNS},
                machine.empty(count, np.float64),
            )
        blocks = _BLOCKS["write_showers"]
        cursor_bytes = counted.row * counted.place.itemsize
        shared_bytes = machine.shared_bytes // blocks - _STATIC_BYTES
        depth = min(max((shared_bytes // THREADS - cursor_bytes) // _PENDING_BYTES, _LEAST_DEPTH), self._num_slices)
        deep = (self._num_slices - depth + 1) * _DEEP_BYTES // 8 * blocks * machine.multiprocessors * THREADS
        hits = machine.empty(counted.num_hits * _HIT_BYTES // 8, np.float64)
        nodes = machine.empty(counted.num_particles * _NODE_BYTES // 8, np.float64)
        leaked_energy = machine.empty(count, np.float64)
        self._launch(
            "write_showers",
            *self._walk,
            np.int64(first),
            np.uint32(count),
            primary_offset,
            primaries,
            np.int64(num_primaries),
            counted.fates,
            np.uint32(self._fate_words),
            np.uint32(counted.row),
            counted.hits_of_slice,
            counted.particles_of_slice,
            counted.hit_offset,
            counted.particle_offset,
            counted.kept,
            leaked_energy,
            np.uint32(depth),
            machine.empty(deep, np.float64),
            hits,
            nodes,
            shared_bytes=(_PENDING_BYTES * depth + cursor_bytes) * THREADS,
        )
        hit_columns = {
            name: machine.empty(counted.num_hits, self._column_type(dtype)) for name, dtype in _HIT_COLUMNS.items()
        }
        self._launch("part_hits", np.int64(counted.num_hits), hits, *hit_columns.values())
        node_columns = {
            name: machine.empty(counted.num_particles, self._column_type(dtype))
            for name, dtype in _NODE_COLUMNS.items()
        }
        if self._record:
            self._launch("part_nodes", np.int64(counted.num_particles), nodes, *node_columns.values())
        return hit_columns, node_columns, leaked_energy


def _round_keys(seed: int) -> list[np.uint64]:
    """Return the key of each round of Philox, as ``walk.cu`` expects it."""
    keys = []
    for number in range(10):
        lower = (seed + number * 0x9E3779B9) & 0xFFFFFFFF
        upper = ((seed >> 32) + number * 0xBB67AE85) & 0xFFFFFFFF
        keys.append(np.uint64(lower | upper << 32))
    return keys


_REALS: dict[str, Any] = dict.fromkeys(("x", "y", "energy"), np.float64)
_HIT_COLUMNS: dict[str, Any] = _REALS | dict.fromkeys(("slice", "layer", "primary"), np.uint8)
_NODE_COLUMNS: dict[str, Any] = _REALS | {"parent": np.int32} | dict.fromkeys(("slice", "fate", "primary"), np.uint8)


@dataclass(frozen=True)
class _Counted:
    """Results of the first walk, which the second walk uses."""

    fates: Any
    row: int
    place: np.dtype[Any]
    hits_of_slice: Any
    particles_of_slice: Any
    kept: Any
    hit_offset: Any
    num_hits: int
    particle_offset: Any
    num_particles: int
    most_particles: int
    too_large: int


def fetch_chunk(chunk: Chunk, machine: Machine) -> tuple[Primaries, WalkResult]:
    """Copy a chunk to the memory of the host.

    Args:
        chunk: The showers.
        machine: Machine whose memory contains them.

    Returns:
        Their primaries and their hits, in the form that the engine "cpu" returns.
    """
    particles = {f"particle_{name}": column for name, column in chunk.particles.items()}
    arrays = machine.fetch_all(
        {
            "incident_energy": chunk.incident_energy,
            "leaked_energy": chunk.leaked_energy,
            "primary_offset": chunk.primary_offset,
            "primaries": chunk.primaries,
            "kept": chunk.kept,
            "hit_offset": chunk.hit_offset,
            **({"particle_offset": chunk.particle_offset} if chunk.num_particles else {}),
            **chunk.hits,
            **particles,
        }
    )
    energy, x, y, slope_x, slope_y = arrays["primaries"].reshape(5, chunk.num_primaries)
    primaries = Primaries(arrays["incident_energy"], arrays["primary_offset"], energy, x, y, slope_x, slope_y)
    num_particles: IntArray = np.zeros(chunk.count, np.int64)
    if chunk.num_particles:
        num_particles = np.diff(arrays["particle_offset"])
    result = WalkResult(
        too_large=chunk.too_large,
        kept=arrays["kept"].astype(np.bool_),
        num_hits=np.diff(arrays["hit_offset"]),
        num_particles=num_particles,
        leaked_energy=arrays["leaked_energy"],
        **{name: arrays[name] for name in (*chunk.hits, *particles)},
    )
    return primaries, result
