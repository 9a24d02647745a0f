"""Measure the time of the distances between two samples of features.

    python benchmarks/distances.py [--rows 10000 100000] [--features 30] [--repeat 3] [--json out.json]

The features are normal and correlated. The generated sample differs slightly, so that the classifier trains as long as
on the showers of a model. The script prints the best and the median of the repetitions, because other work on the
machine can only slow them down. The repetitions of the distances alternate.
"""

import argparse
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
import numpy as np
import scipy
import sklearn
from measuring import give, machine

import supa
from supa import distances

REPEATS = 500


def seconds(work: Callable[[], Any]) -> float:
    """Return the seconds of one call."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def samples(rows: int, features: int) -> tuple[np.ndarray, np.ndarray]:
    """Return a true sample and a generated sample that differs slightly."""
    random = np.random.default_rng(1)
    mixing = np.eye(features) + 0.3 * random.normal(size=(features, features))
    true, generated = random.normal(size=(2, rows, features))
    generated[:, 0] += 0.2 * generated[:, 1] ** 2
    return true @ mixing, generated @ mixing


def works(rows: int, features: int) -> dict[str, Callable[[], Any]]:
    """Return the calls to measure, by name."""
    true, generated = samples(rows, features)
    first, second = true[:, 0], generated[:, 0]

    def histograms() -> None:
        for a, b in zip(true.T, generated.T, strict=True):
            distances.separation_estimate(a, b, distances.edges_of(a), seed=0)

    return {
        "wasserstein, one observable": lambda: distances.wasserstein(first, second, seed=0, repeats=REPEATS),
        "permutation_test": lambda: distances.permutation_test(true, generated, seed=0, repeats=REPEATS),
        "edges_of and separation_estimate, each observable": histograms,
        "kolmogorov_smirnov, one observable": lambda: distances.kolmogorov_smirnov(first, second),
        "frechet_distance": lambda: distances.frechet_distance(true, generated, seed=0),
        "kernel_distance": lambda: distances.kernel_distance(true, generated, seed=0),
        "neighbour_scores": lambda: distances.neighbour_scores(true, generated, seed=0),
        "classifier_auc": lambda: distances.classifier_auc(true, generated, seed=0),
    }


def measure(rows: list[int], features: int, repeat: int) -> dict[str, Any]:
    """Return all measurements."""
    for work in works(200, 3).values():
        work()  # compile the kernels, or load them from the cache; import SciPy and scikit-learn
    tasks = {count: works(count, features) for count in rows}
    times: dict[int, dict[str, list[float]]] = {count: {name: [] for name in tasks[count]} for count in rows}
    for _ in range(repeat):
        for count in rows:
            for name, work in tasks[count].items():
                times[count][name].append(seconds(work))
    return {
        "machine": machine(),
        "versions": {
            "supa": supa.__version__,
            "python": platform.python_version(),
            "numpy": np.__version__,
            "numba": numba.__version__,
            "scipy": scipy.__version__,
            "scikit-learn": sklearn.__version__,
        },
        "date": time.strftime("%Y-%m-%d"),
        "features": features,
        "permutations": REPEATS,
        "repetitions": repeat,
        "seconds": {
            f"{count:,} rows": {
                name: {"best": min(values), "median": statistics.median(values)}
                for name, values in times[count].items()
            }
            for count in rows
        },
    }


def main() -> None:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--features", type=int, default=30)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--json", type=Path, help="also write the results to this file")
    arguments = parser.parse_args()
    give(measure(arguments.rows, arguments.features, arguments.repeat), arguments.json)


if __name__ == "__main__":
    main()
