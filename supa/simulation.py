"""Simulation of a given number of showers, in memory or chunk by chunk."""

import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import TypeVar

import numpy as np

from supa.collector import Collector
from supa.engines import cuda, reference
from supa.expectations import Keep
from supa.initial_conditions import EnergyLike
from supa.physics import build_walk
from supa.presets import ConfigLike
from supa.primaries import draw_primaries
from supa.random import MAX_INDEX
from supa.recycling import Recycler
from supa.showers import Showers
from supa.simulation_plan import (
    Engine,
    Plan,
    Record,
    available_processors,
    chunks_in_use,
    make_plan,
    never_complete,
)
from supa.span_walker import GpuSpanWalker, RecycledColumns, SpanWalker, explained_memory_error, showers_of

Result = TypeVar("Result")

MAX_FRUITLESS_ATTEMPTS = 10_000_000


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
    """Simulate showers and return them in memory.

    With the engines ``"cpu"`` and ``"cuda"``, shower k of a seed is always the same. It does not depend on the engine,
    the number of threads, the range of showers that is simulated, or the machine.

    Args:
        num_showers: Number of showers to return.
        config: Name of a preset, or a `ShowerConfig`.
        energy: Incident energy in GeV, which replaces the one of the config: a number (65), a uniform range
            (``"1:100"``), a range that is uniform in the logarithm (``"log:1:100"``), or energies to choose from
            (``"10,20,50"`` or a list). By default the incident energy of the config is used.
        seed: Random seed from 0 to 2**64 - 1 (2**32 - 1 for the engine ``"reference"``).
        first: Index of the first shower to simulate.
        keep: ``"all"``, or ``"complete"`` to drop showers that leave a readout layer empty. Simulation continues until
            ``num_showers`` showers are complete; `Showers.index` contains their indices.
        record: ``"hits"``, or ``"particles"`` to record every particle of the trees in addition to the hits.
        engine: ``"cpu"``; ``"cuda"`` for the same showers, simulated on an NVIDIA GPU; or ``"reference"`` for the
            sequential random stream of the public reference code.
        threads: Number of threads. By default one for each processor that this process may use. The engines
            ``"cuda"`` and ``"reference"`` use one thread.

    Returns:
        The showers. Positions and energies are float64.

    Raises:
        ValueError: If an argument is not allowed, if ``keep`` is ``"complete"`` and the config hardly ever produces a
            complete shower, or if the engine is ``"cuda"`` and there is no usable GPU.
        MemoryError: If a single shower or all showers together do not fit into memory.

    Example:
        >>> import supa
        >>> showers = supa.simulate(1000, "standard", energy="1:100", seed=1)
        >>> len(showers), showers.num_hits.shape, showers.x.dtype.name
        (1000, (1000,), 'float64')
        >>> shower = showers[7]  # Showers of length 1
        >>> again = supa.simulate(1, "standard", energy="1:100", seed=1, first=7)
        >>> again == shower
        True
        >>> complete = supa.simulate(10, keep="complete")
        >>> bool((complete[0].layer == 2).any())
        True
    """
    plan = make_plan(num_showers, config, energy, seed, first, keep, record, engine, threads, None)
    copiers = available_processors() if plan.engine == "cuda" else plan.threads
    with Collector(plan.num_showers, copiers) as collector:
        for chunk in _results(plan, _unchanged):
            collector.add(chunk)
            del chunk  # so that its memory is used again as soon as it is copied
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
        num_showers: Number of showers in all chunks together.
        config: Name of a preset, or a `ShowerConfig`.
        energy: Incident energy in GeV, which replaces the one of the config, as in `simulate`.
        seed: Random seed from 0 to 2**64 - 1 (2**32 - 1 for the engine ``"reference"``).
        first: Index of the first shower to simulate.
        keep: ``"all"``, or ``"complete"`` to drop showers that leave a readout layer empty, as in `simulate`.
        record: ``"hits"``, or ``"particles"`` to record every particle of the trees in addition to the hits.
        engine: ``"cpu"``, ``"cuda"`` or ``"reference"``, as in `simulate`.
        threads: Number of threads. By default one for each processor that this process may use. The engines
            ``"cuda"`` and ``"reference"`` use one thread.
        chunk_size: Number of simulated showers per chunk. By default a chunk has about 3 MB of hits (6 MB with more
            than 8 threads, 512 MB with the engine ``"cuda"``). A chunk is smaller if fewer showers are needed. A chunk
            size that you give is lowered if the chunks would take more than a quarter of the free memory. The showers
            do not depend on it.

    Returns:
        Iterator over chunks of `Showers`. Concatenated, they equal the showers of `simulate`.

    Raises:
        ValueError: If an argument is not allowed (raised immediately), if ``keep`` is ``"complete"`` and the config
            hardly ever produces a complete shower, or if the engine is ``"cuda"`` and there is no usable GPU.
        MemoryError: If a single shower does not fit into memory.

    Example:
        >>> import supa
        >>> hits = 0
        >>> for showers in supa.stream(1000, "standard", seed=1, chunk_size=200):
        ...     hits += len(showers.x)
        >>> hits == len(supa.simulate(1000, "standard", seed=1).x)
        True
    """
    plan = make_plan(num_showers, config, energy, seed, first, keep, record, engine, threads, chunk_size)
    return _results(plan, _unchanged)


def map_stream(
    work: Callable[[Showers], Result],
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
) -> Iterator[Result]:
    """Apply a function to each chunk of a stream, in the threads that simulate.

    Args:
        work: Function of a chunk. Several threads may call it at the same time. The run of the chunk contains the
            number of attempts of this chunk.
        num_showers: Number of showers in all chunks together.
        config: Name of a preset, or a `ShowerConfig`.
        energy: Incident energy in GeV, which replaces the one of the config, as in `stream`.
        seed: Random seed.
        first: Index of the first shower to simulate.
        keep: ``"all"``, or ``"complete"`` to drop showers that leave a readout layer empty.
        record: ``"hits"``, or ``"particles"`` to record every particle of the trees in addition to the hits.
        engine: ``"cpu"``, ``"cuda"`` or ``"reference"``.
        threads: Number of threads, or None for one per processor.

    Returns:
        Iterator over the results of the chunks, in order.

    Raises:
        ValueError: If an argument is not allowed (raised immediately), and as in `stream`.
        MemoryError: If a single shower does not fit into memory.
    """
    return _results(make_plan(num_showers, config, energy, seed, first, keep, record, engine, threads, None), work)


def _unchanged(showers: Showers) -> Showers:
    return showers


def _results(plan: Plan, work: Callable[[Showers], Result]) -> Iterator[Result]:
    """Simulate the showers of a plan, and yield the result of the work for each chunk, in order."""
    needed, fruitless = plan.num_showers, 0
    for start, showers, result in _attempts(plan, work):
        if plan.keep == "complete" and len(showers) >= needed:
            showers = showers[:needed]
            attempts = int(showers.index[-1]) + 1 - start if needed else 0
            result = work(replace(showers, run=replace(showers.run, attempts=attempts)))
        needed -= len(showers)
        fruitless = 0 if len(showers) else fruitless + (showers.run.attempts or 0)
        del showers  # its memory can be used again when the caller has dropped the result
        yield result
        del result
        if needed == 0:
            return
        if fruitless >= MAX_FRUITLESS_ATTEMPTS:
            raise ValueError(never_complete(f"None of {fruitless:,} consecutive showers has"))
    if needed:
        raise ValueError(
            f"first: the largest index, {MAX_INDEX}, was reached, but {needed} of the {plan.num_showers} requested "
            "complete showers are missing; start at a smaller index."
        )


def _attempts(plan: Plan, work: Callable[[Showers], Result]) -> Iterator[tuple[int, Showers, Result]]:
    """Simulate attempts in order and yield (first attempt, kept showers, result of the work).

    The iterator ends only if the plan keeps all showers.
    """
    last = plan.first + plan.num_showers if plan.keep == "all" else MAX_INDEX
    starts = range(plan.first, max(last, plan.first + 1), plan.chunk_size)  # one empty chunk for 0 showers
    spans = ((start, min(start + plan.chunk_size, last)) for start in starts)
    if plan.engine == "cpu":
        yield from _attempts_in_threads(plan, spans, work)
    elif plan.engine == "cuda":
        yield from _attempts_on_gpu(plan, spans, work)
    else:
        for start, showers in _attempts_in_sequence(plan, spans):
            yield start, showers, work(showers)


def _attempts_in_sequence(plan: Plan, spans: Iterator[tuple[int, int]]) -> Iterator[tuple[int, Showers]]:
    walk = build_walk(plan.config)
    sequence = reference.ReferenceStream(walk, plan.seed)

    def walk_span(start: int, stop: int) -> Showers:
        indices = np.arange(start, stop, dtype=np.int64)
        primaries = draw_primaries(plan.config, plan.seed, indices)
        with explained_memory_error(start, stop):
            result = sequence.walk_showers(
                primaries,
                complete_only=plan.keep == "complete",
                record=plan.record == "particles",
                max_particles=plan.max_particles,
            )
        return showers_of(plan, indices, primaries, result)

    for start in range(0, plan.first, plan.chunk_size):
        walk_span(start, min(start + plan.chunk_size, plan.first))
    for start, stop in spans:
        yield start, walk_span(start, stop)


def _attempts_on_gpu(
    plan: Plan, spans: Iterator[tuple[int, int]], work: Callable[[Showers], Result]
) -> Iterator[tuple[int, Showers, Result]]:
    walked = _walked_on_gpu(plan, spans)
    if work is _unchanged:
        for start, showers in walked:
            yield start, showers, work(showers)
            del showers
        return
    # The work would take much longer than the simulation. Threads share it while the GPU simulates the next chunk.
    threads = available_processors()
    with ThreadPoolExecutor(threads, thread_name_prefix="supa") as pool:
        pending: deque[tuple[int, Showers, Future[Result]]] = deque()
        try:
            for start, showers in walked:
                pieces = list(_pieces(start, showers, 2 * threads))
                pending.extend((begin, piece, pool.submit(work, piece)) for begin, piece in pieces)
                while len(pending) > len(pieces):
                    yield _finished(pending)
                del showers, pieces
            while pending:
                yield _finished(pending)
        finally:
            for *_, future in pending:
                future.cancel()


def _walked_on_gpu(plan: Plan, spans: Iterator[tuple[int, int]]) -> Iterator[tuple[int, Showers]]:
    walker = GpuSpanWalker(plan)
    most = plan.chunk_size
    for start, stop in spans:
        while True:  # also once for an empty chunk
            count = min(most, stop - start)
            try:
                showers = walker.walk(start, start + count)
            except cuda.GpuMemoryError:
                if count <= 1:
                    raise
                most = count // 2
                continue
            yield start, showers
            del showers  # its memory can be used again when the caller has dropped it
            start += count
            if start == stop:
                break


def _finished(pending: deque[tuple[int, Showers, Future[Result]]]) -> tuple[int, Showers, Result]:
    start, showers, future = pending.popleft()
    return start, showers, future.result()


def _pieces(start: int, showers: Showers, most: int) -> Iterator[tuple[int, Showers]]:
    """Divide a chunk whose first attempt is ``start``, and yield the first attempt of each part and the part."""
    stop = start + (showers.run.attempts or 0)
    size = max(-(-len(showers) // most), 1)
    for first in range(0, max(len(showers), 1), size):
        last = first + size >= len(showers)
        piece = showers[first : first + size]
        end = stop if last else int(showers.index[first + size - 1]) + 1
        yield start, replace(piece, run=replace(piece.run, attempts=end - start))
        start = end


def _attempts_in_threads(
    plan: Plan, spans: Iterator[tuple[int, int]], work: Callable[[Showers], Result]
) -> Iterator[tuple[int, Showers, Result]]:
    thread = threading.local()
    columns: RecycledColumns = Recycler(chunks_in_use(plan.threads))

    def start_thread() -> None:
        thread.walker = SpanWalker(plan, columns)

    def finish_span(start: int, stop: int) -> tuple[Showers, Result]:
        showers = thread.walker.walk(start, stop)
        return showers, work(showers)

    # Numba registers types when it first compiles, and a thread that looks up a type at that moment fails. Compiled
    # code is therefore called once before the threads start.
    start_thread()
    thread.walker.walk(plan.first, plan.first)
    # Python threads, because Numba's thread pools do not survive a fork, which data loaders use to start workers.
    with ThreadPoolExecutor(plan.threads, thread_name_prefix="supa", initializer=start_thread) as pool:
        pending: deque[tuple[int, Future[tuple[Showers, Result]]]] = deque()
        try:
            while True:
                # Twice as many chunks as threads, so that the others work while one thread is late.
                while len(pending) < 2 * plan.threads and (span := next(spans, None)):
                    pending.append((span[0], pool.submit(finish_span, *span)))
                if not pending:
                    return
                start, future = pending.popleft()
                yield start, *future.result()
                del future
        finally:
            for _, future in pending:
                future.cancel()
