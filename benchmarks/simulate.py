"""Measure the simulator: in memory, to a file, from a cold start, and the memory of `supa generate`.

    python benchmarks/simulate.py [--showers 200000] [--repeat 9] [--json out.json]

The script prints the best and the median of the repetitions, because other work on the machine can only slow them
down. Repetitions of compared measurements alternate, so that a busy machine slows all of them down alike. The rate "to
a file" is compared with the smaller of the rate in memory and the rate at which the disk stores the same bytes.
"""

import argparse
import os
import platform
import statistics
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

PRESETS = ["standard", "reference", "dense", "no-pass", "critical", "two-primaries"]


def seconds(work: Callable[[], Any]) -> float:
    """Return the seconds of one call."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def write_file(path: Path, showers: int) -> None:
    """Write showers to an uncompressed file on one thread, like `supa generate --threads 1 --quiet`."""
    run = supa.simulate(0).run
    with supa_datasets.ShowerWriter(path, run, overwrite=True) as writer:
        for chunk in supa.stream(showers, threads=1):
            writer.append(chunk)


def write_raw(path: Path, content: bytes, size: int) -> None:
    """Write the same number of bytes as simply as possible, and flush them to the disk."""
    with path.open("wb") as file:
        for start in range(0, size, len(content)):
            file.write(content[: size - start])
        file.flush()
        os.fsync(file.fileno())


def generate(folder: Path, showers: int, *options: str) -> None:
    """Run `supa generate` in a separate process."""
    command = [sys.executable, "-m", "supa_cli.main", "generate", str(folder / "cli.h5"), "-n", str(showers)]
    subprocess.run([*command, "--overwrite", "--quiet", *options], check=True)


def peak_memory(folder: Path, showers: int) -> float:
    """Return the peak memory of `supa generate` in MB."""
    code = (
        "import resource, subprocess, sys; subprocess.run(sys.argv[1:], check=True); "
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    )
    command = [sys.executable, "-m", "supa_cli.main", "generate", str(folder / "memory.h5"), "-n", str(showers)]
    output = subprocess.run(
        [sys.executable, "-c", code, *command, "--overwrite", "--quiet"], check=True, capture_output=True, text=True
    )
    return int(output.stdout) * (1 if sys.platform == "darwin" else 1024) / 1e6


def measure(showers: int, repeat: int, folder: Path) -> dict[str, Any]:
    """Return all measurements."""
    results: dict[str, list[float]] = {"memory": [], "two threads": [], "file": [], "raw": []}
    path, content = folder / "b.h5", np.random.default_rng(0).bytes(1 << 24)
    supa.simulate(1000)  # compile the kernels, or load them from the cache
    for _ in range(repeat):
        results["memory"].append(showers / seconds(lambda: supa.simulate(showers, threads=1)))
        results["two threads"].append(showers / seconds(lambda: supa.simulate(showers, threads=2)))
        results["file"].append(showers / seconds(lambda: write_file(path, showers)))
        results["raw"].append(showers / seconds(lambda: write_raw(folder / "raw", content, path.stat().st_size)))
    generate(folder, 10)
    starts = [seconds(lambda: generate(folder, 10)) for _ in range(repeat)]
    ratios = [f / min(m, r) for f, m, r in zip(results["file"], results["memory"], results["raw"], strict=True)]
    return {
        "machine": machine(),
        "versions": {
            "supa": supa.__version__,
            "python": platform.python_version(),
            "numpy": np.__version__,
            "numba": numba.__version__,
            "h5py": h5py.__version__,
        },
        "date": time.strftime("%Y-%m-%d"),
        "showers": showers,
        "repetitions": repeat,
        "attempts per second in memory, one thread": best_and_median(results["memory"]),
        "attempts per second in memory, two threads": best_and_median(results["two threads"]),
        "attempts per second to a file, one thread": best_and_median(results["file"]),
        "attempts per second that the disk stores": best_and_median(results["raw"]),
        "file over the smaller of memory and disk": best_and_median(ratios),
        "file size in MB": path.stat().st_size / 1e6,
        "seconds of a start of `supa generate -n 10`": {"best": min(starts), "median": statistics.median(starts)},
        "MB of memory of `supa generate`": {f"{n:,} showers": peak_memory(folder, n) for n in (200_000, 2_000_000)},
        "best attempts per second of each preset, one thread": {
            name: 20_000 / min(seconds(lambda n=name: supa.simulate(20_000, n, threads=1)) for _ in range(3))
            for name in PRESETS
        },
    }


def main() -> None:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--showers", type=int, default=200_000)
    parser.add_argument("--repeat", type=int, default=9)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()), help="folder for the files")
    parser.add_argument("--json", type=Path, help="also write the results to this file")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        results = measure(arguments.showers, arguments.repeat, Path(folder))
    give(results, arguments.json)


if __name__ == "__main__":
    main()
