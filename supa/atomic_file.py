"""Atomic writes of files: a file appears under its name only when it is complete and stored on the disk."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from supa.file_lock import open_locked_temporary


def resolve_target(path: str | os.PathLike[str]) -> Path:
    """Return the file that a write to a path replaces, which is the target of a link or the file itself.

    Args:
        path: File to write.

    Returns:
        Path of the file to replace.

    Raises:
        FileNotFoundError: If the folder does not exist.
        ValueError: If the path exists but is not a regular file.
    """
    target = Path(os.path.realpath(path)) if Path(path).is_symlink() else Path(path)
    if not target.parent.is_dir():
        raise FileNotFoundError(f"{target}: the folder {target.parent} does not exist; make it first.")
    if target.exists() and not target.is_file():
        raise ValueError(f"{target}: it is not a regular file, so it cannot be replaced.")
    return target


def temporary_path(path: Path) -> Path:
    """Return the temporary file that ``atomic_write`` uses.

    Args:
        path: File to write.

    Returns:
        ``NAME.new`` in the same folder.
    """
    return path.with_name(f"{path.name}.new")


@contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Open a temporary file that replaces ``path`` if the ``with`` block ends without an error.

    Args:
        path: File to write.

    Returns:
        Context manager that yields an empty file, opened in binary mode.

    Raises:
        FileNotFoundError: If the folder does not exist.
        OSError: If the file cannot be written.
        ValueError: If another process is writing the file, or if ``NAME.new`` is a link.
    """
    target = resolve_target(path)
    with reserve(target, temporary_path(target)) as descriptor, os.fdopen(os.dup(descriptor), "r+b") as file:
        file.truncate()
        yield file


@contextmanager
def reserve(target: Path, temporary: Path) -> Iterator[int]:
    """Lock a temporary file, which replaces a target at the end of the ``with`` block.

    If the block raises an error, the temporary file is removed and the target is not changed.

    Args:
        target: File to write, from ``resolve_target``.
        temporary: Temporary file in the same folder.

    Returns:
        Context manager that yields the descriptor of the temporary file.

    Raises:
        OSError: If the file cannot be written.
        ValueError: If another process is writing the file, or if the temporary file is a link.
    """
    descriptor = open_locked_temporary(temporary, called=target)
    try:
        yield descriptor
        promote(temporary, target)  # while it is locked, so that no other process writes to the renamed file
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    finally:
        os.close(descriptor)


def promote(temporary: Path, target: Path) -> None:
    """Rename a complete temporary file and wait until its contents and its name are stored on the disk.

    Args:
        temporary: Complete temporary file.
        target: New name in the same folder.
    """
    sync_to_disk(temporary)
    temporary.replace(target)
    sync_to_disk(target.parent)


def sync_to_disk(path: Path) -> None:
    """Wait until a file, or the list of files in a folder, is stored on the disk.

    Args:
        path: File or folder.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
