"""Files that one process writes at a time, and that are on the disk when they have their name."""

import errno
import fcntl
import os
from pathlib import Path


def locked(path: Path, flags: int = 0, *, called: Path | None = None) -> int:
    """Open a file and hold its lock, which ends with the descriptor or the process.

    Args:
        path: the file.
        flags: further flags of ``os.open``.
        called: the name that messages give it, by default its own.

    Returns:
        The descriptor.

    Raises:
        OSError: the file cannot be written.
        ValueError: another process holds it.
    """
    called = called or path
    try:
        descriptor = os.open(path, os.O_RDWR | flags, 0o666)
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


def synchronised(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk.

    Args:
        path: the file or folder.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
