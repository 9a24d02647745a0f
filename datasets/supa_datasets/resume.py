"""Resuming an interrupted run: the names of its files and the checks of their contents."""

import os
from contextlib import AbstractContextManager
from pathlib import Path
from typing import NamedTuple

import h5py

from supa import Run
from supa.atomic_file import resolve_target
from supa.file_lock import open_locked
from supa_datasets.layout import check_columns, check_format, dataset_at, read_progress, read_run, stores_particles
from supa_datasets.reader import named_errors, open_for_reading, open_unfinished


class ResumeInfo(NamedTuple):
    """The showers that a resumed run can reuse, as returned by `resumable`.

    Args:
        showers: Number of reusable showers; 0 if there is nothing to resume.
        finished: Whether the showers come from a finished file, not from a partial one.

    Example:
        >>> import supa
        >>> from supa_datasets import resumable
        >>> resumable("new.h5", supa.simulate(1).run)
        ResumeInfo(showers=0, finished=False)
    """

    showers: int
    finished: bool


def resumable(path: str | os.PathLike[str], run: Run, *, has_particles: bool = False) -> ResumeInfo:
    """Return the showers that a `ShowerWriter` with ``resume=True`` would reuse.

    Args:
        path: Path of the file to write.
        run: Config, seed and other settings of the run, as in ``showers.run``.
        has_particles: Whether the run records the particles of the shower trees.

    Returns:
        Number of reusable showers, and whether they come from a finished file.

    Raises:
        ValueError: If the existing file belongs to another run, contains only a selection of a run, is damaged, or is
            being written by another process.

    Example:
        >>> import supa
        >>> from supa_datasets import resumable, save
        >>> showers = supa.simulate(100, "standard", seed=1)
        >>> save(showers, "showers.h5")
        >>> resumable("showers.h5", showers.run)
        ResumeInfo(showers=100, finished=True)
    """
    names = OutputNames(path)
    source = names.source(overwrite=False, resume=True)
    if source is None:
        return ResumeInfo(0, False)
    with names.opened(source) as file, named_errors(source):
        check_format(file)
        if stores_particles(file) != has_particles:
            raise ValueError("it was written with another choice of record (hits or particles); use the same arguments")
        check_columns(file, unfinished=source == names.partial)
        count = read_progress(file)
        stored = read_run(file)
        difference = describe_difference(stored, run)
        if not difference and stored.first != run.first:
            difference = f"first is {stored.first} there, {run.first} here"
        if difference:
            raise ValueError(f"it belongs to another run ({difference}); use the same arguments")
        last = int(dataset_at(file, "showers/index", "i8")[count - 1]) + 1 - run.first if count else 0
        if (run.keep == "all" and last != count) or (source == names.path and stored.attempts != last):
            raise ValueError("it contains a selection of showers, not the beginning of a run")
    return ResumeInfo(count, source == names.path)


class OutputNames:
    """The names under which a shower file is written: the fresh copy, the partial file and the finished file.

    Args:
        path: Path of the file to write.

    Raises:
        FileNotFoundError: If the folder does not exist.
        ValueError: If the path exists and is not a regular file.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = resolve_target(path)
        self.partial = self.path.with_name(f"{self.path.name}.partial")
        self.fresh = self.path.with_name(f"{self.path.name}.fresh")

    def opened(self, source: Path) -> AbstractContextManager[h5py.File]:
        """Open the partial or the finished file.

        Args:
            source: Path of the partial or the finished file.

        Returns:
            Context manager that returns the open file.
        """
        return open_unfinished(source) if source == self.partial else open_for_reading(source)

    def source(self, *, overwrite: bool, resume: bool) -> Path | None:
        """Return the file whose showers are reused.

        Args:
            overwrite: Whether an existing file is replaced.
            resume: Whether an existing file is resumed.

        Returns:
            Path of the partial or the finished file; None to start from the beginning.

        Raises:
            FileExistsError: If a file exists that is neither replaced nor resumed.
            ValueError: If another process is writing the partial file.
        """
        if self.partial.exists():
            os.close(open_locked(self.partial))
        there = [path for path in (self.partial, self.path) if path.exists()]
        if not there or overwrite:
            return None
        if resume:
            return there[0]
        if there[0] == self.partial:
            raise FileExistsError(
                f"{self.path}: {self.partial.name} contains an unfinished run; resume it (--resume) or overwrite it "
                "(--overwrite)."
            )
        raise FileExistsError(
            f"{self.path} exists; choose another name, resume it (--resume), or overwrite it (--overwrite; in Python "
            "overwrite=True)."
        )


def describe_difference(one: Run, other: Run) -> str:
    """Describe the first difference between two runs, except for their first attempts.

    Args:
        one: The run of a file, called "there".
        other: The current run, called "here".

    Returns:
        Name of the setting that differs and both values; an empty string if the runs are equal.
    """
    for name in ("seed", "engine", "keep", "model", "refinement"):
        if getattr(one, name) != getattr(other, name):
            return f"{name} is {getattr(one, name)!r} there, {getattr(other, name)!r} here"
    if one.config == other.config:
        return ""
    before, after = one.config.to_dict(), other.config.to_dict()
    name = next(name for name in before if before[name] != after[name])
    return f"{name} is {before[name]!r} there, {after[name]!r} here"
