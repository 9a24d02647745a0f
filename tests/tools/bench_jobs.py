"""Job runners for tests of the benchmark; worker processes must be able to import them."""

import os
import signal
import time
from pathlib import Path

import numpy as np

from supa_gff.bench.jobs import Job, Measured


def measured(job: Job, root: str | None) -> Measured:
    """Make up an accuracy that depends on the job alone."""
    random = np.random.default_rng([*job.dataset.encode(), *job.method.encode(), job.fold, job.seed])
    return _measured(60 + 20 * random.random())


def slow(job: Job, root: str | None) -> Measured:
    """Take some time, so that a bench can be stopped in the middle."""
    time.sleep(0.2)
    return measured(job, root)


def failing(job: Job, root: str | None) -> Measured:
    """Fail in three ways, which the fold chooses; the other folds succeed."""
    if job.fold == 1:
        raise ValueError("The rate is 0,\n but it must be above 0.")
    if job.fold == 2:
        raise RuntimeError("out of memory")
    if job.fold == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return measured(job, root)


def telling_its_process(job: Job, root: str | None) -> Measured:
    """Leave a file named after the process, then go on for long."""
    assert root is not None
    (Path(root) / str(os.getpid())).touch()
    time.sleep(60)
    return measured(job, root)


def telling_its_threads(job: Job, root: str | None) -> Measured:
    """Measure the number of threads that PyTorch takes."""
    import torch

    return _measured(float(torch.get_num_threads()))


def _measured(accuracy: float) -> Measured:
    from supa_gff.bench.jobs import Cost

    return Measured(accuracy, accuracy, 10, 100, Cost(1.0, 1.0, 10**6, "cpu"), (80, 10, 10))
