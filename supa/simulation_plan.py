"""The plan of a simulation: validated arguments and the sizes of chunks and blocks."""

import math
import os
from dataclasses import dataclass
from typing import Literal

import numpy as np

from supa.arrays import FloatArray
from supa.checks import check_int, did_you_mean
from supa.config import ShowerConfig
from supa.engines import cuda, reference
from supa.expectations import Keep, expectation, mean_particles
from supa.initial_conditions import EnergyLike
from supa.memory import available_bytes
from supa.presets import ConfigLike, as_config
from supa.random import MAX_INDEX, MAX_SEED

Record = Literal["hits", "particles"]
Engine = Literal["cpu", "cuda", "reference"]

MAX_THREADS = 1024

_SINGLE_THREADED = {"cuda": "one thread", "reference": "one stream"}
_CHUNK_BYTES = 3 << 20  # small enough for the caches
_CHUNK_BYTES_OF_MANY_THREADS = 6 << 20  # threads exclude each other in the Python code between two chunks
_MANY_THREADS = 9
_SPARE_ROWS = 1.1  # rows of the columns of a chunk over their mean number
_GPU_CHUNK_BYTES = 512 << 20  # enough showers to keep all multiprocessors busy
_CHUNKS_SHARE = 0.25  # largest share of the free memory for all chunks together
_GROWTH = 3  # a column that grows needs up to three times its size
_BLOCK_PARTICLES = 4096  # number of simultaneous particles whose columns fit into the second-level cache
_BYTES_PER_PARTICLE = 512  # working memory of one active particle, including growth


@dataclass(frozen=True)
class Plan:
    """Validated arguments of ``simulate`` or ``stream``, and the sizes of chunks and blocks."""

    num_showers: int
    config: ShowerConfig
    seed: int
    first: int
    keep: Keep
    record: Record
    engine: Engine
    threads: int
    chunk_size: int
    chunk_hits: int
    chunk_particles: int
    block_size: int
    max_particles: int


def make_plan(
    num_showers: int,
    config: ConfigLike,
    energy: EnergyLike | None,
    seed: int,
    first: int,
    keep: Keep,
    record: Record,
    engine: Engine,
    threads: int | None,
    chunk_size: int | None,
) -> Plan:
    """Check the arguments of ``stream`` and choose the sizes of chunks and blocks.

    Args:
        num_showers: Number of showers.
        config: Name of a preset, or a config.
        energy: Incident energy in GeV, or None to use the one of the config.
        seed: Random seed.
        first: Index of the first shower to simulate.
        keep: ``"all"`` or ``"complete"``.
        record: ``"hits"`` or ``"particles"``.
        engine: ``"cpu"``, ``"cuda"`` or ``"reference"``.
        threads: Number of threads, or None for one per processor.
        chunk_size: Number of simulated showers per chunk, or None to choose it.

    Returns:
        Plan of the simulation.

    Raises:
        ValueError: If an argument is not allowed, or if the config never produces a complete shower.
    """
    config = as_config(config)
    if energy is not None:
        config = config.replace(incident_energy=energy)
    for name, value, choices in (
        ("keep", keep, ("all", "complete")),
        ("record", record, ("hits", "particles")),
        ("engine", engine, ("cpu", "cuda", "reference")),
    ):
        if not isinstance(value, str) or value not in choices:
            raise ValueError(
                f"{name}: {value!r} was given, but it must be {' or '.join(map(repr, choices))}."
                f"{did_you_mean(value, choices)}"
            )
    if engine == "reference":
        check_int(0, reference.MAX_SEED, "seed", seed, "with engine='reference'")
    if engine in _SINGLE_THREADED:
        if threads is not None and check_int(1, MAX_THREADS, "threads", threads) != 1:
            raise ValueError(
                f"threads: {threads!r} was given, but engine={engine!r} uses {_SINGLE_THREADED[engine]}; use 1."
            )
        threads = 1
    if engine == "cuda":
        cuda.open_gpu()
    seed = check_int(0, MAX_SEED, "seed", seed)
    num_showers = check_int(0, MAX_INDEX, "num_showers", num_showers)
    first = check_int(0, MAX_INDEX - num_showers, "first", first, "(2**56 - 1 - num_showers)")
    if threads is None:
        threads = available_processors()
    threads = check_int(1, MAX_THREADS, "threads", threads)
    particles, hits = _mean_sizes(config)
    bytes_per_attempt = 100 + 8 * config.num_layers + 60 * config.primary_count.mean + 27 * hits
    if record == "particles":
        bytes_per_attempt += 31 * particles.sum()
    # Divide the required attempts among the threads, but avoid chunks that are too small for their overhead.
    part = max(64, math.ceil(num_showers / (threads * _acceptance(config, keep))))
    if chunk_size is None:
        chunk_size = min(int(_chunk_bytes(engine, threads) / bytes_per_attempt), part)
    else:
        chunk_size = check_int(1, MAX_INDEX, "chunk_size", chunk_size)
        if keep == "complete":
            chunk_size = min(chunk_size, part)
        if engine == "reference":
            bytes_per_attempt += 72 * particles.sum()  # this engine stores all particles, even if they are not recorded
        room = available_bytes() * _CHUNKS_SHARE / (chunks_in_use(threads) * _GROWTH)
        chunk_size = min(chunk_size, int(room / bytes_per_attempt))
    chunk_size = max(1, chunk_size)
    return Plan(
        num_showers=num_showers,
        config=config,
        seed=seed,
        first=first,
        keep=keep,
        record=record,
        engine=engine,
        threads=threads,
        chunk_size=chunk_size,
        chunk_hits=int(_SPARE_ROWS * chunk_size * hits) + 1,
        chunk_particles=int(_SPARE_ROWS * chunk_size * float(particles.sum())) + 1,
        block_size=max(1, min(int(_BLOCK_PARTICLES / max(particles.max(), 1.0)), 1024)),
        max_particles=int(available_bytes() / (threads * _BYTES_PER_PARTICLE)),
    )


def _chunk_bytes(engine: Engine, threads: int) -> int:
    if engine == "cuda":
        return _GPU_CHUNK_BYTES
    return _CHUNK_BYTES_OF_MANY_THREADS if threads >= _MANY_THREADS else _CHUNK_BYTES


def _mean_sizes(config: ShowerConfig) -> tuple[FloatArray, float]:
    """Return the mean number of particles in each slice and the mean number of hits, or upper bounds."""
    particles, hits = mean_particles(config)
    if config.critical_energy > 0:
        # Particles below the critical energy stop, so the energy limits how many particles of a slice continue.
        most = 2 * config.spectrum.mean / config.critical_energy + config.primary_count.mean
        particles = np.minimum(particles, most)
        hits = min(hits, float(particles.sum()))
    return particles, hits


def _acceptance(config: ShowerConfig, keep: Keep) -> float:
    """Return the fraction of the showers that are kept, or 1 if it has no closed form."""
    if keep == "all" or config.critical_energy > 0:
        return 1.0
    probability = expectation(config).probability_complete
    if probability < 1e-9:
        raise ValueError(never_complete("No shower of this config has"))
    return 1.0 if math.isnan(probability) else probability


def chunks_in_use(threads: int) -> int:
    """Return the number of chunks of a stream in memory, if its caller drops each chunk.

    Args:
        threads: Number of threads.

    Returns:
        Two for each thread, one that the stream hands over, and one that the caller uses.
    """
    return 2 * threads + 2


def random_stream(engine: Engine) -> str:
    """Return the engine whose random stream an engine uses, which a `Run` stores.

    Args:
        engine: ``"cpu"``, ``"cuda"`` or ``"reference"``.

    Returns:
        ``"cpu"`` for ``"cuda"``, which simulates the same showers.
    """
    return "cpu" if engine == "cuda" else engine


def available_processors() -> int:
    """Return the number of processors that this process may use.

    Returns:
        Number of processors, at least 1.
    """
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def never_complete(subject: str) -> str:
    """Return the error message for configs whose showers are hardly ever complete.

    Args:
        subject: Beginning of the first sentence, which ends with "has".

    Returns:
        Error message.
    """
    return (
        f"{subject} a hit in every readout layer, so keep='complete' would hardly ever finish; use keep='all', "
        "or a config whose showers reach all layers more often."
    )
