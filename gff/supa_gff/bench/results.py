"""The file of results: one line of JSON for each finished job, written atomically."""

import hashlib
import json
import os
import platform
import sys
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any, Self

from supa.checks import counted
from supa.file_lock import open_locked
from supa.texts import read_json
from supa_gff.bench.jobs import Cost, Job, JobResult, canonical

_FIRST = b'{"dataset": "'  # start of every line; a torn line is a prefix of it
_PACKAGES = ("supa-showers", "numpy", "scipy", "scikit-learn", "torch", "torch-geometric")


@dataclass(frozen=True)
class Result:
    """A line of the file.

    Args:
        job: the job.
        measured: its result; None if it failed.
        error: the reason of the failure; None if it succeeded.
        machine: description of the machine.
        versions: versions of Python and of the packages involved.
        date: end of the job, UTC, ISO 8601.
    """

    job: Job
    measured: JobResult | None
    error: str | None
    machine: str
    versions: dict[str, str]
    date: str


def finished(job: Job, outcome: JobResult | str) -> Result:
    """Make the line of a job that has just ended on this machine.

    Args:
        job: the job.
        outcome: its result, or the reason of its failure.

    Returns:
        The result.
    """
    failed = isinstance(outcome, str)
    return Result(
        job=job,
        measured=None if failed else outcome,  # type: ignore[arg-type]
        error=outcome if failed else None,  # type: ignore[arg-type]
        machine=_machine(),
        versions={"python": platform.python_version(), **_versions()},
        date=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def read_results(path: str | os.PathLike[str]) -> list[Result]:
    """Read a file of results; a torn last line is left out.

    Args:
        path: the file.

    Returns:
        Its results in the order of the file, the newest of each job only.

    Raises:
        OSError: the file cannot be read.
        ValueError: a line is not a result.
    """
    lines, _ = _lines(Path(path))
    return _newest(lines)


class ResultsFile:
    """A file of results, open for appending; a second process cannot open it at the same time.

    Args:
        path: the file; it is created if it does not exist. A torn last line is removed.

    Raises:
        OSError: the file cannot be read or written.
        ValueError: it is not a file of results, or another process has opened it.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = Path(path)
        self._descriptor = open_locked(Path(os.path.realpath(path)), os.O_CREAT | os.O_APPEND, called=self._path)
        try:
            lines, whole = _lines(self._path)
            os.ftruncate(self._descriptor, whole)
        except BaseException:
            os.close(self._descriptor)
            raise
        self._results = {result.job: result for result in lines}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)

    def missing(self, jobs: Iterable[Job]) -> list[Job]:
        """Return the jobs to run: those without a line of exactly their settings, and failed ones.

        Args:
            jobs: the jobs.

        Returns:
            The missing ones, in their order.
        """
        return [job for job in jobs if job not in self._results or self._results[job].measured is None]

    def append(self, result: Result) -> None:
        """Append the line of a job, and wait until it is on the disk.

        A failure is not written again if the file has it already.

        Args:
            result: the result.

        Raises:
            OSError: the line cannot be written; the lines before are unchanged.
        """
        before = self._results.get(result.job)
        if before is not None and result.error is not None and before.error == result.error:
            return
        line = (json.dumps(_to_dict(result), allow_nan=False) + "\n").encode()
        size = os.fstat(self._descriptor).st_size
        if os.write(self._descriptor, line) != len(line):
            os.ftruncate(self._descriptor, size)
            raise OSError(f"{self._path}: a result could not be written; is the disk full?")
        os.fsync(self._descriptor)
        self._results[result.job] = result

    def of(self, jobs: Iterable[Job]) -> list[Result]:
        """Return the results of jobs.

        Args:
            jobs: the jobs.

        Returns:
            The existing results, in the order of the jobs.
        """
        return [self._results[job] for job in jobs if job in self._results]


def latest(results: Sequence[Result]) -> list[Result]:
    """Leave out results of older configurations.

    Args:
        results: results in the order of their file.

    Returns:
        For each set, method and convolution the results that share settings and number of folds with its last one.
    """
    last = {_place(result.job): (result.job.settings, result.job.folds) for result in results}
    return [r for r in results if last[_place(r.job)] == (r.job.settings, r.job.folds)]


def _place(job: Job) -> tuple[str, str, str]:
    return job.dataset, job.method, job.conv


def _newest(results: Iterable[Result]) -> list[Result]:
    newest: dict[Job, Result] = {}
    for result in results:
        newest.pop(result.job, None)
        newest[result.job] = result
    return list(newest.values())


def _lines(path: Path) -> tuple[list[Result], int]:
    """Read the complete lines; return them and their size in bytes."""
    content = path.read_bytes()
    whole = content.rfind(b"\n") + 1
    torn = content[whole:]
    if not (_FIRST.startswith(torn) or torn.startswith(_FIRST)):
        raise ValueError(f"{path}: this is not a file of benchmark results; choose another name.")
    results = []
    for number, line in enumerate(content[:whole].splitlines(), 1):
        try:
            results.append(_from_dict(read_json(line)))
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path}, line {number}: this is not a result of a benchmark ({error!r}).") from None
    return results, whole


def _to_dict(result: Result) -> dict[str, Any]:
    job = asdict(result.job) | {"settings": json.loads(result.job.settings), "settings_hash": _digest(result.job)}
    measured: dict[str, Any] = {}
    if result.measured is not None:
        measured = asdict(result.measured)
        measured |= measured.pop("cost") or {}
        measured |= dict(zip(("train_size", "valid_size", "test_size"), measured.pop("sizes") or (), strict=False))
    about = {"error": result.error, "machine": result.machine, "versions": result.versions, "date": result.date}
    return job | measured | about


def _from_dict(line: dict[str, Any]) -> Result:
    job = Job(
        dataset=str(line["dataset"]),
        method=str(line["method"]),
        conv=str(line["conv"]),
        folds=int(line["folds"]),
        fold=int(line["fold"]),
        seed=int(line["seed"]),
        settings=canonical(line["settings"]),
    )
    measured = None
    if line["error"] is None:
        measured = JobResult(
            test_accuracy=float(line["test_accuracy"]),
            valid_accuracy=None if line["valid_accuracy"] is None else float(line["valid_accuracy"]),
            epochs=int(line["epochs"]),
            parameters=int(line["parameters"]),
            cost=Cost(
                float(line["wall_seconds"]),
                float(line["cpu_seconds"]),
                int(line["peak_memory_bytes"]),
                str(line["device"]),
            ),
            sizes=(int(line["train_size"]), int(line["valid_size"]), int(line["test_size"])),
        )
    return Result(job, measured, line["error"], str(line["machine"]), dict(line["versions"]), str(line["date"]))


def _digest(job: Job) -> str:
    """Return a short hash of the settings, for sorting lines by hand."""
    return hashlib.sha256(job.settings.encode()).hexdigest()[:12]


def _versions() -> dict[str, str]:
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def _machine() -> str:
    parts = [platform.machine(), counted(os.cpu_count() or 1, "processor"), platform.system()]
    with suppress(OSError, StopIteration):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        parts.insert(0, next(line.partition(":")[2].strip() for line in lines if line.startswith("model name")))
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        parts.append(torch.cuda.get_device_name())
    return ", ".join(parts)
