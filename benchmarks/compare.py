"""Measure the time and the memory of the comparison of two files.

    python benchmarks/compare.py [--showers 100000] [--json out.json]

Each command runs in a separate process, as for a user: `supa compare` without and with the multivariate scores, and
with the report.
"""

import argparse
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import scipy
from measuring import give, machine

import supa
import supa_datasets

_MEASURED = (
    "import resource, subprocess, sys; subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL); "
    "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
)


def run(*arguments: str) -> dict[str, float]:
    """Run the command and return its seconds and its peak memory."""
    command = [sys.executable, "-m", "supa_cli.main", "compare", *arguments, "--quiet"]
    start = time.perf_counter()
    output = subprocess.run([sys.executable, "-c", _MEASURED, *command], check=True, capture_output=True, text=True)
    seconds = time.perf_counter() - start
    return {"seconds": seconds, "MB": int(output.stdout) * (1 if sys.platform == "darwin" else 1024) / 1e6}


def measure(showers: int, folder: Path) -> dict[str, Any]:
    """Return all measurements."""
    paths = [folder / "true.h5", folder / "generated.h5"]
    for seed, path in enumerate(paths):
        with supa_datasets.ShowerWriter(path, supa.simulate(0, seed=seed).run) as writer:
            for chunk in supa.stream(showers, seed=seed):
                writer.append(chunk)
    files = [str(path) for path in paths]
    run(*files, "--fast")  # compile the kernels, or load them from the cache
    return {
        "machine": machine(),
        "versions": {
            "supa": supa.__version__,
            "python": platform.python_version(),
            "numpy": np.__version__,
            "scipy": scipy.__version__,
        },
        "date": time.strftime("%Y-%m-%d"),
        "showers of each file": showers,
        "--fast": run(*files, "--fast"),
        "all": run(*files),
        "--fast, with the report": run(*files, "--fast", "-o", str(folder / "report")),
    }


def main() -> None:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--showers", type=int, default=100_000)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()), help="folder for the files")
    parser.add_argument("--json", type=Path, help="also write the results to this file")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        results = measure(arguments.showers, Path(folder))
    give(results, arguments.json)


if __name__ == "__main__":
    main()
