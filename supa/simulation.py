"""simulate and stream: showers by number, in memory or chunk by chunk."""

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace

import numpy as np

from supa.arrays import Array, IntArray
from supa.checks import counted
from supa.collector import Collector
from supa.engines import cpu, reference
from supa.engines.results import WalkResult
from supa.expectations import Keep
from supa.initial_conditions import EnergyLike
from supa.physics import build_walk
from supa.presets import ConfigLike
from supa.primaries import Primaries, draw_primaries
from supa.ragged import Ragged, counts_to_offsets
from supa.random import MAX_INDEX
from supa.showers import Run, Showers
from supa.simulation_plan import Engine, Plan, Record, make_plan, never_complete

MAX_FRUITLESS_ATTEMPTS = 10_000_000

_SMALLER = "lower num_slices or the split probabilities, raise the stop curve, or use fewer threads."


def simulate(
    num_showers: int,
    config: ConfigLike = "standard",
    *,
    energy: EnergyLike | None = None,
    seed: int = 0,
    first: int = 0,
    keep: Keep = "all",
    record: Record = "hits",
    engine: Engine = "cpu",
    threads: int | None = None,
) -> Showers:
    """Simulate showers into memory.

    Shower k of a seed is the same whatever the range, the threads and the machine (engine ``"cpu"``).

    Args:
        num_showers: how many showers to give.
        config: a preset's name or a config.
        energy: incident energy in GeV (65, "1:100", "log:1:100", "10,20,50", a list), in place of the config's.
        seed: 0 to 2**64 - 1 (engine ``"reference"``: to 2**32 - 1).
        first: index of the first attempt.
        keep: ``"all"``, or ``"complete"`` to drop showers that leave a readout layer empty and go on until enough are
            kept; ``index`` then names the attempts that were.
        record: ``"hits"``, or ``"particles"`` to keep the whole trees beside the hits.
        engine: ``"cpu"``, or ``"reference"``: the sequential stream of the public reference code.
        threads: how many threads simulate, None for all processors that this process may use.

    Returns:
        The showers; x, y and energies are float64.

    Raises:
        ValueError: an argument is not allowed, or no shower is ever complete.
        MemoryError: a shower, or all of them, are too large for the memory.
    """
    plan = make_plan(num_showers, config, energy, seed, first, keep, record, engine, threads, None)
    collector = Collector(plan.num_showers)
    for chunk in _chunks(plan):
        collector.add(chunk)
    return collector.showers()


def stream(
    num_showers: int,
    config: ConfigLike = "standard",
    *,
    energy: EnergyLike | None = None,
    seed: int = 0,
    first: int = 0,
    keep: Keep = "all",
    record: Record = "hits",
    engine: Engine = "cpu",
    threads: int | None = None,
    chunk_size: int | None = None,
) -> Iterator[Showers]:
    """Simulate showers chunk by chunk, in bounded memory.

    Args:
        num_showers: how many showers to give.
        config: as for ``simulate``, like the arguments that follow.
        energy: incident energy in GeV.
        seed: the seed.
        first: index of the first attempt.
        keep: which showers to keep.
        record: what to keep of them.
        engine: what simulates.
        threads: how many threads simulate.
        chunk_size: attempts a chunk, None for about 8 MB of hits. Chunks are smaller where fewer attempts are needed,
            or where these would take more than a quarter of the free memory. The showers do not depend on it.

    Returns:
        An iterator over chunks, which together are the showers of ``simulate``.

    Raises:
        ValueError: an argument is not allowed (raised at once), or no shower is ever complete.
        MemoryError: a shower is too large for the memory.
    """
    plan = make_plan(num_showers, config, energy, seed, first, keep, record, engine, threads, chunk_size)
    return (chunk.copy() for chunk in _chunks(plan))


def _chunks(plan: Plan) -> Iterator[Showers]:
    """Simulate the plan's showers in order; a chunk tells its own attempts, and lives until the next is asked for."""
    needed, fruitless = plan.num_showers, 0
    for start, attempts, showers in _attempts(plan):
        if len(showers) >= needed:
            showers = showers[:needed]
            attempts = int(showers.index[-1]) + 1 - start if needed else 0
        needed -= len(showers)
        fruitless = 0 if len(showers) else fruitless + attempts
        yield replace(showers, run=replace(showers.run, attempts=attempts))
        if needed == 0:
            return
        if fruitless >= MAX_FRUITLESS_ATTEMPTS:
            raise ValueError(never_complete(f"None of {fruitless:,} showers in a row has"))
    if needed:
        raise ValueError(
            f"first: the indices end at {MAX_INDEX}, {needed} complete showers short of the {plan.num_showers} asked "
            "for; begin earlier."
        )


def _attempts(plan: Plan) -> Iterator[tuple[int, int, Showers]]:
    """Simulate attempts in order, without end unless all are kept: (first attempt, attempts, the kept showers)."""
    last = plan.first + plan.num_showers if plan.keep == "all" else MAX_INDEX
    starts = range(plan.first, max(last, plan.first + 1), plan.chunk_size)  # an empty chunk where nothing is wanted
    spans = ((start, min(start + plan.chunk_size, last)) for start in starts)
    if plan.engine == "reference":
        yield from _attempts_in_sequence(plan, spans)
    else:
        yield from _attempts_in_threads(plan, spans)


def _attempts_in_sequence(plan: Plan, spans: Iterator[tuple[int, int]]) -> Iterator[tuple[int, int, Showers]]:
    walk = build_walk(plan.config)
    sequence = reference.ReferenceStream(walk, plan.seed)

    def walk_span(start: int, stop: int) -> Showers:
        indices = np.arange(start, stop, dtype=np.int64)
        primaries = draw_primaries(plan.config, plan.seed, indices)
        with _memory_told(start, stop):
            result = sequence.walk_showers(
                primaries,
                complete_only=plan.keep == "complete",
                record=plan.record == "particles",
                max_particles=plan.max_particles,
            )
        return _showers_of(plan, indices, primaries, result)

    for start in range(0, plan.first, plan.chunk_size):
        walk_span(start, min(start + plan.chunk_size, plan.first))
    for start, stop in spans:
        yield start, stop - start, walk_span(start, stop)


def _attempts_in_threads(plan: Plan, spans: Iterator[tuple[int, int]]) -> Iterator[tuple[int, int, Showers]]:
    """As ``_attempts``; the showers lie in a workspace, so they are gone once the next ones are asked for."""
    walk = build_walk(plan.config)

    def walk_span(start: int, stop: int, workspace: cpu.Workspace) -> Showers:
        indices = np.arange(start, stop, dtype=np.int64)
        primaries = draw_primaries(plan.config, plan.seed, indices)
        with _memory_told(start, stop):
            result = workspace.walk_showers(
                walk,
                plan.seed,
                start,
                primaries,
                block_size=plan.block_size,
                complete_only=plan.keep == "complete",
                record=plan.record == "particles",
                max_particles=plan.max_particles,
            )
        return _showers_of(plan, indices, primaries, result)

    # One workspace more than there are threads: they work on while the caller uses the last chunk.
    workspaces = [cpu.Workspace() for _ in range(plan.threads + 1)]
    # Threads of our own, not Numba's: its thread pools do not survive a fork, as data loaders' workers are made.
    with ThreadPoolExecutor(plan.threads, thread_name_prefix="supa") as pool:
        pending: deque[tuple[int, int, cpu.Workspace, Future[Showers]]] = deque()
        try:
            while True:
                while workspaces and (span := next(spans, None)):
                    workspace = workspaces.pop()
                    pending.append((*span, workspace, pool.submit(walk_span, *span, workspace)))
                if not pending:
                    return
                start, stop, workspace, future = pending.popleft()
                yield start, stop - start, future.result()
                workspaces.append(workspace)
        finally:
            for *_, future in pending:
                future.cancel()


@contextmanager
def _memory_told(start: int, stop: int) -> Iterator[None]:
    try:
        yield
    except MemoryError:
        raise MemoryError(f"One of the showers {start} to {stop - 1} is too large for the memory; {_SMALLER}") from None


def _showers_of(plan: Plan, indices: IntArray, primaries: Primaries, result: WalkResult) -> Showers:
    if result.too_large >= 0:
        raise MemoryError(
            f"Shower {indices[result.too_large]} grows beyond {counted(plan.max_particles, 'particle')}, more than "
            f"this machine's memory holds; {_SMALLER}"
        )
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
        run=_run_of(plan, None),
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
        config=plan.config, seed=plan.seed, first=plan.first, engine=plan.engine, keep=plan.keep, attempts=attempts
    )
