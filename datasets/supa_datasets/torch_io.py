"""Atomic writes and safe reads of PyTorch files."""

import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch

from supa.atomic_file import atomic_write
from supa.checks import format_value

UNREADABLE = (
    AttributeError, EOFError, IndexError, KeyError, RuntimeError, TypeError, UnpicklingError, ValueError,
    zipfile.BadZipFile, NotImplementedError,
)  # fmt: skip
"""Exceptions that reading damaged or unexpected contents raises."""

_FOLDER = 0x10
"""Attribute of an entry of an archive that is a folder."""


def write_atomic(path: str | os.PathLike[str], values: Mapping[str, Any]) -> None:
    """Write values and tensors to a file atomically. An existing file is replaced.

    Args:
        path: Path of the file.
        values: Plain values and tensors by name.

    Raises:
        FileNotFoundError: If the folder does not exist.
        OSError: If the file cannot be written.
        ValueError: If another process is writing the file.
    """
    with atomic_write(path) as file:
        torch.save(values, file)


def read_checked(path: str | os.PathLike[str], *, format_name: str, version: int, written_by: str) -> dict[str, Any]:
    """Read a file of ``write_atomic`` without running code from the file.

    Args:
        path: Path of the file.
        format_name: Required value of the entry ``format``.
        version: Required value of the entry ``version``.
        written_by: Name of the command that writes such files, for messages.

    Returns:
        The values by name, with all tensors on the CPU.

    Raises:
        FileNotFoundError: If the file does not exist.
        ValueError: If the file has another format, is damaged, or has another version.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: there is no such file.")
    try:
        # PyTorch itself does not verify the checksums of the archive, and reads nothing where an entry claims to be a
        # folder, which leaves a tensor uninitialised.
        with zipfile.ZipFile(path) as archive:
            broken = archive.testzip() or any(entry.external_attr & _FOLDER for entry in archive.infolist())
        values = None if broken else torch.load(path, map_location="cpu", weights_only=True)
    except UNREADABLE:
        values = None
    if values is None:
        raise ValueError(f"{path}: it is damaged or not a checkpoint of `{written_by}`.")
    if not isinstance(values, dict) or values.get("format") != format_name:
        raise ValueError(f"{path}: it is a PyTorch file, but not a checkpoint of `{written_by}`.")
    if values.get("version") != version:
        raise ValueError(
            f"{path}: its version is {format_value(values.get('version'))}, but this program reads version {version}; "
            f"use the version that wrote it, or repeat `{written_by}`."
        )
    return values
