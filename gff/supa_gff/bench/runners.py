"""Lists jobs and runs one of them: a trivial baseline or a trained method."""

import importlib
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from functools import lru_cache
from types import MappingProxyType

from supa.checks import check_int, check_name
from supa_datasets import BENCHMARKS, GraphBenchmark, load_benchmark
from supa_gff.bench.jobs import Job, JobResult, canonical
from supa_gff.bench.resources import Meter
from supa_gff.bench.train_and_test import method_settings, train_and_test
from supa_gff.names import CONVOLUTIONS, METHODS
from supa_learning.folds import SPLIT_SEED, stratified_folds
from supa_learning.graph_baselines import BASELINES, TREES, run_baseline, targets_of

VALID_SHARES: Mapping[str, float] = MappingProxyType({"graph": 0.1, "node": 0.2})
"""Share of validation items outside the test part; five folds split nodes 64/16/20, as ForwardGNN does."""


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
    check_int(2, 1000, "folds", folds)
    check_int(1, 1000, "seeds", seeds)
    for name in datasets:
        check_name(BENCHMARKS, "a set", name)
    jobs = []
    for method in methods:
        check_name([*BASELINES, *METHODS], "a method", method)
        is_random = method not in BASELINES or BASELINES[method].random
        for conv in [""] if method in BASELINES else convs:
            if conv:
                check_name(CONVOLUTIONS, "a convolution", conv)
            jobs += [
                Job(dataset, method, conv, folds, fold, seed, _settings(dataset, method, conv))
                for dataset in datasets
                if _fits(method, BENCHMARKS[dataset].task)
                for seed in range(seeds if is_random else 1)
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
    if job.method in BASELINES:
        _import_baselines()
    with Meter() as meter:
        if job.method in BASELINES:
            baseline = run_baseline(benchmark, fold, job.method, seed=job.seed)
            result = JobResult(baseline.test_accuracy, baseline.valid_accuracy, 0, baseline.parameters)
        else:
            result = train_and_test(benchmark, fold, job.method, job.conv, job.seed)
    return replace(result, cost=meter.cost, sizes=(len(fold.train), len(fold.valid), len(fold.test)))


def _fits(method: str, task: str) -> bool:
    return BASELINES[method].task in (None, task) if method in BASELINES else task in METHODS[method]


def _settings(dataset: str, method: str, conv: str) -> str:
    split = {"split_seed": SPLIT_SEED, "valid_share": VALID_SHARES[BENCHMARKS[dataset].task]}
    if method not in BASELINES:
        return canonical({**method_settings(method, conv), **split})
    return canonical({**({"trees": TREES} if BASELINES[method].model == "forest" else {}), **split})


def _import_baselines() -> None:
    """Import the packages of baselines, so that their import is not measured."""
    with suppress(ImportError):  # `run_baseline` raises a clear error
        for module in ("ensemble", "linear_model", "pipeline", "preprocessing"):
            importlib.import_module(f"sklearn.{module}")


@lru_cache(maxsize=1)
def _loaded(name: str, root: str | None) -> GraphBenchmark:
    return load_benchmark(name, root=root)
