"""Check the scores of the benchmark tasks, and score simple and learned models.

    python benchmarks/benchmark_tasks.py calibrate [--seeds 50] [--json docs/data/benchmark_calibration.json]
    python benchmarks/benchmark_tasks.py baselines --json scores.json [--models encoder --device cuda]
    python benchmarks/benchmark_tasks.py times

``calibrate`` scores true samples (or optimal predictions) of a small size for many seeds of each task. It prints how
often the p-value is at most 0.05 and 0.01, and the mean and standard deviation of the pulls. ``baselines``
scores models at the standard size and adds the scores to a file with one line for each score. Append this file to
docs/data/benchmark_scores.json, from which ``docs/make_benchmark_tables.py`` builds the tables of the documentation.
The models are ``simple`` (also true samples with a small fault), and the learned models ``encoder`` and
``graph-network``, which need PyTorch and predict only. ``times`` measures a score of the standard size. ``--tasks``
selects tasks. A short run of learned models:

    python benchmarks/benchmark_tasks.py baselines --models encoder graph-network --training 1000 --epochs 3
        --showers 1000 --json scores.json
"""

import argparse
import dataclasses
import platform
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from benchmark_learners import LEARNERS, Training
from benchmark_models import GENERATORS, PREDICTORS, true_sample
from measuring import give, machine

import supa
from supa_datasets import BenchmarkTask, add_score, benchmark_names, benchmark_task, score_predictions, score_showers
from supa_datasets.benchmark_tasks.prediction_metrics import optimal_predictions, score_values
from supa_datasets.benchmark_tasks.shower_metrics import score_sample

SMALL = {"generation": 500, "regression": 2000, "classification": 2000, "labelling": 500}
DENSE = 200  # hits take the time


def calibrate(task: BenchmarkTask, seeds: int) -> dict[str, Any]:
    """Score true samples of a small size for many seeds."""
    size = DENSE if task.name.startswith("dense") else SMALL[task.kind]
    p_values, pulls = [], defaultdict(list)
    start = time.perf_counter()
    # The error of the classifier is checked by benchmarks/calibration.py.
    metrics = tuple(metric for metric in task.metrics if metric[0] != "classifier AUC")
    for number in range(seeds):
        other = dataclasses.replace(task, seed=task.seed + 1000 + number, metrics=metrics)
        if task.kind == "generation":
            result = score_sample(other, true_sample(other, size), lambda _step: None)
            p_value, found = result.p_value, result.metrics
        else:
            showers = other.simulate("test", size)
            p_value, found = score_values(other, showers, optimal_predictions(other, showers))
        p_values.append(p_value)
        for metric in found:
            pulls[metric.name].append(metric.pull)
        print(f"{task.name}: {number + 1} of {seeds}, {time.perf_counter() - start:.0f} s", file=sys.stderr)
    return {
        "showers": size,
        "seeds": seeds,
        "p at most 0.05": int(np.sum(np.array(p_values) <= 0.05)),
        "p at most 0.01": int(np.sum(np.array(p_values) <= 0.01)),
        "pulls": {
            name: {"mean": round(float(np.mean(values)), 3), "std": round(float(np.std(values, ddof=1)), 3)}
            for name, values in pulls.items()
        },
    }


def baselines(task: BenchmarkTask, path: Path, models: list[str], training: Training) -> dict[str, float]:
    """Add the scores of models to a file, and return the seconds of each model."""
    makers: dict[str, Callable[[BenchmarkTask], Any]] = {}
    if "simple" in models:
        makers |= GENERATORS if task.kind == "generation" else PREDICTORS[task.kind]
    if task.kind != "generation":
        for model in models:
            makers |= {label: partial(learn, training=training) for label, learn in LEARNERS.get(model, {}).items()}
    score = score_showers if task.kind == "generation" else score_predictions
    seconds = {}
    for label, make in makers.items():
        start = time.perf_counter()
        add_score(path, score(task, make(task), label=label))
        seconds[label] = round(time.perf_counter() - start, 1)
        print(task.name, label, seconds[label], file=sys.stderr, flush=True)
    return seconds


def times(task: BenchmarkTask) -> dict[str, float]:
    """Measure a score of the standard size: seconds, and seconds of all processors together."""
    if task.kind == "generation":
        sample = true_sample(task, task.num_showers)
    else:
        predicted = optimal_predictions(task, task.simulate("test", task.num_showers))
    start, work = time.perf_counter(), time.process_time()
    if task.kind == "generation":
        score_showers(task, sample)
    else:
        score_predictions(task, predicted)
    return {"seconds": round(time.perf_counter() - start, 1), "work": round(time.process_time() - work, 1)}


def main() -> None:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("what", choices=("calibrate", "baselines", "times"))
    parser.add_argument("--tasks", nargs="+", default=benchmark_names(), choices=benchmark_names())
    parser.add_argument("--seeds", type=int, default=50)
    parser.add_argument("--json", type=Path, help="file of the results; for baselines, the scores")
    models = ("simple", *LEARNERS)
    parser.add_argument("--showers", type=int, help="number of showers to score, if not the standard number")
    parser.add_argument("--models", nargs="+", choices=models, default=["simple"], help="baselines to score")
    sizes = Training()
    parser.add_argument("--device", default=sizes.device, help="device of learned models")
    parser.add_argument("--training", type=int, default=sizes.showers, help="number of training showers")
    parser.add_argument("--epochs", type=int, default=sizes.epochs)
    arguments = parser.parse_args()
    if arguments.what == "baselines" and arguments.json is None:
        parser.error("baselines needs --json, the file of the scores")
    training = Training(arguments.training, arguments.epochs, arguments.device)
    facts = {"machine": machine(), "python": platform.python_version(), "numpy": np.__version__}
    facts |= {"supa": supa.__version__, "date": time.strftime("%Y-%m-%d")}
    results = {}
    for task in map(benchmark_task, arguments.tasks):
        if arguments.showers:
            task = dataclasses.replace(task, num_showers=arguments.showers)
        if arguments.what == "calibrate":
            results[task.name] = calibrate(task, arguments.seeds)
        elif arguments.what == "times":
            results[task.name] = times(task)
        else:
            results[task.name] = baselines(task, arguments.json, arguments.models, training)
    give({**facts, "results": results}, None if arguments.what == "baselines" else arguments.json)


if __name__ == "__main__":
    main()
