"""File of benchmark results: one line of JSON for each finished job."""

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

_REPEATED = ("machine", "versions")  # null if they are those of the line before
_FIRST = b'{"dataset": "'  # start of every line, to recognise an incomplete last line
_PACKAGES = ("supa-showers", "numpy", "scipy", "scikit-learn", "torch", "torch-geometric")


@dataclass(frozen=True)
class Result:
    """One line of a file of results.

    Args:
        job: Finished job.
        measured: Result of the job. None if it failed.
        error: Reason for the failure. None if the job succeeded.
        machine: Description of the machine.
        versions: Versions of Python and of the relevant packages.
        date: Time at which the job ended, in UTC and ISO 8601 format.
    """

    job: Job
    measured: JobResult | None
    error: str | None
    machine: str
    versions: dict[str, str]
    date: str


def finished(job: Job, outcome: JobResult | str) -> Result:
    """Return the result of a job that has just finished on this machine.

    Args:
        job: Finished job.
        outcome: Result of the job, or the reason for its failure.

    Returns:
        The result, with machine, versions and date.
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
    """Read a file of results. An incomplete last line is ignored.

    Args:
        path: File to read.

    Returns:
        The newest result of each job, in the order of the file.

    Raises:
        OSError: If the file cannot be read.
        ValueError: If a line is not a result.
    """
    lines, _ = _lines(Path(path))
    return _newest(lines)


class ResultsFile:
    """File of results that is open for appending and locked against other processes.

    Args:
        path: File to open. It is created if it does not exist. An incomplete last line is removed.

    Raises:
        OSError: If the file cannot be read or written.
        ValueError: If it is not a file of results, or another process has opened it.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = Path(path)
        self._descriptor = open_locked(Path(os.path.realpath(path)), os.O_CREAT | os.O_APPEND, called=self._path)
        try:
            lines, size = _lines(self._path)
            os.ftruncate(self._descriptor, size)
        except BaseException:
            os.close(self._descriptor)
            raise
        self._results = {result.job: result for result in lines}
        self._settings = {result.job.settings for result in lines}
        self._latest = lines[-1] if lines else None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)

    def missing(self, jobs: Iterable[Job]) -> list[Job]:
        """Return the jobs that have no result with the same settings, and the jobs that failed.

        Args:
            jobs: Jobs to look up.

        Returns:
            The missing jobs in the given order.
        """
        return [job for job in jobs if job not in self._results or self._results[job].measured is None]

    def append(self, result: Result) -> None:
        """Append a result and flush it to the disk.

        A failure is not appended again if the file already contains it.

        Args:
            result: Result to append.

        Raises:
            OSError: If the line cannot be written. The previous lines are unchanged.
        """
        before = self._results.get(result.job)
        if before is not None and result.error is not None and before.error == result.error:
            return
        line = (json.dumps(self._without_repetitions(result), allow_nan=False) + "\n").encode()
        size = os.fstat(self._descriptor).st_size
        if os.write(self._descriptor, line) != len(line):
            os.ftruncate(self._descriptor, size)
            raise OSError(f"{self._path}: a result could not be written. Check whether the disk is full.")
        os.fsync(self._descriptor)
        self._results[result.job] = result
        self._settings.add(result.job.settings)
        self._latest = result

    def _without_repetitions(self, result: Result) -> dict[str, Any]:
        """Return a line in which null stands for what earlier lines contain; it would be most of the file."""
        line = _to_dict(result)
        if result.job.settings in self._settings:
            line["settings"] = None  # settings_hash identifies the line that has them
        for name in _REPEATED:
            if self._latest is not None and getattr(self._latest, name) == line[name]:
                line[name] = None
        return line

    def of(self, jobs: Iterable[Job]) -> list[Result]:
        """Return the results of some jobs.

        Args:
            jobs: Jobs to look up.

        Returns:
            The existing results in the order of the jobs.
        """
        return [self._results[job] for job in jobs if job in self._results]


def latest(results: Sequence[Result]) -> list[Result]:
    """Return the results of the newest configuration of each dataset, method and convolution.

    Args:
        results: Results in the order of their file.

    Returns:
        The results that have the same settings and number of folds as the last one of their dataset, method and
        convolution.
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
    """Return the complete lines of a file, and their size in bytes."""
    content = path.read_bytes()
    size = content.rfind(b"\n") + 1
    incomplete = content[size:]
    if not (_FIRST.startswith(incomplete) or incomplete.startswith(_FIRST)):
        raise ValueError(f"{path} is not a file of benchmark results; choose another file.")
    results: list[Result] = []
    settings: dict[str, str] = {}
    for number, text in enumerate(content[:size].splitlines(), 1):
        try:
            line = read_json(text)
            if "settings" in line and line["settings"] is None:
                line["settings"] = json.loads(settings[line["settings_hash"]])
            line |= {name: getattr(results[-1], name) for name in _REPEATED if name in line and line[name] is None}
            results.append(_from_dict(line))
            settings[_digest(results[-1].job)] = results[-1].job.settings
        except (ValueError, KeyError, TypeError, IndexError) as error:
            raise ValueError(f"{path}, line {number}, is not a benchmark result ({error!r}).") from None
    return results, size


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
                line.get("energy_joules"),  # files of earlier versions have neither energy nor shares
                int(line.get("members", 1)),
                int(line.get("processes", 1)),
            ),
            sizes=(int(line["train_size"]), int(line["valid_size"]), int(line["test_size"])),
        )
    return Result(job, measured, line["error"], str(line["machine"]), dict(line["versions"]), str(line["date"]))


def _digest(job: Job) -> str:
    """Return a short hash of the settings, by which users can sort the lines of the file."""
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
