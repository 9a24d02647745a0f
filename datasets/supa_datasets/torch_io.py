"""PyTorch files: atomic writes, safe reads, and clear errors."""

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
"""What reading damaged or foreign contents raises."""


def write_atomic(path: str | os.PathLike[str], values: Mapping[str, Any]) -> None:
    """Write values and tensors atomically; an existing file is replaced.

    Args:
        path: the file.
        values: plain values and tensors.

    Raises:
        FileNotFoundError: the folder does not exist.
        OSError: the file cannot be written.
        ValueError: another process is writing it.
    """
    with atomic_write(path) as file:
        torch.save(values, file)


def read_checked(path: str | os.PathLike[str], *, format_name: str, version: int, written_by: str) -> dict[str, Any]:
    """Read what ``write_atomic`` wrote, without running code from the file.

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
