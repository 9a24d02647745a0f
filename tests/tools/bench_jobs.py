"""Job runners for tests of the benchmark. Worker processes must be able to import them."""

import os
import signal
import time
from pathlib import Path

import numpy as np

from supa_gff.bench.jobs import Cost, Job, JobResult

JOBS = [
    Job(dataset, method, "gin", 5, fold, seed)
    for dataset in ("MUTAG", "PROTEINS")
    for method in ("backprop", "forward")
    for seed in (0, 1)
    for fold in range(5)
]


def measured(job: Job, root: str | None) -> JobResult:
    """Return a synthetic accuracy that depends only on the job."""
    random = np.random.default_rng([*job.dataset.encode(), *job.method.encode(), job.fold, job.seed])
    return _measured(60 + 20 * random.random())


def endless_in_the_last_fold(job: Job, root: str | None) -> JobResult:
    """Write a file named after the process, and sleep for ten minutes in the last fold."""
    assert root is not None
    (Path(root) / str(os.getpid())).touch()
    if job.fold == 4:
        time.sleep(600)
    return measured(job, root)


def failing(job: Job, root: str | None) -> JobResult:
    """Fail in three different ways in folds 1 to 3, and succeed in the other folds."""
    if job.fold == 1:
        raise ValueError("The rate is 0,\n but it must be above 0.")
    if job.fold == 2:
        raise RuntimeError("out of memory")
    if job.fold == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return measured(job, root)


def telling_its_threads(job: Job, root: str | None) -> JobResult:
    """Return the number of threads of NumPy's linear algebra as the accuracy."""
    from threadpoolctl import threadpool_info

    return _measured(float(max(pool["num_threads"] for pool in threadpool_info())))


def telling_its_gpu(job: Job, root: str | None) -> JobResult:
    """Return the number of the GPU that the process can see as the accuracy."""
    return _measured(float(os.environ["CUDA_VISIBLE_DEVICES"]))


def telling_whether_its_memory_grows(job: Job, root: str | None) -> JobResult:
    """Return the number of variables by which blocks of GPU memory can grow as the accuracy."""
    names = ("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF")
    return _measured(float([os.environ.get(name) for name in names].count("expandable_segments:True")))


def telling_what_is_blocked(job: Job, root: str | None) -> JobResult:
    """Return the number of blocked signals (SIGINT, SIGHUP) as the accuracy."""
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    return _measured(float(len(blocked & {signal.SIGINT, signal.SIGHUP})))


def _measured(accuracy: float) -> JobResult:
    return JobResult(accuracy, accuracy, 10, 100, Cost(1.0, 1.0, 10**6, "cpu"), (80, 10, 10))
