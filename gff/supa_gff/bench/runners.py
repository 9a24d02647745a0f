"""Creation and execution of jobs."""

import importlib
from collections import defaultdict, deque
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import lru_cache
from types import MappingProxyType

import torch

from supa.checks import check_int, check_name
from supa_datasets import BENCHMARKS, GraphBenchmark, load_benchmark
from supa_gff.bench.jobs import Job, JobResult, canonical
from supa_gff.bench.resources import Meter
from supa_gff.bench.train_and_test import (
    can_train_together,
    method_settings,
    steps_of,
    train_and_test,
    train_and_test_together,
)
from supa_gff.graph_set import GraphSet
from supa_gff.names import CONVOLUTIONS, METHODS
from supa_learning.folds import SPLIT_SEED, Fold, stratified_folds
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


def group_jobs(jobs: Sequence[Job]) -> list[tuple[Job, ...]]:
    """Group the jobs whose networks can be trained together: the folds and seeds of a method on a dataset.

    Args:
        jobs: Jobs to group.

    Returns:
        The groups, in the order of their first job. Other jobs are alone.
    """
    groups: dict[object, list[Job]] = defaultdict(list)
    for job in jobs:
        together = job.method in METHODS and can_train_together(job.method, job.conv, BENCHMARKS[job.dataset].task)
        groups[replace(job, fold=0, seed=0) if together else job, together].append(job)
    return [tuple(group) for group in groups.values()]


def run_together(jobs: Sequence[Job], root: str | None, device: str) -> list[JobResult | str]:
    """Run the jobs of a group from `group_jobs` at once.

    Folds with different numbers of batches per epoch are trained one group after another. If the memory of the GPU is
    too small for a group, its halves are trained one after another.

    Args:
        jobs: Jobs to run.
        root: Folder with the raw files of the datasets. None: they are downloaded.
        device: ``"cpu"`` or ``"cuda"``.

    Returns:
        Result of each job with its share of the cost, or the reason for its failure.
    """
    first = jobs[0]
    benchmark = _loaded(first.dataset, root)
    folds = _folds(benchmark, first)
    graphs = _on_device(benchmark, device)
    groups: dict[tuple[int, ...], list[Job]] = defaultdict(list)
    for job in jobs:
        groups[steps_of(folds[job.fold], job.method, job.conv)].append(job)
    results: dict[Job, JobResult | str] = {}
    waiting = deque(groups.values())
    while waiting:
        group = waiting.popleft()
        own = [folds[job.fold] for job in group]
        outcomes: list[JobResult | str] = []
        with Meter() as meter:
            try:
                outcomes = train_and_test_together(graphs, own, first.method, first.conv, [job.seed for job in group])
            except torch.OutOfMemoryError as error:
                if len(group) == 1:
                    outcomes = [f"The memory of the GPU is too small: {error}"]
        cost = meter.cost.share(len(group))
        if device == "cuda":
            torch.cuda.empty_cache()  # other processes may need the memory
        if not outcomes:
            waiting.extendleft([group[len(group) // 2 :], group[: len(group) // 2]])
            continue
        for job, fold, outcome in zip(group, own, outcomes, strict=True):
            results[job] = outcome if isinstance(outcome, str) else replace(outcome, cost=cost, sizes=_sizes(fold))
    return [results[job] for job in jobs]


def run_job(job: Job, root: str | None, device: str = "cpu") -> JobResult:
    """Run a job: load the dataset, split it, train and test.

    Args:
        job: Job to run.
        root: Folder with the raw files of the datasets. None: they are downloaded.
        device: ``"cpu"`` or ``"cuda"``. Baselines always run on the CPU.

    Returns:
        The result with its cost. Loading is not part of the cost.

    Raises:
        ValueError: If the dataset cannot be loaded, or the method does not support it.
    """
    benchmark = _loaded(job.dataset, root)
    fold = _folds(benchmark, job)[job.fold]
    if job.method in BASELINES:
        _import_baselines()
    elif device == "cuda":
        torch.cuda.init()  # type: ignore[no-untyped-call]  # the start of CUDA is not part of the cost
    with Meter() as meter:
        if job.method in BASELINES:
            baseline = run_baseline(benchmark, fold, job.method, seed=job.seed)
            result = JobResult(baseline.test_accuracy, baseline.valid_accuracy, 0, baseline.parameters)
        else:
            result = train_and_test(benchmark, fold, job.method, job.conv, job.seed, device)
    return replace(result, cost=meter.cost, sizes=_sizes(fold))


def _folds(benchmark: GraphBenchmark, job: Job) -> tuple[Fold, ...]:
    shares = VALID_SHARES[benchmark.task]
    return stratified_folds(targets_of(benchmark), folds=job.folds, seed=SPLIT_SEED, valid_share=shares)


def _sizes(fold: Fold) -> tuple[int, int, int]:
    return len(fold.train), len(fold.valid), len(fold.test)


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
def _on_device(benchmark: GraphBenchmark, device: str) -> GraphSet:
    return GraphSet.of_benchmark(benchmark).to(device)


@lru_cache(maxsize=1)
def _loaded(name: str, root: str | None) -> GraphBenchmark:
    return load_benchmark(name, root=root)
