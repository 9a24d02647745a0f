"""Runners of jobs: the trivial baselines and the trained methods."""

import importlib
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import lru_cache
from types import MappingProxyType
from typing import Any, Protocol

from supa.checks import check_name, did_you_mean, shown, whole
from supa_datasets import BENCHMARKS, GraphBenchmark, load_benchmark
from supa_gff.baselines import BASELINES, TREES, run_baseline, targets_of
from supa_gff.bench.jobs import Job, JobResult, canonical
from supa_gff.bench.resources import Meter
from supa_gff.bench.train_and_test import method_settings, train_and_test
from supa_gff.names import CONVOLUTIONS, METHODS
from supa_gff.splits.folds import SPLIT_SEED, Fold, stratified_folds

VALID_SHARES: Mapping[str, float] = MappingProxyType({"graph": 0.1, "node": 0.2})
"""Share of validation items outside the test part; five folds split nodes 64/16/20, as ForwardGNN does."""


class Runner(Protocol):
    """A family of methods."""

    def methods(self) -> Sequence[str]:
        """Return their names."""

    def convs(self) -> Sequence[str]:
        """Return the names of their convolutions; empty if they have none."""

    def fits(self, method: str, task: str) -> bool:
        """Return whether a method can do a task."""

    def is_random(self, method: str) -> bool:
        """Return whether a method depends on its seed."""

    def settings(self, method: str, conv: str) -> Mapping[str, Any]:
        """Return the configuration that a result depends on."""

    def load(self) -> None:
        """Import the packages of a training, so that their import is not measured."""

    def run(self, benchmark: GraphBenchmark, fold: Fold, job: Job) -> JobResult:
        """Train and test."""


class _Baselines:
    """The trivial baselines."""

    def methods(self) -> Sequence[str]:
        return tuple(BASELINES)

    def convs(self) -> Sequence[str]:
        return ()

    def fits(self, method: str, task: str) -> bool:
        return BASELINES[method].task in (None, task)

    def is_random(self, method: str) -> bool:
        return BASELINES[method].random

    def settings(self, method: str, _conv: str) -> Mapping[str, Any]:
        return {"trees": TREES} if BASELINES[method].model == "forest" else {}

    def load(self) -> None:
        with suppress(ImportError):  # the training raises a clear error
            for module in ("ensemble", "linear_model", "pipeline", "preprocessing"):
                importlib.import_module(f"sklearn.{module}")

    def run(self, benchmark: GraphBenchmark, fold: Fold, job: Job) -> JobResult:
        result = run_baseline(benchmark, fold, job.method, seed=job.seed)
        return JobResult(result.test_accuracy, result.valid_accuracy, epochs=0, parameters=result.parameters)


class _Trained:
    """The trained methods, forward-only and backpropagation."""

    def methods(self) -> Sequence[str]:
        return tuple(METHODS)

    def convs(self) -> Sequence[str]:
        return CONVOLUTIONS

    def fits(self, method: str, task: str) -> bool:
        return task in METHODS[method]

    def is_random(self, _method: str) -> bool:
        return True

    def settings(self, method: str, conv: str) -> Mapping[str, Any]:
        return method_settings(method, conv)

    def load(self) -> None:
        pass  # imported with this module

    def run(self, benchmark: GraphBenchmark, fold: Fold, job: Job) -> JobResult:
        return train_and_test(benchmark, fold, job.method, job.conv, job.seed)


RUNNERS: tuple[Runner, ...] = (_Baselines(), _Trained())
"""The families of methods."""


def methods() -> tuple[str, ...]:
    """Return the names of all methods.

    Returns:
        The names.
    """
    return tuple(name for runner in RUNNERS for name in runner.methods())


def runner_for(method: str) -> Runner:
    """Return the family of a method.

    Args:
        method: its name.

    Returns:
        The family.

    Raises:
        ValueError: there is no such method.
    """
    for runner in RUNNERS:
        if method in runner.methods():
            return runner
    names = ", ".join(methods())
    raise ValueError(f"{shown(method)} was given, but a method is one of {names}.{did_you_mean(method, methods())}")


def make_jobs(
    datasets: Iterable[str], methods: Iterable[str], convs: Iterable[str], *, folds: int, seeds: int
) -> list[Job]:
    """List all combinations of sets, methods, convolutions, folds and seeds.

    A method without convolutions is run once, a method without randomness with one seed, and a method that cannot do
    the task of a set is left out.

    Args:
        datasets: names of benchmarks.
        methods: names of methods.
        convs: names of convolutions.
        folds: number of folds.
        seeds: number of seeds, from 0.

    Returns:
        The jobs, set by set.

    Raises:
        ValueError: a name is unknown, a number is out of its limits, or no combination is left.
    """
    datasets, methods, convs = list(dict.fromkeys(datasets)), list(dict.fromkeys(methods)), list(dict.fromkeys(convs))
    whole(2, 1000, "folds", folds)
    whole(1, 1000, "seeds", seeds)
    for name in datasets:
        check_name(BENCHMARKS, "a set", name)
    jobs = []
    for method in methods:
        runner = runner_for(method)
        for conv in convs if runner.convs() else [""]:
            if conv:
                check_name(runner.convs(), "a convolution", conv)
            jobs += [
                Job(dataset, method, conv, folds, fold, seed, _settings(runner, dataset, method, conv))
                for dataset in datasets
                if runner.fits(method, BENCHMARKS[dataset].task)
                for seed in range(seeds if runner.is_random(method) else 1)
                for fold in range(folds)
            ]
    if not jobs:
        raise ValueError("None of the given methods can do the tasks of the given sets.")
    # Ordered by set, so that a process loads each set once.
    return sorted(jobs, key=lambda job: datasets.index(job.dataset))


def prepare(datasets: Iterable[str], root: str | None) -> None:
    """Load sets into the cache on disk, where the worker processes find them.

    Args:
        datasets: names of benchmarks.
        root: folder of their raw files; None: they are downloaded.

    Raises:
        ValueError: a set cannot be loaded.
    """
    for name in dict.fromkeys(datasets):
        _loaded(name, root)
    _loaded.cache_clear()


def run_job(job: Job, root: str | None) -> JobResult:
    """Load the set of a job, make its fold, train and test.

    Args:
        job: the job.
        root: folder of the raw files of the sets; None: they are downloaded.

    Returns:
        The result, with its cost (without loading).

    Raises:
        ValueError: the set cannot be loaded, or the method cannot be run on it.
    """
    benchmark = _loaded(job.dataset, root)
    shares = VALID_SHARES[benchmark.task]
    made = stratified_folds(targets_of(benchmark), folds=job.folds, seed=SPLIT_SEED, valid_share=shares)
    fold = made[job.fold]
    runner = runner_for(job.method)
    runner.load()
    with Meter() as meter:
        measured = runner.run(benchmark, fold, job)
    return replace(
        measured,
        cost=measured.cost or meter.cost,
        sizes=(len(fold.train), len(fold.valid), len(fold.test)),
    )


def _settings(runner: Runner, dataset: str, method: str, conv: str) -> str:
    split = {"split_seed": SPLIT_SEED, "valid_share": VALID_SHARES[BENCHMARKS[dataset].task]}
    return canonical({**runner.settings(method, conv), **split})


@lru_cache(maxsize=1)
def _loaded(name: str, root: str | None) -> GraphBenchmark:
    return load_benchmark(name, root=root)
