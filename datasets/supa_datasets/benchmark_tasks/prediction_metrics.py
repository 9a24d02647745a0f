"""Metrics of predictions, with the expected values of the optimal prediction."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from supa import Showers
from supa.arrays import Array, FloatArray, IntArray
from supa.posterior import energy_moments, energy_posterior, energy_probabilities
from supa_datasets.benchmark_tasks.score import ScoreMetric
from supa_datasets.benchmark_tasks.task import BenchmarkTask

_BOOTSTRAP_SAMPLES = 200


def optimal_predictions(task: BenchmarkTask, showers: Showers) -> Array:
    """Return the best possible predictions.

    Args:
        task: A task of prediction.
        showers: Showers of the task.

    Returns:
        Energies (GeV) or classes from the exact posterior given the tree of each shower; the true labels for a task
        whose optimal prediction is not known.
    """
    if task.kind == "regression":
        return np.asarray(np.exp(energy_posterior(showers)[0]))
    if task.kind == "classification":
        return np.asarray(energy_probabilities(showers).argmax(axis=1))
    return task.targets(showers)


def score_values(task: BenchmarkTask, showers: Showers, predicted: Array) -> tuple[float, tuple[ScoreMetric, ...]]:
    """Score predictions.

    Args:
        task: A task of prediction.
        showers: Test showers of the task.
        predicted: Predictions, which ``checked_predictions`` has accepted.

    Returns:
        Joint p-value of the metrics, and the metrics. The p-value is 1 - (1 - p)^k with the smallest of k p-values.
    """
    metrics = _METRICS[task.kind](task, showers, predicted)
    smallest = min(math.erfc(abs(metric.pull) / math.sqrt(2)) for metric in metrics if metric.pull is not None)
    return float(-np.expm1(len(metrics) * np.log1p(-smallest))) if smallest < 1 else 1.0, metrics


def _regression(task: BenchmarkTask, showers: Showers, predicted: FloatArray) -> tuple[ScoreMetric, ...]:
    _, variance, fourth = energy_moments(showers)
    error = np.log(predicted) - np.log(task.targets(showers))
    size = len(showers)
    floor = float(np.sqrt(variance.mean()))
    scatter = float(np.sqrt(np.mean(fourth - variance**2)))  # of the squared error of the optimal prediction
    return (
        _metric("error of ln E", float(np.sqrt(np.mean(error**2))), floor, scatter / (2 * floor * np.sqrt(size))),
        _metric("bias of ln E", float(error.mean()), 0.0, floor / np.sqrt(size)),
    )


def _classification(task: BenchmarkTask, showers: Showers, predicted: IntArray) -> tuple[ScoreMetric, ...]:
    right = energy_probabilities(showers).max(axis=1)
    spread = float(np.sqrt(np.sum(right * (1 - right))) / len(showers))
    value = float(np.mean(predicted == task.targets(showers)))
    return (_metric("accuracy", value, float(right.mean()), spread),)


def _labelling(task: BenchmarkTask, showers: Showers, predicted: IntArray) -> tuple[ScoreMetric, ...]:
    """Return the accuracy up to an exchange of the two labels of a shower. Its spread is a bootstrap error."""
    hits = showers.num_hits
    correct = np.bincount(showers.hits.group_of_row()[predicted == task.targets(showers)], minlength=len(showers))
    correct = np.maximum(correct, hits - correct)
    random = np.random.default_rng(0)
    drawn = [random.integers(len(showers), size=len(showers)) for _ in range(_BOOTSTRAP_SAMPLES)]
    spread = float(np.std([correct[rows].sum() / hits[rows].sum() for rows in drawn], ddof=1))
    return (_metric("accuracy", float(correct.sum() / hits.sum()), 1.0, spread),)


_METRICS: dict[str, Callable[[BenchmarkTask, Showers, Any], tuple[ScoreMetric, ...]]] = {
    "regression": _regression,
    "classification": _classification,
    "labelling": _labelling,
}
"""Functions of the metrics by kind of task."""


def _metric(name: str, value: float, floor: float, spread: float) -> ScoreMetric:
    pull = (value - floor) / spread if spread > 0 else 0.0
    return ScoreMetric(name, value, floor, spread, float(pull))
