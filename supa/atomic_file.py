"""Atomic writes: a file appears under its name only when it is complete, and survives a crash of the machine."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from supa.file_lock import open_locked_temporary


def resolve_target(path: str | os.PathLike[str]) -> Path:
    """Return the file that a write to a path replaces: the file itself, or the one that a link leads to.

    Args:
        path: the file to write.

    Returns:
        Its path.

    Raises:
        FileNotFoundError: the folder does not exist.
        ValueError: there is something else than a regular file.
    """
    target = Path(os.path.realpath(path)) if Path(path).is_symlink() else Path(path)
    if not target.parent.is_dir():
        raise FileNotFoundError(f"{target}: the folder {target.parent} does not exist; make it first.")
    if target.exists() and not target.is_file():
        raise ValueError(f"{target}: it is not a regular file, so nothing is written to it.")
    return target


def temporary_path(path: Path) -> Path:
    """Return the name under which ``atomic_write`` writes.

    Args:
        path: the file to write.

    Returns:
        ``NAME.new`` in the same folder.
    """
    return path.with_name(f"{path.name}.new")


@contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Open a file for writing that replaces ``path`` at the end of the ``with`` block, or not at all.

    Args:
        path: the file to write.

    Returns:
        A context that gives the open, empty, binary file.

    Raises:
        FileNotFoundError: the folder does not exist.
        OSError: the file cannot be written.
        ValueError: another process is writing it, or ``NAME.new`` is a link.
    """
    target = resolve_target(path)
    with reserve(target, temporary_path(target)) as descriptor, os.fdopen(os.dup(descriptor), "r+b") as file:
        file.truncate()
        yield file


@contextmanager
def reserve(target: Path, temporary: Path) -> Iterator[int]:
    """Hold the lock of a temporary file that replaces another one at the end of the ``with`` block, or is removed.

    Args:
        target: the file to write, from ``resolve_target``.
        temporary: the temporary file, in the same folder.

    Returns:
        A context that gives the descriptor of the temporary file.

    Raises:
        OSError: the file cannot be written.
        ValueError: another process is writing it, or the temporary file is a link.
    """
    descriptor = open_locked_temporary(temporary, called=target)
    try:
        yield descriptor
        promote(temporary, target)  # still locked, so that no other process writes to what now has the name
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    finally:
        os.close(descriptor)


def promote(temporary: Path, target: Path) -> None:
    """Rename a complete temporary file, and wait until its contents and its name are on the disk.

    Args:
        temporary: the complete file.
        target: its name, in the same folder.
    """
    sync_to_disk(temporary)
    temporary.replace(target)
    sync_to_disk(target.parent)


def sync_to_disk(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk.

    Args:
        path: the file or folder.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
