"""Measure the simulator: in memory, as a stream, to a file, from a cold start, and the memory of `supa generate`.

    python benchmarks/simulate.py [--quick] [--threads 1,2,16] [--presets standard,dense] [--json out.json]

Every repetition runs all compared measurements one after the other, so that other work on the machine slows them all
down alike. The script prints the best and the median of the repetitions. Each rate has a floor, in attempts per second:

- in memory and as a stream: the time of the two vectorised loops of the engine alone, one for every particle and one
  for every split, on as many threads. Only the engine "cpu" has this floor.
- to a file: the smaller of the rate of the stream and of the rate at which the disk stores the same bytes. The rate to
  a file is that of `supa generate`, from the end of its start to the file on the disk under its final name.
"""

import argparse
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numba
import numpy as np
from measuring import best_and_median, give, machine

import supa
import supa_datasets
from supa.compiler import kernel
from supa.engines import cuda
from supa.engines.tiles import TILE, Particles, Scratch, draw_words, split_directions
from supa.expectations import mean_particles
from supa.physics import build_walk, fate_probabilities
from supa.random import HALF, MASK
from supa.simulation_plan import available_processors

GENERATE = [sys.executable, "-m", "supa_cli.main", "generate"]
TILES = 20_000
MOST_BYTES = 3e9  # size of a file
RAW_BLOCK = 1 << 24  # bytes of one call of a raw write
RAW_CONTENT = 1 << 28  # bytes that a raw write repeats: more than the caches of a processor hold


def seconds(work: Callable[[], Any]) -> float:
    """Return the seconds of one call."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


# ---------------------------------------------------------------------- floors


@kernel
def draw_tiles(particles: Particles, scratch: Scratch, stop: np.uint64, split: np.uint64) -> None:
    """Run the loop over particles alone."""
    m, zero = np.uint64(TILE), np.uint64(0)
    for k in range(TILES):
        draw_words(
            particles.path, particles.tag, particles.energy, m, scratch.words, np.uint64(k), zero & MASK, zero >> HALF,
            stop, split, 0.0,
        )  # fmt: skip


@kernel
def split_tiles(scratch: Scratch, start: float, span: float, deviation: float, parent_frame: bool) -> None:
    """Run the loop over splits alone."""
    for _ in range(TILES):
        split_directions(scratch.words, scratch.reals, np.uint64(TILE), start, span, deviation, parent_frame)


def floor_rate(preset: str) -> float:
    """Return the attempts per second of one thread that only runs the two vectorised loops."""
    config, particles, scratch = supa.preset(preset), Particles.empty(TILE), Scratch.empty()
    walk = build_walk(config)
    particles.path[:], particles.tag[:], particles.energy[:] = np.arange(len(particles.path)), 0, 1.0
    scratch.reals[:] = 0.01
    times = []
    for _ in range(4):  # the first call compiles
        draw = seconds(lambda: draw_tiles(particles, scratch, walk.stop_word[-1], walk.split_word[-1]))
        split = seconds(
            lambda: split_tiles(scratch, walk.theta_start, walk.theta_span, walk.deviation, walk.parent_frame)
        )
        times.append((draw / TILES / TILE, split / TILES / TILE))
    of_particle, of_split = (min(t) for t in zip(*times, strict=True))
    entering, _ = mean_particles(config)
    splits = float((entering[:-1] * fate_probabilities(config)[1]).sum())
    return 1 / (float(entering[:-1].sum()) * of_particle + splits * of_split)


def write_raw(path: Path, content: memoryview, size: int) -> None:
    """Write a number of bytes as simply as possible, and flush them to the disk."""
    with path.open("wb", buffering=0) as file:
        for start in range(0, size, RAW_BLOCK):
            place = start % len(content)
            file.write(content[place : place + min(RAW_BLOCK, size - start)])
        os.fsync(file.fileno())


# ---------------------------------------------------------------------- rates


def generate_rate(path: Path, showers: int, *options: str) -> float:
    """Return the rate that `supa generate` prints."""
    command = [*GENERATE, str(path), "-n", str(showers), *options]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    found = re.search(r"^rate +([\d,]+) showers/s", output, re.MULTILINE)
    assert found, output
    return float(found[1].replace(",", ""))


def exhaust(showers: int, preset: str, **options: Any) -> None:
    """Simulate a stream of showers and discard them."""
    for _ in supa.stream(showers, preset, **options):
        pass


def measure(preset: str, engine: Any, threads: int, duration: float, repeat: int, folder: Path) -> dict[str, Any]:
    """Return the rates of one preset, engine and number of threads."""
    options: dict[str, Any] = {"engine": engine, "threads": threads}
    exhaust(1000, preset, **options)  # compile, or load from the cache
    hits = mean_particles(supa.preset(preset))[1]
    trial = min(20_000 if engine == "cpu" else 2_000_000, round(2e7 / hits))
    showers = round(duration * trial / seconds(lambda: exhaust(trial, preset, **options)))
    showers = max(1000, min(showers, round(MOST_BYTES / (15 * hits + 80))))
    content = memoryview(np.random.default_rng(0).bytes(RAW_CONTENT))
    command = ("--preset", preset, "--engine", engine, "--threads", str(threads))
    rates: dict[str, list[float]] = {"in memory": [], "stream": [], "raw write": [], "to a file": []}
    for _ in range(repeat):
        path, raw = folder / "showers.h5", folder / "raw"
        rates["in memory"].append(showers / seconds(lambda: supa.simulate(showers, preset, **options)))
        rates["stream"].append(showers / seconds(lambda: exhaust(showers, preset, **options)))
        rates["to a file"].append(generate_rate(path, showers, *command))
        size = path.stat().st_size
        path.unlink()
        rates["raw write"].append(showers / seconds(lambda raw=raw, size=size: write_raw(raw, content, size)))  # type: ignore[misc]
        raw.unlink()
    floors = [min(stream, raw) for stream, raw in zip(rates["stream"], rates["raw write"], strict=True)]
    ratios = [rate / floor for rate, floor in zip(rates["to a file"], floors, strict=True)]
    results: dict[str, Any] = {"showers": showers, "MB written": size / 1e6}
    results |= {name: best_and_median(values) for name, values in rates.items()}
    results["to a file over its floor"] = best_and_median(ratios)
    if engine == "cpu":
        floor = threads * floor_rate(preset)
        results["floor of the loops"] = floor
        for name in ("in memory", "stream"):
            results[f"{name} over its floor"] = max(rates[name]) / floor
    return results


def compressed(showers: int, threads: int, repeat: int, folder: Path) -> dict[str, float]:
    """Return the best rates of `supa generate` with each compression that is available."""
    rates: dict[str, float] = {}
    for name in supa_datasets.COMPRESSIONS[1:]:
        path = folder / f"{name}.h5"
        for _ in range(repeat):
            try:
                rate = generate_rate(path, showers, "--compression", name, "--threads", str(threads))
            except subprocess.CalledProcessError:
                break  # its package is not installed
            rates[name] = max(rate, rates.get(name, 0.0))
            path.unlink()
    return rates


# ---------------------------------------------------------------------- starts and memory


def start_seconds(folder: Path, cache: Path) -> float:
    """Return the seconds from the command to the first showers on the disk."""
    path, environment = folder / "start.h5", {**os.environ, "NUMBA_CACHE_DIR": str(cache)}
    start = time.perf_counter()
    with subprocess.Popen([*GENERATE, str(path), "-n", "100", "--quiet"], env=environment) as process:
        while not path.exists() and process.poll() is None:
            time.sleep(0.001)
        passed = time.perf_counter() - start
    path.unlink()
    return passed


def peak_memory(folder: Path, showers: int) -> float:
    """Return the peak memory of `supa generate` in MB."""
    code = (
        "import resource, subprocess, sys; subprocess.run(sys.argv[1:], check=True); "
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    )
    path = folder / "memory.h5"
    command = [*GENERATE, str(path), "-n", str(showers), "--quiet"]
    output = subprocess.run([sys.executable, "-c", code, *command], check=True, capture_output=True, text=True)
    path.unlink()
    return int(output.stdout) * (1 if sys.platform == "darwin" else 1024) / 1e6


def engines() -> list[str]:
    """Return the engines that run on this machine."""
    try:
        cuda.open_gpu()
    except ValueError:
        return ["cpu"]
    return ["cpu", "cuda"]


def measure_all(presets: list[str], threads: list[int], duration: float, repeat: int, folder: Path) -> dict[str, Any]:
    """Return all measurements."""
    rates: dict[str, Any] = {}
    for engine in engines():
        for preset in presets:
            for count in threads if engine == "cpu" else [1]:
                name = f"{preset}, engine {engine}" + (f", threads {count}" if engine == "cpu" else "")
                rates[name] = measure(preset, engine, count, duration, repeat, folder)
                print(name, rates[name], file=sys.stderr)
    with tempfile.TemporaryDirectory() as cache:
        empty, *full = [start_seconds(folder, Path(cache)) for _ in range(1 + max(3, repeat))]
    return {
        "attempts per second": rates,
        "showers per second of a compressed file, standard": {
            f"threads {count}": compressed(round(duration * 50_000 * count), count, repeat, folder) for count in threads
        },
        "seconds to the first showers on the disk": {"empty cache": empty, "full cache": min(full)},
        "MB of memory of `supa generate`": {f"{n:,} showers": peak_memory(folder, n) for n in (200_000, 3_000_000)},
    }


def main() -> None:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    every = sorted({1, 2, available_processors()})
    parser.add_argument("--quick", action="store_true", help="measurements of a second, one repetition")
    parser.add_argument("--threads", default=",".join(map(str, every)), help="numbers of threads")
    parser.add_argument("--presets", default="standard,reference,dense", help="names of presets")
    parser.add_argument("--duration", type=float, default=2.0, help="seconds of a measurement")
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()), help="folder for the files")
    parser.add_argument("--json", type=Path, help="also write the results to this file")
    given = parser.parse_args()
    duration, repeat = (1.0, 1) if given.quick else (given.duration, given.repeat)
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        measured = measure_all(
            given.presets.split(","), [int(n) for n in given.threads.split(",")], duration, repeat, Path(folder)
        )
    versions = {"supa": supa.__version__, "python": platform.python_version(), "numpy": np.__version__}
    versions |= {"numba": numba.__version__, "h5py": h5py.__version__}
    facts = {"machine": machine(), "versions": versions, "date": time.strftime("%Y-%m-%d"), "repetitions": repeat}
    give({**facts, **measured}, given.json)


if __name__ == "__main__":
    main()
