"""A pool of worker processes for jobs; the death of a process fails its job only."""

import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing import connection, get_context, parent_process, resource_tracker
from typing import Any

from supa.checks import check_int
from supa_gff.bench.jobs import Job, JobResult
from supa_gff.bench.results import Result, ResultsFile, finished
from supa_gff.bench.runners import run_job

Run = Callable[[Job, str | None], JobResult]

_ONE_THREAD = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")
_KEYBOARD = (signal.SIGINT, signal.SIGHUP)  # a terminal sends them to every process that belongs to it
_LONGEST_ERROR = 500
_SECONDS_BETWEEN_PAUSES = 0.1


def run_jobs(
    jobs: Sequence[Job],
    file: ResultsFile,
    *,
    root: str | None = None,
    workers: int = 1,
    run: Run = run_job,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
    pause: Callable[[], None] = lambda: None,
) -> int:
    """Run jobs in fresh processes of one thread each, and append each one's result when it ends.

    A job that fails, or whose process is killed, is recorded with its reason; the others continue. After an
    interruption the file holds all finished jobs, and ``ResultsFile.missing`` returns the others.

    Args:
        jobs: the jobs.
        file: the file of results.
        root: folder of the raw files of the sets; None: they are downloaded.
        workers: number of processes at the same time.
        run: a function that runs one job; the processes import it from its module.
        progress: called with the number of finished jobs and of all jobs, at the start and after each job.
        pause: called several times a second; an exception in it ends the running jobs.

    Returns:
        The number of jobs that failed.

    Raises:
        OSError: a result cannot be written.
        ValueError: ``workers`` is out of its limits.
    """
    check_int(1, 4096, "workers", workers)
    waiting, failures, done = deque(jobs), 0, 0
    running: list[_Worker] = []
    progress(0, len(jobs))
    try:
        while waiting or running:
            while waiting and len(running) < workers:
                running.append(_Worker(run, root, waiting.popleft()))
            ready = connection.wait([worker.end for worker in running], _SECONDS_BETWEEN_PAUSES)
            pause()
            for worker in [worker for worker in running if worker.end in ready]:
                result = worker.result()
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


class _Worker:
    """A process with one job at a time."""

    def __init__(self, run: Run, root: str | None, job: Job) -> None:
        context = get_context("spawn")
        self.end, other = context.Pipe()
        # A daemon process cannot outlive this process.
        self._process = context.Process(target=_work, args=(other, run, root), daemon=True)
        with _started_undisturbed():
            self._process.start()
        other.close()
        self.alive = True
        self.start(job)

    def start(self, job: Job) -> None:
        self._job = job
        with suppress(BrokenPipeError):  # it has died; `result` reports it
            self.end.send(job)

    def result(self) -> Result:
        try:
            result: Result = self.end.recv()
        except (EOFError, OSError):
            self.alive = False
            self._process.join()
            return finished(self._job, _how_it_died(self._process.exitcode))
        return result

    def stop(self) -> None:
        self._process.kill()
        self._process.join()
        self.end.close()


def _how_it_died(code: int | None) -> str:
    if code is None or code >= 0:
        return f"Its process ended by itself, with status {code}."
    name = signal.Signals(-code).name
    return f"Its process was ended by {name}{'; was there too little memory?' if name == 'SIGKILL' else '.'}"


@contextmanager
def _started_undisturbed() -> Iterator[None]:
    """Start a process with one thread, which ignores Ctrl-C: its parent handles it."""
    before = {name: os.environ.get(name) for name in _ONE_THREAD}
    os.environ |= dict.fromkeys(_ONE_THREAD, "1")
    # If it were started with the first child, it would unblock the signals before the child inherits the mask.
    resource_tracker.ensure_running()
    # A child inherits the blocked signals from its first instruction on.
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


def _work(end: Any, run: Run, root: str | None) -> None:
    """Run jobs until the parent closes the pipe."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with suppress(EOFError, OSError):  # the parent has ended, or has been killed
        while True:
            job: Job = end.recv()
            try:
                outcome: JobResult | str = run(job, root)
            except Exception as error:  # an exception of one job must not end the others
                outcome = _in_one_line(error)
            end.send(finished(job, outcome))


def _end_with_parent() -> None:
    """End this process when its parent is killed."""
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _in_one_line(error: Exception) -> str:
    text = " ".join(str(error).split())[:_LONGEST_ERROR]
    return text if text and isinstance(error, ValueError) else f"{type(error).__name__}: {text}"
