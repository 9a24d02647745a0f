"""Simulation of a span of showers in one thread, and showers from the results of an engine."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeAlias

import numpy as np

from supa.arrays import Array, BoolArray, IntArray
from supa.checks import counted
from supa.engines import cpu, cuda
from supa.engines.columns import HitColumns, ParticleColumns, empty_columns
from supa.engines.results import WalkResult
from supa.physics import build_walk
from supa.primaries import Primaries, draw_primaries
from supa.ragged import Ragged, counts_to_offsets
from supa.recycling import Recycler
from supa.showers import Run, Showers
from supa.simulation_plan import Plan, random_stream

RecycledColumns: TypeAlias = Recycler[tuple[HitColumns, ParticleColumns | None]]

_GPU = threading.Lock()
"""Walkers of several threads use the memory for copies from the GPU one after another."""

_SMALLER = "lower num_slices or the split probabilities, increase the stop probabilities, or use fewer threads."


class SpanWalker:
    """Simulate spans of showers with the engine ``cpu`` in one thread.

    Args:
        plan: Physics, seed and sizes. The number of showers and the first index of the plan are not used.
        columns: Columns of hits and particles that are not used any more, which walkers of several threads may share.
    """

    def __init__(self, plan: Plan, columns: RecycledColumns) -> None:
        self._plan, self._columns = plan, columns
        self._walk = build_walk(plan.config)
        self._workspace = cpu.Workspace()

    def walk(self, start: int, stop: int, wanted: BoolArray | None = None) -> Showers:
        """Simulate the showers of a span.

        Args:
            start: Index of the first shower.
            stop: Index after the last shower.
            wanted: (stop - start,) bool, True for the showers to simulate; None for all.

        Returns:
            The showers, without incomplete ones if the plan drops them.

        Raises:
            MemoryError: If a shower does not fit into memory.
        """
        plan = self._plan
        indices = np.arange(start, stop, dtype=np.int64)
        block_size = plan.block_size
        if wanted is None:
            primaries = draw_primaries(plan.config, plan.seed, indices)
        else:
            primaries = _without_others(draw_primaries(plan.config, plan.seed, indices[wanted]), wanted)
            block_size = max(block_size, block_size * len(wanted) // max(1, int(wanted.sum())))
        unused = self._columns.take()
        hits, particles = unused or (
            empty_columns(HitColumns, plan.chunk_hits),
            empty_columns(ParticleColumns, plan.chunk_particles) if plan.record == "particles" else None,
        )
        with explained_memory_error(start, stop):
            result, hits, particles = self._workspace.walk_showers(
                self._walk,
                plan.seed,
                start,
                primaries,
                hits,
                particles,
                block_size=block_size,
                complete_only=plan.keep == "complete",
                max_particles=plan.max_particles,
            )
        result = result._replace(**self._columns.lend((hits, particles), result.columns()))
        if wanted is not None:
            result = result._replace(kept=result.kept & wanted)
        return showers_of(plan, indices, primaries, result)


class GpuSpanWalker:
    """Simulate spans of showers with the engine ``cuda``, and copy them to the memory of the host.

    Args:
        plan: Physics, seed and sizes. The number of showers and the first index of the plan are not used.

    Raises:
        ValueError: If there is no usable GPU.
    """

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._walker = cuda.Walker(
            plan.config,
            plan.seed,
            plan.keep == "complete",
            plan.record == "particles",
            cuda.open_gpu(),
            max_particles=plan.max_particles,
        )

    def walk(self, start: int, stop: int, wanted: BoolArray | None = None) -> Showers:
        """Simulate the showers of a span.

        Args:
            start: Index of the first shower.
            stop: Index after the last shower.
            wanted: (stop - start,) bool, True for the showers to return; None for all. The others are simulated too.

        Returns:
            The showers, without incomplete ones if the plan drops them.

        Raises:
            GpuMemoryError: If the showers do not fit into the memory of the GPU.
            MemoryError: If a shower does not fit into memory.
        """
        indices = np.arange(start, stop, dtype=np.int64)
        with _GPU:
            machine = cuda.open_gpu()  # makes it the GPU of this thread
            chunk = self._walker.walk(start, stop - start)
            showers = showers_of(self._plan, indices, *cuda.fetch_chunk(chunk, machine))
        return showers if wanted is None else showers[np.isin(showers.index, indices[wanted])]

    def walk_on_gpu(self, start: int, stop: int) -> cuda.Chunk:
        """Simulate all showers of a span, and leave them on the GPU.

        Args:
            start: Index of the first shower.
            stop: Index after the last shower.

        Returns:
            The showers, which are complete when the method returns.

        Raises:
            GpuMemoryError: If the showers do not fit into the memory of the GPU.
            MemoryError: If a shower has too many particles.
        """
        with _GPU:
            machine = cuda.open_gpu()
            chunk = self._walker.walk(start, stop - start)
            check_size(self._plan, start, chunk.too_large)
            machine.synchronize()
        return chunk


def _without_others(primaries: Primaries, wanted: BoolArray) -> Primaries:
    """Return the primaries of all showers of a span, in which showers that are not wanted have none.

    The engine simulates consecutive indices. A shower without primaries takes hardly any time.
    """
    counts, energy = np.zeros(len(wanted), np.int64), np.zeros(len(wanted))
    counts[wanted] = np.diff(primaries.offset)
    energy[wanted] = primaries.incident_energy
    return primaries._replace(incident_energy=energy, offset=counts_to_offsets(counts))


@contextmanager
def explained_memory_error(start: int, stop: int) -> Iterator[None]:
    """Add the range of showers and a hint to the message of a MemoryError.

    Args:
        start: Index of the first shower.
        stop: Index after the last shower.

    Raises:
        MemoryError: If the block raises a MemoryError.
    """
    try:
        yield
    except MemoryError:
        raise MemoryError(f"One of the showers {start} to {stop - 1} does not fit into memory; {_SMALLER}") from None


def check_size(plan: Plan, first: int, too_large: int) -> None:
    """Check that no shower is too large.

    Args:
        plan: Plan of the simulation.
        first: Index of the first shower.
        too_large: Number of a shower with too many particles, counted from the first one; -1 if there is none.

    Raises:
        MemoryError: If there is such a shower.
    """
    if too_large >= 0:
        raise MemoryError(
            f"Shower {first + too_large} grows beyond {counted(plan.max_particles, 'particle')}, which do not fit into "
            f"the memory of this machine; {_SMALLER}"
        )


def showers_of(plan: Plan, indices: IntArray, primaries: Primaries, result: WalkResult) -> Showers:
    """Return the showers of a result of an engine.

    Args:
        plan: Plan of the simulation.
        indices: (n,) int64 index of each simulated shower.
        primaries: Initial conditions of these showers.
        result: Result of the engine.

    Returns:
        The kept showers.

    Raises:
        MemoryError: If a shower was too large.
    """
    check_size(plan, int(indices[0]) if len(indices) else 0, result.too_large)
    kept = np.flatnonzero(result.kept)
    hits: dict[str, Array] = {
        "x": result.x,
        "y": result.y,
        "energy": result.energy,
        "slice": result.slice,
        "layer": result.layer,
        "primary": result.primary,
    }
    particles: dict[str, Array] = {
        "parent": result.particle_parent,
        "slice": result.particle_slice,
        "x": result.particle_x,
        "y": result.particle_y,
        "energy": result.particle_energy,
        "fate": result.particle_fate,
        "primary": result.particle_primary,
    }
    return Showers(
        run=_run_of(plan, len(indices)),
        index=indices[kept],
        incident_energy=primaries.incident_energy[kept],
        leaked_energy=result.leaked_energy[kept],
        hits=Ragged(hits, counts_to_offsets(result.num_hits[kept])),
        primaries=primaries.ragged() if len(kept) == len(indices) else primaries.ragged().take(kept),
        particles=Ragged(particles, counts_to_offsets(result.num_particles[kept]))
        if plan.record == "particles"
        else None,
    )


def _run_of(plan: Plan, attempts: int | None) -> Run:
    return Run(
        config=plan.config,
        seed=plan.seed,
        first=plan.first,
        engine=random_stream(plan.engine),
        keep=plan.keep,
        attempts=attempts,
    )
