"""Measure the time and the memory of the observables, for each group and for the complete table.

    python benchmarks/observables.py [--showers 100000] [--repeat 5] [--json out.json]

Everything runs on one thread. The script prints the best and the median of the repetitions. The repetitions of the
groups alternate, so that a busy machine slows all of them down alike. Memory is the peak of a fresh process beyond the
memory of the showers. A NumPy loop over the showers serves as a baseline.
"""

import argparse
import pickle
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import numba
import numpy as np
from measuring import best_and_median, give, machine

import supa
from supa import observables
from supa.observables import cells, lateral, longitudinal, tree

RADII = np.append(np.linspace(0, 15, 31), np.inf)
FRACTIONS = np.geomspace(1e-6, 1, 31)
DISTANCES = np.linspace(0, 30, 31)
TREES = "generation, path length and branching of trees"
TABLE = "complete table"
WITHOUT_PAIRS = "complete table without pair distances"


def table_without_pairs(showers: supa.Showers) -> dict[str, Any]:
    """Compute the table without the pair distances, whose cost grows with the square of the number of hits."""
    with mock.patch("supa.observables.tables.mean_pair_distance", lambda showers, lateral=False: showers.leaked_energy):
        return observables.table(showers)


GROUPS: dict[str, Callable[[supa.Showers], Any]] = {
    "response, hits and fractions by layer": lambda s: [
        observables.response(s),
        observables.layer_hits(s),
        observables.layer_fraction(s),
    ],
    "hits and fractions by slice": lambda s: [observables.slice_hits(s), observables.slice_fraction(s)],
    "depth: mean, width, start, maximum": longitudinal.depth_of,
    "centre, width, radius, anisotropy by layer": lateral.lateral_of,
    "radial profile, 31 bins": lambda s: observables.radial_profile(s, RADII),
    "mean log hit energy, largest hit": lambda s: [
        observables.mean_log_hit_energy(s),
        observables.largest_hit_fraction(s),
    ],
    "hit spectrum, 30 bins": lambda s: observables.hit_spectrum(s, FRACTIONS),
    "occupancy and cell ratio, 504 cells": lambda s: cells.filling_of(s, supa.CALOGAN),
    "mean pair distances, in space and in x, y": lambda s: [
        observables.mean_pair_distance(s),
        observables.mean_pair_distance(s, lateral=True),
    ],
    "distribution of pair distances, 30 bins": lambda s: observables.pair_distances(s, DISTANCES),
    TREES: lambda s: [tree.paths_of(s), observables.branching_fraction(s)],
    TABLE: observables.table,
    WITHOUT_PAIRS: table_without_pairs,
}


def seconds(work: Callable[[], Any]) -> float:
    """Return the seconds of one call."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def loop_over_showers(showers: supa.Showers) -> list[tuple[Any, ...]]:
    """Compute the energy, centre x and width x of each layer with a NumPy loop over the showers."""
    result = []
    for k in range(len(showers)):
        rows = slice(showers.offset[k], showers.offset[k + 1])
        layer, energy, x = showers.layer[rows], showers.energy[rows], showers.x[rows]
        total = np.bincount(layer, energy, 3)
        centre = np.bincount(layer, energy * x, 3) / np.maximum(total, 1e-300)
        width = np.sqrt(np.bincount(layer, energy * (x - centre[layer]) ** 2, 3) / np.maximum(total, 1e-300))
        result.append((total, centre, width))
    return result


def sample(name: str, showers: int) -> supa.Showers:
    """Simulate the showers of a group, with recorded particles for the group of trees."""
    return supa.simulate(showers, record="particles" if name == TREES else "hits", threads=1)


def peak_memory(name: str, showers: int, folder: Path) -> float:
    """Return the peak memory of a group in MB, beyond the memory of the showers."""
    path = folder / "showers"
    with path.open("wb") as file:
        pickle.dump(sample(name, showers), file, protocol=5)
    command = [sys.executable, __file__, "--memory-of", name, "--pickle", str(path)]
    # Linux counts the memory of the parent in the peak memory of a new process, so a small process starts it.
    between = [sys.executable, "-c", "import subprocess, sys; subprocess.run(sys.argv[1:], check=True)"]
    return float(subprocess.run([*between, *command], check=True, capture_output=True, text=True).stdout)


def memory_here(name: str, path: Path) -> float:
    """Return the peak memory of a group in this process in MB."""
    GROUPS[name](sample(name, 10))  # compile the kernels, or load them from the cache
    with path.open("rb") as file:
        showers = pickle.load(file)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    kept = GROUPS[name](showers)
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    del kept
    return (after - before) * (1 if sys.platform == "darwin" else 1024) / 1e6


def measure(showers: int, repeat: int, folder: Path) -> dict[str, Any]:
    """Return all measurements."""
    hits, trees = sample(TABLE, showers), sample(TREES, showers)
    rates: dict[str, list[float]] = {name: [] for name in GROUPS}
    ratios = []
    for name, work in GROUPS.items():
        work(sample(name, 10))  # compile the kernels, or load them from the cache
    for _ in range(repeat):
        times = {name: seconds(lambda n=name: GROUPS[n](trees if n == TREES else hits)) for name in GROUPS}
        for name, taken in times.items():
            rates[name].append(showers / taken)
        loop = seconds(lambda: loop_over_showers(hits[:2000])) / 2000
        ratios.append(loop * showers / times["centre, width, radius, anisotropy by layer"])
    return {
        "machine": machine(),
        "versions": {
            "supa": supa.__version__,
            "python": platform.python_version(),
            "numpy": np.__version__,
            "numba": numba.__version__,
        },
        "date": time.strftime("%Y-%m-%d"),
        "showers": showers,
        "repetitions": repeat,
        "MB of the showers": hits.nbytes / 1e6,
        "MB of the showers with their trees": trees.nbytes / 1e6,
        "showers per second": {name: best_and_median(values) for name, values in rates.items()},
        "MB beyond the showers": {name: peak_memory(name, showers, folder) for name in GROUPS},
        "loop in NumPy (energy, centre x, width x) over the kernel (all of lateral)": best_and_median(ratios),
    }


def main() -> None:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--showers", type=int, default=100_000)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--json", type=Path, help="also write the results to this file")
    parser.add_argument("--memory-of", choices=GROUPS, help=argparse.SUPPRESS)
    parser.add_argument("--pickle", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.memory_of:
        print(memory_here(arguments.memory_of, arguments.pickle))
        return
    with tempfile.TemporaryDirectory() as folder:
        results = measure(arguments.showers, arguments.repeat, Path(folder))
    give(results, arguments.json)


if __name__ == "__main__":
    main()
