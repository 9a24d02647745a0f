"""Measure the time and the memory of the conversions in both directions.

    python benchmarks/convert.py [--showers 100000] [--repeat 3] [--json out.json]

Each conversion runs in a separate process, like `supa convert`. The time excludes the start of Python and ends when
the file is flushed to the disk. The script prints the best and the median of each rate.
"""

import argparse
import importlib.metadata
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from measuring import give, machine

BINNING = Path(__file__).parent.parent / "tests" / "data" / "binning_supa.xml"
FILES = {
    "npz": "b.npz",
    "parquet": "b.parquet",
    "root": "tree.root",
    "rntuple": "ntuple.root",
    "showerdata": "showerdata.h5",
    "calogan": "calogan.h5",
    "calochallenge": "calochallenge.h5",
}

# Runs in a separate process. The last line of its output contains the seconds and the peak memory.
CODE = f"""
import resource, sys, time
import supa_datasets

source, target, name = sys.argv[1:]
binning = supa_datasets.read_binning({str(BINNING)!r}, "photon")
started = time.perf_counter()
supa_datasets.convert(source, target, to_format=name, binning=binning, overwrite=True)
print(time.perf_counter() - started, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def converted(source: Path, target: Path, name: str) -> tuple[float, float]:
    """Convert once, and return the seconds and the peak memory in MB."""
    command = [sys.executable, "-c", CODE, str(source), str(target), name]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    seconds, memory = output.split()[-2:]
    return float(seconds), int(memory) * (1 if sys.platform == "darwin" else 1024) / 1e6


def measure(showers: int, repeat: int, folder: Path) -> dict[str, Any]:
    """Return all measurements. The repetitions of the formats alternate."""
    native = folder / "a.h5"
    # Simulate in another process, because Linux would count the memory of this process in the peak memory of its
    # children.
    generate = [sys.executable, "-m", "supa_cli.main", "generate", str(native), "-n", str(showers), "--quiet"]
    subprocess.run(generate, check=True)
    written: dict[str, list[tuple[float, float]]] = {name: [] for name in FILES}
    read: dict[str, list[tuple[float, float]]] = {name: [] for name in FILES}
    for _ in range(repeat):
        for name, file in FILES.items():
            written[name].append(converted(native, folder / file, name))
            read[name].append(converted(folder / file, folder / "back.h5", "supa"))
    versions = ("supa-showers", "numpy", "h5py", "pyarrow", "awkward", "uproot")
    return {
        "machine": machine(),
        "versions": {"python": platform.python_version()}
        | {package: importlib.metadata.version(package) for package in versions},
        "date": time.strftime("%Y-%m-%d"),
        "showers": showers,
        "repetitions": repeat,
        "native file in MB": native.stat().st_size / 1e6,
        "formats": {
            name: {
                "written": _rates(showers, written[name]),
                "read": _rates(showers, read[name]),
                "file in MB": (folder / file).stat().st_size / 1e6,
            }
            for name, file in FILES.items()
        },
    }


def _rates(showers: int, runs: list[tuple[float, float]]) -> dict[str, float]:
    rates = [showers / seconds for seconds, _ in runs]
    return {
        "best showers/s": max(rates),
        "median showers/s": statistics.median(rates),
        "peak memory in MB": max(memory for _, memory in runs),
    }


def main() -> None:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--showers", type=int, default=100_000)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()), help="folder for the files")
    parser.add_argument("--json", type=Path, help="also write the results to this file")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        results = measure(arguments.showers, arguments.repeat, Path(folder))
    give(results, arguments.json)


if __name__ == "__main__":
    main()
