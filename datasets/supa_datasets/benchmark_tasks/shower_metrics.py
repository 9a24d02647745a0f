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
        num_observables: Number of observables that the metrics use.
        metrics: The metrics.
    """

    p_value: float
    largest_differences: tuple[str, ...]
    num_observables: int
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
    # A sample without slices has fewer observables. The noise floor uses the same ones.
    resolution = resolutions(true, [name for name in true.columns if name in generated.columns])
    of_sample = _Pair(true, generated, resolution)
    progress(f"noise floor: {FLOOR_SAMPLES} true samples")
    floors = _floors(task, true, resolution, size)
    metrics: list[ScoreMetric] = []
    for name, rows in task.metrics:
        progress(name)
        if name == "classifier AUC":
            metrics.extend(_classifier(of_sample, rows))
        else:
            metrics.append(_with_floor(name, _METRICS[name](of_sample, rows), np.array([one[name] for one in floors])))
    return ShowerScore(comparison.joint_p_value, names[:3], len(resolution), tuple(metrics))


@dataclass(frozen=True)
class _Pair:
    """A true sample, another sample, and the resolutions of the observables that the metrics use."""

    true: SampleStatistics
    other: SampleStatistics
    resolution: dict[str, float]

    def response(self, rows: int) -> list[FloatArray]:
        return [_some(sample.columns[_ENERGY], rows) for sample in (self.true, self.other)]

    def features(self, rows: int) -> list[FloatArray]:
        """Return the observables except the response, in units of their resolution."""
        units = {name: unit for name, unit in self.resolution.items() if name != _ENERGY}
        with np.errstate(over="ignore"):
            matrices = [
                np.column_stack([sample.columns[name] / unit for name, unit in units.items()])
                for sample in (self.true, self.other)
            ]
        return [_some(np.clip(matrix, -LARGEST, LARGEST), rows) for matrix in matrices]


def _some(values: FloatArray, rows: int) -> FloatArray:
    """Choose showers at random, because a sample may be sorted."""
    return values if len(values) <= rows else values[np.random.default_rng(0).permutation(len(values))[:rows]]


def _floors(
    task: BenchmarkTask, true: SampleStatistics, resolution: dict[str, float], size: int
) -> list[dict[str, float]]:
    """Compute the metrics of independent true samples of the same size."""

    def compute(number: int) -> dict[str, float]:
        assert task.floor is not None
        showers = task.simulate_range(task.floor, size, skip=number * size)
        pair = _Pair(true, SampleStatistics.of(binned(task, showers), _NO_HISTOGRAMS), resolution)
        return {name: _METRICS[name](pair, rows) for name, rows in task.metrics if name in _METRICS}

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


def _classifier(pair: _Pair, rows: int) -> Iterator[ScoreMetric]:
    """Yield the area of a classifier, or nothing without scikit-learn. Its noise floor is known."""
    try:
        found = classifier_auc(*pair.features(rows))
    except ValueError as error:
        if "scikit-learn" not in str(error):
            raise
        return
    pull = (found.auc - 0.5) / found.equal_error
    yield ScoreMetric("classifier AUC", found.auc, 0.5, found.equal_error, pull)


def _energy(pair: _Pair, rows: int) -> float:
    """Return the Wasserstein-1 distance of the response, as a fraction of the incident energy."""
    one, other = pair.response(rows)
    unit = max(float(one.std()), _SMALLEST)
    distance = unit * float(wasserstein_distances(one[:, None], other[:, None], resolution=_SMALLEST)[0])
    return distance if distance > _SMALLEST else 0.0


def _wasserstein(pair: _Pair, rows: int) -> float:
    """Return the mean Wasserstein-1 distance of the observables in true standard deviations, each at most 10."""
    return float(np.minimum(wasserstein_distances(*pair.features(rows), resolution=1.0), _FARTHEST).mean())


def _frechet(pair: _Pair, rows: int) -> float:
    return frechet_distance(*pair.features(rows)).value


def _coverage(pair: _Pair, rows: int) -> float:
    return neighbour_scores(*pair.features(rows)).coverage.value


_METRICS: dict[str, Callable[[_Pair, int], float]] = {
    "energy": _energy,
    "Wasserstein distance": _wasserstein,
    "Frechet distance": _frechet,
    "coverage": _coverage,
}
"""Functions of the metrics by name. Each takes two samples and the largest number of showers of each."""
