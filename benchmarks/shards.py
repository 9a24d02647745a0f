"""Measure the generation of a dataset in shards beside a plain ``supa generate``, and what a folder of shards costs.

    python benchmarks/shards.py [--showers 1000000] [--shards 20] [--workers 1,2] [--repeat 3] [--json out.json]

- Generation: `generate_shards` with local workers, and ``supa generate`` with as many threads. The rates do not include
  the start: that of a run in shards begins when as many shards as workers are finished.
- A folder: merging, the check of all checksums, opening, and random batches beside the merged file.
- Bytes of a shower for several presets and compressions.

The repetitions of the generation alternate, so that other work on the machine affects them alike.
"""

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from measuring import best_and_median, give, machine

import supa
from supa_datasets import COMPRESSIONS, ShardProgress, ShowerFile, generate_shards, merge_shards, save
from supa_datasets.shards.checking import full_check
from supa_datasets.shards.manifest import Manifest

PRESETS = ("standard", "dense", "two-primaries")
BATCH = 256


def in_shards(folder: Path, showers: int, shards: int, workers: int) -> dict[str, float]:
    """Return the rate of a run with local workers, and its time from the call to the end."""
    times: dict[int, float] = {}

    def note(state: ShardProgress) -> None:
        times.setdefault(state.done, time.perf_counter())

    start = time.perf_counter()
    generate_shards(folder, showers, shards=shards, workers=workers, progress=note)
    seconds = time.perf_counter() - start
    first = min(done for done in times if done >= workers)
    rate = (shards - first) * showers / shards / (times[shards] - times[first])
    return {"rate": rate, "seconds": seconds}


def plain(path: Path, showers: int, threads: int) -> dict[str, float]:
    """Return the rate of ``supa generate``, and the time of the whole command."""
    command = [sys.executable, "-m", "supa_cli.main", "generate", str(path), "-n", str(showers), "--threads"]
    start = time.perf_counter()
    run = subprocess.run([*command, str(threads)], capture_output=True, text=True, check=True)
    seconds = time.perf_counter() - start
    rate = re.search(r"rate +([\d,]+) showers/s", run.stdout)
    assert rate is not None
    return {"rate": float(rate[1].replace(",", "")), "seconds": seconds}


def generation(base: Path, showers: int, shards: int, workers: list[int], repeat: int) -> dict[str, Any]:
    """Return the rates and the times of all ways to generate; the last folder stays."""
    runs: dict[str, list[dict[str, float]]] = {}
    for _ in range(repeat):
        for number in workers:
            runs.setdefault(f"plain, threads={number}", []).append(plain(base / "plain.h5", showers, number))
            (base / "plain.h5").unlink()
            shutil.rmtree(base / "folder", ignore_errors=True)
            runs.setdefault(f"shards, workers={number}", []).append(in_shards(base / "folder", showers, shards, number))
    return {
        name: {"rate": best_and_median([one["rate"] for one in each]), "seconds": min(one["seconds"] for one in each)}
        for name, each in runs.items()
    }


def reading(base: Path, repeat: int) -> dict[str, float]:
    """Return the rates of merging, checking and reading of the folder."""
    folder, merged = base / "folder", base / "merged.h5"
    manifest = Manifest.of_folder(folder)
    showers, shards = manifest.num_showers, len(manifest.shards)
    start = time.perf_counter()
    merge_shards(folder, merged)
    results = {"merge, showers/s": showers / (time.perf_counter() - start)}
    start = time.perf_counter()
    for shard in manifest.shards:
        full_check(folder / shard.file, manifest, shard)
    results["checksums, showers/s"] = showers / (time.perf_counter() - start)
    start = time.perf_counter()
    merge_shards(folder, base / "virtual.h5", virtual=True)
    results["virtual merge, s"] = time.perf_counter() - start
    numbers = np.random.default_rng(1).integers(0, showers, (20 * repeat, BATCH))
    for name, path in (("folder", folder), ("merged file", merged)):
        start = time.perf_counter()
        with ShowerFile(path) as file:
            results[f"open {name}, ms"] = 1000 * (time.perf_counter() - start)
            start = time.perf_counter()
            counts = file.num_hits  # opens every shard
            results[f"first access to all parts of {name}, ms"] = 1000 * (time.perf_counter() - start)
            assert len(counts) == showers
            seconds = []
            for batch in numbers:
                start = time.perf_counter()
                file[batch]
                seconds.append(time.perf_counter() - start)
            results[f"random batches of {BATCH} from {name}, showers/s"] = BATCH / float(np.median(seconds))
    return {**results, "shards": shards}


def sizes(base: Path) -> dict[str, float]:
    """Return the bytes of a shower by preset and compression."""
    results = {}
    for preset in PRESETS:
        showers = supa.simulate(20_000, preset)
        for compression in COMPRESSIONS:
            save(showers, base / "size.h5", compression=compression, overwrite=True)
            results[f"{preset}, {compression}"] = (base / "size.h5").stat().st_size / len(showers)
    return results


def main() -> None:
    """Run all measurements."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--showers", type=int, default=1_000_000)
    parser.add_argument("--shards", type=int, default=20)
    parser.add_argument("--workers", default="1,2")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    workers = [int(number) for number in arguments.workers.split(",")]
    with tempfile.TemporaryDirectory() as name:
        base = Path(name)
        supa.simulate(1)  # compiles
        results = {
            "machine": machine(),
            "date": time.strftime("%Y-%m-%d"),
            "showers": arguments.showers,
            "generation": generation(base, arguments.showers, arguments.shards, workers, arguments.repeat),
            "folder": reading(base, arguments.repeat),
            "bytes of a shower": sizes(base),
        }
    give(results, arguments.json)


if __name__ == "__main__":
    main()
