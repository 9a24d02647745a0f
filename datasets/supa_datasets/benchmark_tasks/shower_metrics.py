"""Metrics of a generated sample, each with its noise floor."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from supa import Showers, compare
from supa.arrays import FloatArray
from supa.checks import LARGEST
from supa.comparison.resolution import resolutions
from supa.comparison.sample_statistics import SampleStatistics
from supa.distances import (
    classifier_auc,
    frechet_distance,
    neighbour_scores,
    wasserstein_distances,
)
from supa.simulation_plan import available_processors
from supa_datasets.benchmark_tasks.cells import binned
from supa_datasets.benchmark_tasks.score import ScoreMetric
from supa_datasets.benchmark_tasks.task import BenchmarkTask

FLOOR_SAMPLES = 20
"""Number of true samples that define a noise floor."""

PERMUTATIONS = 999
"""Number of permutations of the joint test. The smallest possible p-value is 0.001."""

_ENERGY = "response"
"""The energy of the hits over the incident energy.

It is 1 up to rounding in all true point clouds. A classifier would look at nothing else, so it is a metric of its own.
"""
_SMALLEST = 1e-6
"""Smallest relevant difference: a few roundings of the single precision of files."""
_FARTHEST = 10.0  # standard deviations; one observable that is always undefined must not decide the mean


@dataclass(frozen=True)
class ShowerScore:
    """Result of a generated sample.

    Args:
        p_value: Joint p-value of all observables of showers.
        largest_differences: Names of the observables of showers with the smallest p-values.
        metrics: The metrics.
    """

    p_value: float
    largest_differences: tuple[str, ...]
    metrics: tuple[ScoreMetric, ...]


def score_sample(task: BenchmarkTask, sample: Showers, progress: Callable[[str], None]) -> ShowerScore:
    """Compare a sample with as many test showers of a task.

    Args:
        task: A task of generation.
        sample: The generated showers, which ``check_sample`` has accepted.
        progress: Function to call with the name of each step.

    Returns:
        The p-value and the metrics.
    """
    size = len(sample)
    progress("comparing with the test showers")
    truth = binned(task, task.simulate("test", size))
    comparison = compare(truth, binned(task, sample), repeats=PERMUTATIONS, multivariate=False)
    names = tuple(o.name for o in comparison.observables if o.level == "shower")
    true, generated = comparison.statistics["true"], comparison.statistics["generated"]
    metrics: list[ScoreMetric] = []
    progress(f"noise floor: {FLOOR_SAMPLES} true samples")
    floors = _floors(task, true, size)
    for name, rows in task.metrics:
        progress(name)
        if name == "classifier AUC":
            metrics.extend(_classifier(true, generated, rows))
            continue
        value = _METRICS[name](true, generated, rows)
        metrics.append(_with_floor(name, value, np.array([floor[name] for floor in floors])))
    return ShowerScore(comparison.joint_p_value, names[:3], tuple(metrics))


def _floors(task: BenchmarkTask, true: SampleStatistics, size: int) -> list[dict[str, float]]:
    """Compute the metrics of independent true samples of the same size."""

    def compute(number: int) -> dict[str, float]:
        assert task.floor is not None
        showers = task.simulate_range(task.floor, size, skip=number * size)
        other = SampleStatistics.of(binned(task, showers), _NO_HISTOGRAMS)
        return {name: _METRICS[name](true, other, rows) for name, rows in task.metrics if name in _METRICS}

    with ThreadPoolExecutor(available_processors()) as pool:
        return list(pool.map(compute, range(FLOOR_SAMPLES)))


_NO_HISTOGRAMS: dict[str, FloatArray] = {}  # of hits, which the metrics do not use


def _with_floor(name: str, value: float, floors: FloatArray) -> ScoreMetric:
    """Divide the distance to the mean of the floors by its error.

    The value and the floors are independent, so the variance of the difference is (1 + 1 / floors) times that of one.
    """
    floor, spread = float(floors.mean()), float(floors.std(ddof=1))
    if not abs(value) <= LARGEST:
        return ScoreMetric(name, None, floor, spread, None)
    pull = 0.0
    if abs(value - floor) > _SMALLEST:
        pull = (value - floor) / max(spread * np.sqrt(1 + 1 / len(floors)), _SMALLEST)
    return ScoreMetric(name, float(value), floor, spread, float(pull))


def _classifier(true: SampleStatistics, generated: SampleStatistics, rows: int) -> Iterator[ScoreMetric]:
    """Yield the area of a classifier, or nothing without scikit-learn. Its noise floor is known."""
    try:
        found = classifier_auc(*_features(true, generated, rows))
    except ValueError as error:
        if "scikit-learn" not in str(error):
            raise
        return
    pull = (found.auc - 0.5) / found.equal_error
    yield ScoreMetric("classifier AUC", found.auc, 0.5, found.equal_error, pull)


def _energy(true: SampleStatistics, generated: SampleStatistics, rows: int) -> float:
    """Return the Wasserstein-1 distance of the response, as a fraction of the incident energy."""
    one, other = (_some(sample.columns[_ENERGY], rows) for sample in (true, generated))
    unit = max(float(one.std()), _SMALLEST)
    distance = unit * float(wasserstein_distances(one[:, None], other[:, None], resolution=_SMALLEST)[0])
    return distance if distance > _SMALLEST else 0.0


def _wasserstein(true: SampleStatistics, generated: SampleStatistics, rows: int) -> float:
    """Return the mean Wasserstein-1 distance of the observables in true standard deviations, each at most 10."""
    return float(np.minimum(wasserstein_distances(*_features(true, generated, rows), resolution=1.0), _FARTHEST).mean())


def _frechet(true: SampleStatistics, generated: SampleStatistics, rows: int) -> float:
    return frechet_distance(*_features(true, generated, rows)).value


def _coverage(true: SampleStatistics, generated: SampleStatistics, rows: int) -> float:
    return neighbour_scores(*_features(true, generated, rows)).coverage.value


_METRICS: dict[str, Callable[[SampleStatistics, SampleStatistics, int], float]] = {
    "energy": _energy,
    "Wasserstein distance": _wasserstein,
    "Frechet distance": _frechet,
    "coverage": _coverage,
}
"""Functions of the metrics by name. Each takes both samples and the largest number of showers of each."""


def _features(true: SampleStatistics, generated: SampleStatistics, rows: int) -> tuple[FloatArray, FloatArray]:
    """Return the observables except the response, in units of their resolution."""
    common = [name for name in true.columns if name in generated.columns]
    resolution = resolutions(true, common)
    del resolution[_ENERGY]
    with np.errstate(over="ignore"):
        one, other = (
            np.clip(
                np.column_stack([sample.columns[name] / unit for name, unit in resolution.items()]), -LARGEST, LARGEST
            )
            for sample in (true, generated)
        )
    return _some(one, rows), _some(other, rows)


def _some(values: FloatArray, rows: int) -> FloatArray:
    """Choose showers at random, because a sample may be sorted."""
    return values if len(values) <= rows else values[np.random.default_rng(0).permutation(len(values))[:rows]]
