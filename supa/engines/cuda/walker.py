"""Simulation of chunks of showers on a machine that runs the kernels of ``walk.cu``."""

import math
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from supa.arrays import IntArray
from supa.config import ShowerConfig
from supa.engines.results import WalkResult
from supa.expectations import mean_particles
from supa.physics import build_walk
from supa.primaries import Primaries, distribution_codes

THREADS = 128
"""Number of threads per block."""

MAX_PARTICLES = 2**31 - 1
"""Largest number of particles in a shower."""

_SHARED_BYTES = 46 << 10
_PENDING_BYTES = 40  # five float64 of a pending sibling
_MAX_SHARED_DEPTH = 7
_MAX_FATE_WORDS = 1024
_FATES_PER_WORD = 32
_MAX_NARROW_HITS = 65_535
_HIT_BYTES, _NODE_BYTES = 32, 32


class Machine(Protocol):
    """Interface of a machine that runs the kernels: a GPU, or the host in tests."""

    blocks: int
    """Number of blocks per launch."""

    def empty(self, size: int, dtype: npt.DTypeLike) -> Any:
        """Return an uninitialised array on the machine."""

    def send(self, values: npt.NDArray[Any]) -> Any:
        """Return a copy of an array on the machine."""

    def fetch(self, array: Any) -> npt.NDArray[Any]:
        """Return a copy of an array in the memory of the host."""

    def launch(self, kernel: str, macros: "Macros", arguments: tuple[Any, ...], shared_bytes: int = 0) -> None:
        """Run a kernel of ``walk.cu`` on all blocks."""


@dataclass(frozen=True)
class Macros:
    """Constants with which ``walk.cu`` is compiled."""

    wide_path: bool
    """Whether paths have 64 bits, for more than 31 slices."""
    wide_place: bool
    """Whether a shower may have more than 65,535 hits."""
    record: bool
    """Whether particles are recorded."""
    single: bool
    """Whether positions and energies are written as float32."""

    def definitions(self) -> dict[str, str]:
        """Return the names and values of the macros."""
        return {
            "PATH": "unsigned long long" if self.wide_path else "unsigned int",
            "PLACE": "unsigned int" if self.wide_place else "unsigned short",
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
        self._walk = self._walk_arguments(config, seed, complete_only)
        particles, _ = mean_particles(config)
        self._fate_words = min(math.ceil(1.5 * float(particles.sum()) / _FATES_PER_WORD) + 2, _MAX_FATE_WORDS)
        self._wide_place = False

    def walk(self, first: int, count: int) -> Chunk:
        """Walk consecutive showers.

        Args:
            first: Index of the first shower.
            count: Number of showers.

        Returns:
            The showers, in the memory of the machine.
        """
        incident_energy, primary_offset, num_primaries, primaries = self._draw(first, count)
        while True:
            counted = self._count(first, count, primary_offset, primaries)
            if counted.too_large >= 0 or self._wide_place or counted.most_hits <= _MAX_NARROW_HITS:
                break
            self._wide_place = True
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

    def _walk_arguments(self, config: ShowerConfig, seed: int, complete_only: bool) -> tuple[Any, ...]:
        walk, machine = build_walk(config), self._machine
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
            walk.parent_frame,
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
            np.uint64(seed),
            *map(np.int32, integers),
        )

    def _column_type(self, dtype: Any) -> Any:
        return np.float32 if self._single and dtype is np.float64 else dtype

    def _macros(self) -> Macros:
        return Macros(
            wide_path=self._num_slices > 31,
            wide_place=self._wide_place,
            record=self._record,
            single=self._single,
        )

    def _launch(self, kernel: str, *arguments: Any, shared_bytes: int = 0) -> None:
        self._machine.launch(kernel, self._macros(), (*self._walk, *arguments), shared_bytes)

    def _draw(self, first: int, count: int) -> tuple[Any, Any, int, Any]:
        machine = self._machine
        incident_energy = machine.empty(count, np.float64)
        num_primaries = machine.empty(count, np.int64)
        self._launch("draw_showers", np.int64(first), np.int64(count), incident_energy, num_primaries)
        offset, total = self._offsets(num_primaries, count)
        primaries = machine.empty(5 * total, np.float64)
        self._launch(
            "draw_primaries", np.int64(first), np.int64(count), np.int64(total), incident_energy, offset, primaries
        )
        return incident_energy, offset, total, primaries

    def _offsets(self, counts: Any, count: int) -> tuple[Any, int]:
        """Return the offsets of counts, and their sum."""
        machine, macros = self._machine, self._macros()
        sums = machine.empty(machine.blocks + 1, np.int64)
        offset = machine.empty(count + 1, np.int64)
        machine.launch("sum_parts", macros, (np.int64(count), counts, sums))
        machine.launch("add_parts", macros, (np.int64(machine.blocks), sums))
        machine.launch("write_offsets", macros, (np.int64(count), counts, sums, offset))
        return offset, int(machine.fetch(sums)[-1])

    def _count(self, first: int, count: int, primary_offset: Any, primaries: Any) -> "_Counted":
        machine = self._machine
        place = np.dtype(np.uint32 if self._wide_place else np.uint16)
        row = -(-self._num_slices * place.itemsize // 16) * 16 // place.itemsize
        fates = machine.empty(count * self._fate_words + 1, np.uint64)
        hits_of_slice = machine.empty(count * row, place)
        particles_of_slice = machine.empty(count * (self._num_slices + 1) if self._record else 1, np.uint32)
        num_hits, num_particles = machine.empty(count, np.int64), machine.empty(count, np.int64)
        kept = machine.empty(count, np.uint8)
        most_hits, too_large = machine.send(np.zeros(1, np.uint64)), machine.send(np.zeros(1, np.uint64))
        self._launch(
            "count_showers",
            np.int64(first),
            np.int64(count),
            primary_offset,
            primaries,
            fates,
            np.int32(self._fate_words),
            np.int32(row),
            hits_of_slice,
            particles_of_slice,
            num_hits,
            num_particles,
            kept,
            np.int64(self._max_particles),
            most_hits,
            too_large,
            shared_bytes=4 * row * THREADS,
        )
        hit_offset, total_hits = self._offsets(num_hits, count)
        particle_offset, total_particles = self._offsets(num_particles, count) if self._record else (kept, 0)
        return _Counted(
            fates=fates,
            row=row,
            place=place,
            hits_of_slice=hits_of_slice,
            particles_of_slice=particles_of_slice,
            kept=kept,
            hit_offset=hit_offset,
            num_hits=total_hits,
            particle_offset=particle_offset,
            num_particles=total_particles,
            most_hits=int(machine.fetch(most_hits)[0]),
            too_large=int(machine.fetch(too_large)[0]) - 1,
        )

    def _write(
        self, first: int, count: int, primary_offset: Any, primaries: Any, num_primaries: int, counted: "_Counted"
    ) -> tuple[dict[str, Any], dict[str, Any], Any]:
        machine, macros = self._machine, self._macros()
        if counted.too_large >= 0:
            columns = {name: machine.empty(0, dtype) for name, dtype in (_HIT_COLUMNS | _NODE_COLUMNS).items()}
            return (
                {name: columns[name] for name in _HIT_COLUMNS},
                {name: columns[name] for name in _NODE_COLUMNS},
                machine.empty(count, np.float64),
            )
        cursor_bytes = counted.row * counted.place.itemsize
        shared_depth = min((_SHARED_BYTES // THREADS - cursor_bytes) // _PENDING_BYTES, _MAX_SHARED_DEPTH)
        deep = max(self._num_slices - shared_depth, 1) * 5 * machine.blocks * THREADS
        hits = machine.empty(max(counted.num_hits, 1) * _HIT_BYTES // 8, np.float64)
        nodes = machine.empty(max(counted.num_particles, 1) * _NODE_BYTES // 8, np.float64)
        leaked_energy = machine.empty(count, np.float64)
        self._launch(
            "write_showers",
            np.int64(first),
            np.int64(count),
            primary_offset,
            primaries,
            np.int64(num_primaries),
            counted.fates,
            np.int32(self._fate_words),
            np.int32(counted.row),
            counted.hits_of_slice,
            counted.particles_of_slice,
            counted.hit_offset,
            counted.particle_offset,
            counted.kept,
            leaked_energy,
            np.int32(shared_depth),
            machine.empty(deep, np.float64),
            hits,
            nodes,
            shared_bytes=(_PENDING_BYTES * shared_depth + cursor_bytes) * THREADS,
        )
        hit_columns = {
            name: machine.empty(counted.num_hits, self._column_type(dtype)) for name, dtype in _HIT_COLUMNS.items()
        }
        machine.launch("part_hits", macros, (np.int64(counted.num_hits), hits, *hit_columns.values()))
        node_columns = {
            name: machine.empty(counted.num_particles, self._column_type(dtype))
            for name, dtype in _NODE_COLUMNS.items()
        }
        if self._record:
            machine.launch("part_nodes", macros, (np.int64(counted.num_particles), nodes, *node_columns.values()))
        return hit_columns, node_columns, leaked_energy


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
    most_hits: int
    too_large: int


def fetch_chunk(chunk: Chunk, machine: Machine) -> tuple[Primaries, WalkResult]:
    """Copy a chunk to the memory of the host.

    Args:
        chunk: The showers.
        machine: Machine whose memory contains them.

    Returns:
        Their primaries and their hits, in the form that the engine "cpu" returns.
    """
    total = chunk.num_primaries
    energy, x, y, slope_x, slope_y = machine.fetch(chunk.primaries).reshape(5, total)
    primaries = Primaries(
        machine.fetch(chunk.incident_energy), machine.fetch(chunk.primary_offset), energy, x, y, slope_x, slope_y
    )
    hits = {name: machine.fetch(column) for name, column in chunk.hits.items()}
    particles = {f"particle_{name}": machine.fetch(column) for name, column in chunk.particles.items()}
    num_particles: IntArray = np.zeros(chunk.count, np.int64)
    if chunk.num_particles:
        num_particles = np.diff(machine.fetch(chunk.particle_offset))
    result = WalkResult(
        too_large=chunk.too_large,
        kept=machine.fetch(chunk.kept).astype(np.bool_),
        num_hits=np.diff(machine.fetch(chunk.hit_offset)),
        num_particles=num_particles,
        leaked_energy=machine.fetch(chunk.leaked_energy),
        **hits,
        **particles,
    )
    return primaries, result
