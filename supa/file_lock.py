"""File locks, which ensure that only one process writes a file at a time."""

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


def open_locked(path: Path, flags: int = 0, *, called: Path | None = None) -> int:
    """Open a file and lock it until the descriptor is closed or the process ends.

    Symbolic links are not followed, because anyone with write access to the folder could point a link to any file of
    the user.

    Args:
        path: Path of the file.
        flags: Additional flags of ``os.open``.
        called: Path to state in error messages. By default ``path``.

    Returns:
        File descriptor.

    Raises:
        OSError: If the file cannot be written.
        ValueError: If another process holds the lock, or if the file is not a regular file.
    """
    called = called or path
    if path.is_symlink() or (path.exists() and not path.is_file()):
        raise ValueError(f"{called}: {path.name}, which would be written, is a link or not a regular file; remove it.")
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | flags, 0o666)
    except OSError as error:
        creation_failed = error.errno == errno.ENOENT and flags & os.O_CREAT and path.parent.is_dir()
        reason = f"no file can be created in the folder {path.parent}" if creation_failed else error.strerror
        raise OSError(f"{called}: the file cannot be written ({reason}).") from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise ValueError(f"{called}: another process is writing it; wait until it has finished.") from None
    except OSError:
        return descriptor  # a file system without locks
    if not path.exists() or path.stat().st_ino != os.fstat(descriptor).st_ino:
        os.close(descriptor)
        raise ValueError(f"{called}: another process is writing it; wait until it has finished.")
    return descriptor


def open_locked_temporary(path: Path, *, called: Path | None = None) -> int:
    """Create or open a temporary file, which will replace another file, and lock it.

    Args:
        path: Path of the temporary file.
        called: Path to state in error messages. By default ``path``.

    Returns:
        File descriptor.

    Raises:
        OSError: If the file cannot be written.
        ValueError: If another process holds the lock, or if the file has more than one hard link.
    """
    descriptor = open_locked(path, os.O_CREAT, called=called)
    if os.fstat(descriptor).st_nlink > 1:
        os.close(descriptor)
        raise ValueError(f"{called or path}: {path.name}, which would be written, is a link to a file; remove it.")
    return descriptor


@contextmanager
def wait_for_lock(path: Path, *, shared: bool = False) -> Iterator[None]:
    """Hold the lock of a file during a ``with`` block, after waiting until it is free.

    The lock is released at the end of the block or of the process. If the file can be neither created nor read, or if
    the file system does not support locks, the block runs without a lock.

    Args:
        path: Path of the file, which is created if it does not exist.
        shared: Whether other holders that also set ``shared`` may hold the lock at the same time.

    Returns:
        Context manager.
    """
    descriptor = None
    for flags in (os.O_RDWR | os.O_CREAT, os.O_RDONLY):  # the second is for read-only folders
        try:
            descriptor = os.open(path, flags, 0o666)
            break
        except OSError:
            continue
    try:
        if descriptor is not None:
            with suppress(OSError):
                fcntl.flock(descriptor, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
        yield
    finally:
        if descriptor is not None:
            os.close(descriptor)
