"""Creation and execution of jobs."""

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
"""Fraction of the items outside the test fold that form the validation part, by task.

With five folds, nodes are split 64/16/20 as in ForwardGNN.
"""


def make_jobs(
    datasets: Iterable[str], methods: Iterable[str], convs: Iterable[str], *, folds: int, seeds: int
) -> list[Job]:
    """Return the jobs for all combinations of datasets, methods, convolutions, folds and seeds.

    Methods without convolutions run once, and methods without randomness run with one seed. Methods that do not support
    the task of a dataset are omitted.

    Args:
        datasets: Names of datasets.
        methods: Names of methods and baselines.
        convs: Names of convolutions.
        folds: Number of folds.
        seeds: Number of random seeds. The seeds are 0, 1, ...

    Returns:
        The jobs, ordered by dataset.

    Raises:
        ValueError: If a name is unknown, a number is out of range, or no combination is supported.
    """
    datasets, methods, convs = list(dict.fromkeys(datasets)), list(dict.fromkeys(methods)), list(dict.fromkeys(convs))
    check_int(2, 1000, "folds", folds)
    check_int(1, 1000, "seeds", seeds)
    for name in datasets:
        check_name(BENCHMARKS, "a dataset", name)
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
        raise ValueError("None of the methods supports the tasks of the datasets.")
    # With this order, a process loads each dataset once.
    return sorted(jobs, key=lambda job: datasets.index(job.dataset))


def prepare(datasets: Iterable[str], root: str | None) -> None:
    """Load datasets into the cache on disk, which the worker processes share.

    Args:
        datasets: Names of datasets.
        root: Folder with their raw files. None: they are downloaded.

    Raises:
        ValueError: If a dataset cannot be loaded.
    """
    for name in dict.fromkeys(datasets):
        _loaded(name, root)
    _loaded.cache_clear()


def run_job(job: Job, root: str | None) -> JobResult:
    """Run a job: load the dataset, split it, train and test.

    Args:
        job: Job to run.
        root: Folder with the raw files of the datasets. None: they are downloaded.

    Returns:
        The result with its cost. Loading is not part of the cost.

    Raises:
        ValueError: If the dataset cannot be loaded, or the method does not support it.
    """
    benchmark = _loaded(job.dataset, root)
    shares = VALID_SHARES[benchmark.task]
    all_folds = stratified_folds(targets_of(benchmark), folds=job.folds, seed=SPLIT_SEED, valid_share=shares)
    fold = all_folds[job.fold]
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
    """Import the packages of the baselines, so that the measured cost does not include the imports."""
    with suppress(ImportError):  # `run_baseline` raises a clearer error
        for module in ("ensemble", "linear_model", "pipeline", "preprocessing"):
            importlib.import_module(f"sklearn.{module}")


@lru_cache(maxsize=1)
def _loaded(name: str, root: str | None) -> GraphBenchmark:
    return load_benchmark(name, root=root)
