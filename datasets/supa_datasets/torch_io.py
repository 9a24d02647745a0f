"""PyTorch files that are whole whenever one looks, and that say what is wrong with them."""

import contextlib
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch

from supa.checks import format_value
from supa.file_lock import open_locked_temporary, sync_to_disk

UNREADABLE = (
    AttributeError, EOFError, IndexError, KeyError, RuntimeError, TypeError, UnpicklingError, ValueError,
    zipfile.BadZipFile, NotImplementedError,
)  # fmt: skip
"""What reading damaged or foreign contents raises."""


def write_atomic(path: str | os.PathLike[str], values: Mapping[str, Any]) -> None:
    """Write values and tensors, whole or not at all; a file of this name is replaced.

    Args:
        path: the file.
        values: plain values and tensors.

    Raises:
        OSError: it cannot be written.
        ValueError: another process is writing it.
    """
    path = Path(os.path.realpath(path))
    beside = path.with_name(f"{path.name}.new")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{path}: the folder {path.parent} does not exist; make it first.")
    descriptor = open_locked_temporary(beside, called=path)
    try:
        with os.fdopen(descriptor, "r+b") as file:
            file.truncate()
            torch.save(values, file)
            file.flush()
            os.fsync(file.fileno())
            beside.replace(path)  # still locked, so that nobody else writes to what now has the name
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            beside.unlink()
        raise
    sync_to_disk(path.parent)


def read_checked(path: str | os.PathLike[str], *, format_name: str, version: int, written_by: str) -> dict[str, Any]:
    """Read what ``write_atomic`` wrote.

    Args:
        path: the file.
        format_name: what its entry ``format`` must be.
        version: what its entry ``version`` must be.
        written_by: the command that writes such files, for messages.

    Returns:
        The values, tensors on the CPU; reading runs no code.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is of another kind, damaged, or of a newer version.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: there is no such file.")
    try:
        # PyTorch itself does not look whether the bytes are those that were written.
        with zipfile.ZipFile(path) as archive:
            broken = archive.testzip()
        values = None if broken else torch.load(path, map_location="cpu", weights_only=True)
    except UNREADABLE:
        values = None
    if values is None:
        raise ValueError(f"{path}: it is damaged, or no checkpoint of `{written_by}`.")
    if not isinstance(values, dict) or values.get("format") != format_name:
        raise ValueError(f"{path}: it is a PyTorch file, but no checkpoint of `{written_by}`.")
    if values.get("version") != version:
        raise ValueError(
            f"{path}: its version is {format_value(values.get('version'))}, but this program reads version "
            f"{version}; use the "
            "program that wrote it, or a newer one."
        )
    return values
