"""Pool of worker processes. If a process ends unexpectedly, only its job fails."""

import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from itertools import cycle
from multiprocessing import connection, get_context, parent_process, resource_tracker
from typing import Any

from supa.checks import check_int
from supa_gff.bench.jobs import Job, JobResult
from supa_gff.bench.results import Result, ResultsFile, finished

Run = Callable[[Job, str | None], JobResult]
Group = Sequence[Job]
RunTogether = Callable[[Group, str | None], Sequence[JobResult | str]]

_ONE_THREAD = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")
_KEYBOARD = (signal.SIGINT, signal.SIGHUP)  # a terminal sends these signals to all of its processes
_GPUS = "CUDA_VISIBLE_DEVICES"
_ALLOCATOR = ("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF")  # the second one until PyTorch 2.8
_LONGEST_ERROR = 500
_SECONDS_BETWEEN_PAUSES = 0.1


def _run_job(job: Job, root: str | None, device: str) -> JobResult:
    # Imported on first use: a worker with another function starts without PyTorch.
    from supa_gff.bench.runners import run_job

    return run_job(job, root, device)


def _run_together(jobs: Group, root: str | None, device: str) -> list[JobResult | str]:
    from supa_gff.bench.runners import run_together

    return run_together(jobs, root, device)


def visible_gpus() -> list[str]:
    """Return the names of the GPUs that this process can use, for ``CUDA_VISIBLE_DEVICES``."""
    import torch

    named = [name for name in os.environ.get(_GPUS, "").split(",") if name]
    return named or [str(k) for k in range(torch.cuda.device_count())]


def run_jobs(
    jobs: Sequence[Job],
    file: ResultsFile,
    *,
    root: str | None = None,
    workers: int = 1,
    device: str = "cpu",
    gpus: Sequence[str] = (),
    group: Callable[[Sequence[Job]], Sequence[Group]] | None = None,
    run: Run | None = None,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
    pause: Callable[[], None] = lambda: None,
) -> int:
    """Run jobs in new processes with one thread each, and append each result to a file.

    A job that fails, or whose process is killed, is recorded with the reason, and the other jobs continue. After an
    interruption the file contains all finished jobs, and ``ResultsFile.missing`` returns the others.

    Args:
        jobs: Jobs to run.
        file: File of results.
        root: Folder with the raw files of the datasets. None: they are downloaded.
        workers: Number of processes.
        device: ``"cpu"`` or ``"cuda"``.
        gpus: Names of the GPUs for ``CUDA_VISIBLE_DEVICES``. Each process uses one, in turn. Empty: all processes use
            the same one.
        group: Function that returns groups of jobs. The jobs of a group are trained together; see
            `supa_gff.bench.runners.group_jobs`. None: each job is trained alone.
        run: Function that runs one job. The processes import it from its module. None: `supa_gff.bench.runners.run_job`
            on the device.
        progress: Function that is called with the number of finished jobs and the number of jobs, at the start and
            after each job.
        pause: Function that is called several times per second. If it raises, the running jobs are stopped.

    Returns:
        The number of failed jobs.

    Raises:
        OSError: If a result cannot be written.
        ValueError: If ``workers`` is out of range.
    """
    check_int(1, 4096, "workers", workers)
    waiting = deque([(job,) for job in jobs] if group is None else group(jobs))
    failures, done = 0, 0
    workers = min(workers, len(waiting))
    run = partial(_run_job, device=device) if run is None else run
    together = partial(_run_together, device=device)
    running: list[_Worker] = []
    sharing = -(-workers // max(1, len(gpus)))
    turns = cycle(gpus)
    progress(0, len(jobs))
    try:
        while waiting or running:
            while waiting and len(running) < workers:
                variables = {_GPUS: next(turns), **_growing_memory()} if gpus else {}
                running.append(_Worker(partial(_work, run, together, root, sharing), variables, waiting.popleft()))
            ready = connection.wait([worker.end for worker in running], _SECONDS_BETWEEN_PAUSES)
            pause()
            for worker in [worker for worker in running if worker.end in ready]:
                for result in worker.results():
                    file.append(result)
                    failures += result.measured is None
                    done += 1
                progress(done, len(jobs))
                if worker.alive and waiting:
                    worker.start(waiting.popleft())
                else:
                    running.remove(worker)
                    worker.stop()
    finally:
        for worker in running:
            worker.stop()
    return failures


def _growing_memory() -> dict[str, str]:
    """Return variables that let the blocks of PyTorch's GPU memory grow, unless the user has configured the memory.

    CUDA graphs for batches of growing shapes cannot use the smaller blocks of each other. They can use a block that
    grows.
    """
    if any(name in os.environ for name in _ALLOCATOR):
        return {}
    return dict.fromkeys(_ALLOCATOR, "expandable_segments:True")


class _Worker:
    """Process that runs one group of jobs at a time."""

    def __init__(self, work: Callable[[Any], None], variables: Mapping[str, str], jobs: Group) -> None:
        context = get_context("spawn")
        self.end, other = context.Pipe()
        # A daemon process ends with this process.
        self._process = context.Process(target=work, args=(other,), daemon=True)
        with _started_undisturbed(variables):
            self._process.start()
        other.close()
        self.alive = True
        self.start(jobs)

    def start(self, jobs: Group) -> None:
        self._jobs = jobs
        with suppress(BrokenPipeError):  # the process has ended; `results` reports it
            self.end.send(jobs)

    def results(self) -> list[Result]:
        try:
            results: list[Result] = self.end.recv()
        except (EOFError, OSError):
            self.alive = False
            self._process.join()
            return [finished(job, _how_it_died(self._process.exitcode)) for job in self._jobs]
        # After an error of CUDA, all later calls in the same process fail.
        self.alive = len(results) == 1 or any(result.measured is not None for result in results)
        return results

    def stop(self) -> None:
        self._process.kill()
        self._process.join()
        self.end.close()


def _how_it_died(code: int | None) -> str:
    if code is None or code >= 0:
        return f"The worker process exited with status {code}."
    name = signal.Signals(-code).name
    reason = ", possibly because it ran out of memory" if name == "SIGKILL" else ""
    return f"The worker process was killed by {name}{reason}."


@contextmanager
def _started_undisturbed(variables: Mapping[str, str]) -> Iterator[None]:
    """Context in which child processes start with one thread and ignore Ctrl-C, which the parent handles.

    Args:
        variables: Other variables of the environment of the child processes.
    """
    changed = {**dict.fromkeys(_ONE_THREAD, "1"), **variables}
    before = {name: os.environ.get(name) for name in changed}
    os.environ |= changed
    # Otherwise the first child starts the tracker, which unblocks the signals before the child inherits the mask.
    resource_tracker.ensure_running()
    # A child process inherits the mask of blocked signals.
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, _KEYBOARD)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _work(run: Run, together: RunTogether, root: str | None, processes: int, end: Any) -> None:
    """Run groups of jobs until the parent closes the pipe."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with suppress(EOFError, OSError):  # the parent has ended
        while True:
            jobs: Group = end.recv()
            try:
                outcomes: Sequence[JobResult | str] = [run(jobs[0], root)] if len(jobs) == 1 else together(jobs, root)
            except Exception as error:  # other jobs continue
                outcomes = [_in_one_line(error)] * len(jobs)
            end.send([finished(job, _beside(outcome, processes)) for job, outcome in zip(jobs, outcomes, strict=True)])


def _beside(outcome: JobResult | str, processes: int) -> JobResult | str:
    """Add the number of worker processes to the cost of a job."""
    if isinstance(outcome, str) or outcome.cost is None:
        return outcome
    return replace(outcome, cost=replace(outcome.cost, processes=processes))


def _end_with_parent() -> None:
    """End this process when its parent ends."""
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _in_one_line(error: Exception) -> str:
    text = " ".join(str(error).split())[:_LONGEST_ERROR]
    return text if text and isinstance(error, ValueError) else f"{type(error).__name__}: {text}"
