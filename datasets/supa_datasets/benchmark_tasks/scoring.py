"""Scores of generated showers and of predictions."""

import hashlib
import time
from collections.abc import Callable
from os import PathLike
from pathlib import Path

import numpy.typing as npt

from supa import Showers, __version__
from supa_datasets.benchmark_tasks.prediction_metrics import score_values
from supa_datasets.benchmark_tasks.predictions import checked_predictions, first_test_showers, read_predictions
from supa_datasets.benchmark_tasks.samples import check_sample, read_sample
from supa_datasets.benchmark_tasks.score import Score, ScoreMetric
from supa_datasets.benchmark_tasks.shower_metrics import score_sample
from supa_datasets.benchmark_tasks.task import BenchmarkTask
from supa_datasets.reader import named_errors


def score_file(
    task: BenchmarkTask,
    path: str | PathLike[str],
    *,
    label: str | None = None,
    progress: Callable[[str], None] | None = None,
) -> Score:
    """Score a file of generated showers or of predictions.

    Args:
        task: The task.
        path: A file of showers in any format that `convert` reads, or a file of `save_predictions`.
        label: Name of the model in tables. By default the name of the file without its suffix.
        progress: Function to call with the name of each step.

    Returns:
        The score, with the checksum of the file.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is damaged, or does not satisfy the conditions of the task; see `score_showers` and
            `score_predictions`.

    Example:
        A true sample, simulated with another seed than the task:

        >>> import supa
        >>> from supa_datasets import benchmark_task, save, score_file
        >>> task = benchmark_task("standard-points")
        >>> save(supa.simulate(300, task.config, seed=1), "true.h5")
        >>> score = score_file(task, "true.h5")
        >>> score.differs, score.label, abs(score["Frechet distance"].pull) < 4
        (False, 'true', True)
    """
    path = Path(path)
    label = path.stem if label is None else label
    if task.kind == "generation":
        sample = read_sample(task, path)
        with named_errors(path):
            return _generation(task, sample, label, _checksum(path), progress)
    values, num = read_predictions(path, task)
    with named_errors(path):
        return _prediction(task, values, num, label, _checksum(path))


def score_showers(
    task: BenchmarkTask,
    sample: Showers,
    *,
    label: str = "",
    progress: Callable[[str], None] | None = None,
) -> Score:
    """Score generated showers.

    The sample is compared with as many showers of the test range. The p-value is the joint p-value of `supa.compare`.
    The noise floor of each metric is the mean over 20 independent true samples of the same size. The page *Benchmark
    tasks* of the documentation defines the metrics.

    Args:
        task: A task of generation.
        sample: The generated showers, at least 200.
        label: Name of the model in tables.
        progress: Function to call with the name of each step.

    Returns:
        The score.

    Raises:
        ValueError: If the task predicts; if the number of showers, their geometry or their incident energies are not
            those of the task; or if the sample contains showers of the training, validation or test range.

    Example:
        >>> import supa
        >>> from supa_datasets import benchmark_task, score_showers
        >>> task = benchmark_task("standard-points")
        >>> score = score_showers(task, supa.simulate(300, "symmetric", seed=1))
        >>> score.differs, score["Wasserstein distance"].pull > 5
        (True, True)
        >>> score_showers(task, task.simulate("train", 300))
        Traceback (most recent call last):
        ValueError: The sample was simulated with the seed 202205012 of standard-points and contains indices of its
        training range, 0 to 99,999. These showers are known; generate new ones, or simulate with another seed.
    """
    if task.kind != "generation":
        raise ValueError(f"The task {task.name} predicts; use score_predictions.")
    return _generation(task, sample, label, "", progress)


def score_predictions(task: BenchmarkTask, values: npt.ArrayLike, *, num: int | None = None, label: str = "") -> Score:
    """Score predictions.

    The noise floor of each metric is the expected value of the optimal prediction, from the exact posterior given the
    tree of each shower. Its spread is the scatter of the optimal prediction. For labelling, the floor is an accuracy
    of 1, and the spread is the bootstrap error of the accuracy.

    Args:
        task: A task of labelling, regression or classification.
        values: Predictions in the order of ``task.simulate("test", num)``, as in `save_predictions`.
        num: Number of showers. By default ``task.num_showers``.
        label: Name of the model in tables.

    Returns:
        The score.

    Raises:
        ValueError: If the task generates showers, or if the predictions have the wrong number, type or range.

    Example:
        >>> from supa_datasets import benchmark_task, score_predictions
        >>> task = benchmark_task("energy-graphs")
        >>> score = score_predictions(task, task.targets(task.simulate("test", 1000)), num=1000)
        >>> score["accuracy"].value, round(score["accuracy"].floor, 1)
        (1.0, 0.9)
    """
    return _prediction(task, values, task.num_showers if num is None else num, label, "")


def _generation(
    task: BenchmarkTask, sample: Showers, label: str, checksum: str, progress: Callable[[str], None] | None
) -> Score:
    progress = progress or (lambda _step: None)
    progress("checking the sample")
    check_sample(task, sample)
    found = score_sample(task, sample, progress)
    return _score(
        task,
        len(sample),
        label,
        found.p_value,
        found.metrics,
        found.largest_differences,
        found.num_observables,
        checksum,
    )


def _prediction(task: BenchmarkTask, values: npt.ArrayLike, num: int, label: str, checksum: str) -> Score:
    showers = first_test_showers(task, num)
    p_value, metrics = score_values(task, showers, checked_predictions(task, values, showers))
    return _score(task, num, label, p_value, metrics, (), 0, checksum)


def _score(
    task: BenchmarkTask,
    num: int,
    label: str,
    p_value: float,
    metrics: tuple[ScoreMetric, ...],
    differences: tuple[str, ...],
    num_observables: int,
    checksum: str,
) -> Score:
    return Score(
        task=task.name,
        task_version=task.version,
        num_showers=num,
        label=label,
        p_value=p_value,
        metrics=metrics,
        largest_differences=differences,
        num_observables=num_observables,
        sha256=checksum,
        supa_version=__version__,
        date=time.strftime("%Y-%m-%d", time.gmtime()),
    )


def _checksum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
