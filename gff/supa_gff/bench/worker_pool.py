"""Processes that run jobs: what ends one of them costs the job that it had, and nothing else."""

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
    tell: Callable[[int, int], None] = lambda _done, _total: None,
    pause: Callable[[], None] = lambda: None,
) -> int:
    """Run jobs in fresh processes of one thread each, and append each one's result when it ends.

    A job that fails, or whose process is killed, is recorded with its reason; the others go on. However this ends, what
    was appended stays, and ``ResultsFile.missing`` tells what is left.

    Args:
        jobs: the jobs.
        file: where the results go.
        root: folder of the raw files of the sets; None: they are downloaded.
        workers: number of processes at a time.
        run: runs one job; a function of a module, which the processes import.
        tell: called with the numbers of jobs done and of all, at the start and after each.
        pause: called several times a second; what it raises ends the jobs that run.

    Returns:
        The number of jobs that failed.

    Raises:
        OSError: a result cannot be written.
        ValueError: the number of processes is no such number.
    """
    check_int(1, 4096, "workers", workers)
    waiting, failures, done = deque(jobs), 0, 0
    running: list[_Worker] = []
    tell(0, len(jobs))
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
                tell(done, len(jobs))
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
        # A daemon, so that it cannot outlive this process whatever happens here.
        self._process = context.Process(target=_work, args=(other, run, root), daemon=True)
        with _started_undisturbed():
            self._process.start()
        other.close()
        self.alive = True
        self.start(job)

    def start(self, job: Job) -> None:
        self._job = job
        with suppress(BrokenPipeError):  # it has died; `result` finds that out
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
    """Start a process that computes with one thread, and that Ctrl-C leaves to its parent."""
    before = {name: os.environ.get(name) for name in _ONE_THREAD}
    os.environ |= dict.fromkeys(_ONE_THREAD, "1")
    # Started with the first child, it would unblock the signals before the child inherits what is blocked.
    resource_tracker.ensure_running()
    # A child inherits what is blocked, from its first instruction on.
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
    """Run the jobs that come, until nobody is there who sends them."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with suppress(EOFError, OSError):  # the parent has ended, or has been killed
        while True:
            job: Job = end.recv()
            try:
                outcome: JobResult | str = run(job, root)
            except Exception as error:  # whatever a job raises must not end the others
                outcome = _in_one_line(error)
            end.send(finished(job, outcome))


def _end_with_parent() -> None:
    """End this process when its parent is killed: nobody would take its result."""
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _in_one_line(error: Exception) -> str:
    text = " ".join(str(error).split())[:_LONGEST_ERROR]
    return text if text and isinstance(error, ValueError) else f"{type(error).__name__}: {text}"
