"""How an interrupted run is resumed: the names of its files, and the checks of what they hold."""

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
    """What a resumed run finds."""

    showers: int
    """Number of showers that it takes over."""
    finished: bool
    """Whether they are those of a finished file."""


def resumable(path: str | os.PathLike[str], run: Run, *, has_particles: bool = False) -> ResumeInfo:
    """Return what a ``ShowerWriter`` with ``resume=True`` would take over.

    Args:
        path: the file to write.
        run: what makes the showers.
        has_particles: whether every particle is written beside the hits.

    Returns:
        The number of showers, 0 if there is nothing to resume, and whether the file is finished.

    Raises:
        ValueError: the existing file is of another run, a selection of one, or damaged.
    """
    names = OutputNames(path)
    source = names.source(overwrite=False, resume=True)
    if source is None:
        return ResumeInfo(0, False)
    with names.opened(source) as file, named_errors(source):
        check_format(file)
        if stores_particles(file) != has_particles:
            raise ValueError("it was recorded otherwise (hits or particles); give the same arguments again")
        check_columns(file, unfinished=source == names.partial)
        count = read_progress(file)
        stored = read_run(file)
        difference = describe_difference(stored, run)
        if not difference and stored.first != run.first:
            difference = f"first is {stored.first} there, {run.first} here"
        if difference:
            raise ValueError(f"it is of another run ({difference}); give the same arguments again")
        last = int(dataset_at(file, "showers/index", "i8")[count - 1]) + 1 - run.first if count else 0
        if (run.keep == "all" and last != count) or (source == names.path and stored.attempts != last):
            raise ValueError("it holds a selection of showers, not the beginning of a run")
    return ResumeInfo(count, source == names.path)


class OutputNames:
    """The names under which a shower file is written: a fresh copy, the partial file, the finished file.

    Args:
        path: the file to write.

    Raises:
        FileNotFoundError: the folder does not exist.
        ValueError: there is something else than a regular file.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = resolve_target(path)
        self.partial = self.path.with_name(f"{self.path.name}.partial")
        self.fresh = self.path.with_name(f"{self.path.name}.fresh")

    def opened(self, source: Path) -> AbstractContextManager[h5py.File]:
        """Open the partial or the finished file.

        Args:
            source: which one.

        Returns:
            A context that gives the open file.
        """
        return open_unfinished(source) if source == self.partial else open_for_reading(source)

    def source(self, *, overwrite: bool, resume: bool) -> Path | None:
        """Return the file whose showers are taken over.

        Args:
            overwrite: whether an existing file is replaced.
            resume: whether an existing file is resumed.

        Returns:
            The partial or the finished file, None to start from the beginning.

        Raises:
            FileExistsError: there is a file, which is neither replaced nor resumed.
            ValueError: another process is writing the partial file.
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
                f"{self.path}: an unfinished run is in {self.partial.name}; resume it (--resume), or overwrite it "
                "(--overwrite)."
            )
        raise FileExistsError(
            f"{self.path} exists; choose another name, resume it (--resume), or overwrite it (--overwrite; in Python "
            "overwrite=True)."
        )


def describe_difference(one: Run, other: Run) -> str:
    """Describe the first difference of two runs, other than their first attempts.

    Args:
        one: a run, called "there".
        other: another run, called "here".

    Returns:
        The name of the differing value and both values; empty if there is no difference.
    """
    for name in ("seed", "engine", "keep"):
        if getattr(one, name) != getattr(other, name):
            return f"{name} is {getattr(one, name)!r} there, {getattr(other, name)!r} here"
    if one.config == other.config:
        return ""
    before, after = one.config.to_dict(), other.config.to_dict()
    name = next(name for name in before if before[name] != after[name])
    return f"{name} is {before[name]!r} there, {after[name]!r} here"
