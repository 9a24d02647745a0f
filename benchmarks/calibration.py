"""Check the errors of the distances over many pairs of samples with equal and with different distributions.

    python benchmarks/calibration.py [--showers 500 1500 5000] [--pairs 100] [--no-classifier] [--json out.json]

For each distance, the script prints the mean, the standard deviation over the pairs, the mean error, and the mean and
standard deviation of (value - expected value) / error. The last two should be 0 and 1. The expected value is 0 (0.5 for
the AUC) for equal distributions if the distance has no bias. Otherwise it is the mean over the pairs. For distances of
single observables, the script prints the median over the observables. In the different samples, a third of the showers
comes from the preset symmetric.
"""

import argparse
import json
import platform
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import numba
import numpy as np
import scipy
import sklearn
from measuring import give, machine

import supa
from supa import distances, observables

_UNBIASED = {"frechet_distance": 0.0, "kernel_distance": 0.0, "classifier_auc": 0.5}


def columns(preset: str, showers: int, seed: int) -> np.ndarray:
    """Return the table of observables as a matrix. Columns of NaN are kept."""
    table = observables.table(supa.simulate(showers, preset, seed=seed))
    table["response"] = table["response"].round(6)
    return np.column_stack(list(table.values()))


def estimates(
    true: np.ndarray, generated: np.ndarray, seed: int, *, classifier: bool
) -> Iterator[tuple[str, float, float]]:
    """Yield name, value and error of each distance."""
    for function in (distances.frechet_distance, distances.kernel_distance):
        yield function.__name__, *function(true, generated, seed=seed)
    scores = distances.neighbour_scores(true, generated, seed=seed)
    for name in ("precision", "recall", "density", "coverage"):
        yield name, *getattr(scores, name)
    if classifier:
        result = distances.classifier_auc(true, generated, seed=seed)
        yield "classifier_auc", result.auc, result.error
    test = distances.permutation_test(true, generated, repeats=19, seed=seed)
    for k, (value, error) in enumerate(zip(test.distances, test.errors, strict=True)):
        yield f"W1 {k}", value, error
    for k, (one, other) in enumerate(zip(true.T, generated.T, strict=True)):
        yield f"separation {k}", *distances.separation_estimate(one, other, distances.edges_of(one), seed=seed)


def summed_up(values: np.ndarray, errors: np.ndarray, truth: float | None) -> dict[str, float]:
    """Summarise the values and compare their scatter with their errors."""
    centre = values.mean() if truth is None else truth
    with np.errstate(divide="ignore", invalid="ignore"):
        pulls = (values - centre) / errors
    return {
        "mean": float(values.mean()),
        "standard deviation": float(values.std(ddof=1)),
        "mean error": float(errors.mean()),
        "mean of value over error": float(pulls.mean()),
        "standard deviation of value over error": float(pulls.std(ddof=1)),
    }


def measure(showers: int, pairs: int, *, equal: bool, classifier: bool) -> dict[str, dict[str, float]]:
    """Compute the distances of many pairs and summarise them."""
    found = defaultdict(list)
    start = time.perf_counter()
    for pair in range(pairs):
        seed = 10 * (pair + pairs * showers)
        true, generated = columns("standard", showers, seed), columns("standard", showers, seed + 1)
        if not equal:
            generated[: showers // 3] = columns("symmetric", showers // 3, seed + 2)
        for name, *estimate in estimates(true, generated, pair, classifier=classifier):
            found[name].append(estimate)
        kind = "equal" if equal else "different"
        print(f"{kind}, {showers:,}: pair {pair + 1} of {pairs}, {time.perf_counter() - start:.0f} s", file=sys.stderr)
    results: dict[str, dict[str, float]] = {}
    several: dict[str, list[dict[str, float]]] = defaultdict(list)
    for name, given in found.items():
        values, errors = np.array(given).T
        group = name.split()[0]
        if group not in ("W1", "separation"):
            results[name] = summed_up(values, errors, _UNBIASED.get(name) if equal else None)
        elif np.isfinite(values).all() and (errors > 0).all():
            several[group].append(summed_up(values, errors, None))
    for group, facts in several.items():
        results[group] = {key: float(np.median([one[key] for one in facts])) for key in facts[0]}
    print(json.dumps(results), file=sys.stderr)
    return results


def main() -> None:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--showers", type=int, nargs="+", default=[500, 1500, 5000])
    parser.add_argument("--pairs", type=int, default=100)
    parser.add_argument("--no-classifier", action="store_true", help="skip the classifier, the slowest part")
    parser.add_argument("--json", type=Path, help="also write the results to this file")
    arguments = parser.parse_args()
    start = time.perf_counter()
    results = {
        f"{'equal' if equal else 'different'}, {showers:,} showers": measure(
            showers, arguments.pairs, equal=equal, classifier=not arguments.no_classifier
        )
        for equal in (True, False)
        for showers in arguments.showers
    }
    facts = {
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
        "pairs": arguments.pairs,
        "seconds": time.perf_counter() - start,
        "results": results,
    }
    give(facts, arguments.json)


if __name__ == "__main__":
    main()
