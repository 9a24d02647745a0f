"""Locks of files, so that one process writes a file at a time."""

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


def open_locked(path: Path, flags: int = 0, *, called: Path | None = None) -> int:
    """Open a file and hold its lock, which ends with the descriptor or the process.

    A link of this name is not followed: anyone who can write into the folder could point it at any file of the user.

    Args:
        path: the file.
        flags: further flags of ``os.open``.
        called: the name that messages give the file, by default its own.

    Returns:
        The descriptor.

    Raises:
        OSError: the file cannot be written.
        ValueError: another process holds the lock, or the file is not a regular file.
    """
    called = called or path
    if path.is_symlink() or (path.exists() and not path.is_file()):
        raise ValueError(f"{called}: {path.name}, which would be written, is a link or not a regular file; remove it.")
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | flags, 0o666)
    except OSError as error:
        takes_none = error.errno == errno.ENOENT and flags & os.O_CREAT and path.parent.is_dir()
        reason = f"the folder {path.parent} takes no new file" if takes_none else error.strerror
        raise OSError(f"{called}: the file cannot be written ({reason}).") from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise ValueError(f"{called}: another process is writing it; wait for its end.") from None
    except OSError:
        return descriptor  # a file system without locks
    if not path.exists() or path.stat().st_ino != os.fstat(descriptor).st_ino:
        os.close(descriptor)
        raise ValueError(f"{called}: another process is writing it; wait for its end.")
    return descriptor


def open_locked_temporary(path: Path, *, called: Path | None = None) -> int:
    """Create or open the temporary file that will replace another file, and hold its lock.

    Args:
        path: the temporary file.
        called: the name that messages give the file, by default its own.

    Returns:
        The descriptor.

    Raises:
        OSError: the file cannot be written.
        ValueError: another process holds the lock, or the file has a second name (a hard link).
    """
    descriptor = open_locked(path, os.O_CREAT, called=called)
    if os.fstat(descriptor).st_nlink > 1:
        os.close(descriptor)
        raise ValueError(f"{called or path}: {path.name}, which would be written, is a link to a file; remove it.")
    return descriptor


@contextmanager
def wait_for_lock(path: Path, *, shared: bool = False) -> Iterator[None]:
    """Hold the lock of a file in a ``with`` block; wait while another process or thread holds it.

    The lock ends with the block or with the process. If the file can be neither created nor read, or the file system
    has no locks, the block runs without a lock.

    Args:
        path: the file, which is created if it does not exist.
        shared: whether others may hold the lock at the same time, if they also share it.

    Returns:
        A context.
    """
    descriptor = None
    for flags in (os.O_RDWR | os.O_CREAT, os.O_RDONLY):  # the second for a folder that is only read
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
