"""Safe reading of untrusted HDF5 files, and writing that does not hang on a full disk."""

import errno
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import h5py

from supa import ShowerConfig
from supa.checks import counted, format_value
from supa_datasets.conversion.run_json import CONFIG
from supa_datasets.conversion.untrusted_input import check_memory
from supa_datasets.hdf5_integrity import check_heaps
from supa_datasets.reader import open_for_reading

_ZEROS = bytes(1 << 20)
_STRUCTURE_BYTES = 1 << 20
"""Disk space in bytes for the structures that HDF5 writes in addition to the data."""


@contextmanager
def opened(path: Path) -> Iterator[h5py.File]:
    """Open an untrusted file for reading.

    Args:
        path: Path of the file.

    Returns:
        Context manager that returns the open file.
    """
    if path.is_file():
        check_heaps(path)
    with open_for_reading(path) as file:
        yield file


@contextmanager
def created(path: Path, config: ShowerConfig) -> Iterator[h5py.File]:
    """Create a file of another format, with the physics of its showers in an attribute.

    Args:
        path: Path of the file to create.
        config: Physics of the showers.

    Returns:
        Context manager that returns the open file.
    """
    # The converter itself locks the file.
    file = h5py.File(path, "w", locking=False)
    try:
        make_room(file, 0)
        file.attrs[CONFIG] = config.to_json()
        yield file
        file.flush()
    except BaseException:
        # After a failed write, closing fails as well. The first error is the one to report.
        with suppress(OSError, RuntimeError):
            file.close()
        raise
    file.close()


def make_room(file: h5py.File, nbytes: int) -> None:
    """Check that the disk has space for the next write, since HDF5 crashes if it cannot write a list.

    Args:
        file: The open file.
        nbytes: Number of bytes to write next.

    Raises:
        OSError: If the disk is full.
    """
    file.flush()
    descriptor = file.id.get_vfd_handle()
    size = os.fstat(descriptor).st_size
    try:
        for start in range(0, nbytes + _STRUCTURE_BYTES, len(_ZEROS)):
            if os.pwrite(descriptor, _ZEROS, size + start) < len(_ZEROS):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    finally:
        os.ftruncate(descriptor, size)


def stored_config(file: h5py.File) -> ShowerConfig | None:
    """Read the physics that this package stored in a file of another format.

    Args:
        file: The open file.

    Returns:
        The config, or None if the file was written by another program.

    Raises:
        ValueError: If the config is damaged.
    """
    text = file.attrs.get(CONFIG)
    if text is None:
        return None
    if not isinstance(text, str):
        raise ValueError(f"the attribute {CONFIG!r} must be a string, got {format_value(text)}")
    return ShowerConfig.from_json(text)


def dataset(file: h5py.File, name: str, shape: tuple[int | None, ...], kinds: str = "fiu") -> h5py.Dataset:
    """Return a dataset after checking that the file contains the rows that its header claims.

    Args:
        file: The open file.
        name: Name of the dataset.
        shape: Required shape; None for an axis of any length.
        kinds: Allowed kinds of the NumPy dtype; ``"O"`` for lists of numbers.

    Returns:
        The dataset.

    Raises:
        ValueError: If the dataset is missing, is stored in another file, has another shape or type, or claims missing
            rows.
    """
    if not isinstance(file.get(name, getlink=True), h5py.HardLink) or not isinstance(file[name], h5py.Dataset):
        raise ValueError(f"the dataset {name!r} is missing")
    found = file[name]
    if found.external or found.is_virtual:
        raise ValueError(f"the dataset {name!r} is stored in another file")
    given: tuple[int, ...] = found.shape or ()
    fits = len(given) == len(shape) and all(b in (None, a) for a, b in zip(given, shape, strict=True))
    if not fits or found.dtype.kind not in kinds or (kinds == "O" and h5py.check_vlen_dtype(found.dtype) is None):
        wanted = "x".join("N" if length is None else str(length) for length in shape)
        raise ValueError(f"the dataset {name!r} must be numbers of shape {wanted}, got {found.dtype} {given}")
    if not _is_there(found):
        raise ValueError(f"the dataset {name!r} claims {counted(given[0], 'row')}, but the file does not contain them")
    return found


def _is_there(found: h5py.Dataset) -> bool:
    """Return whether all data of a dataset are in the file, since HDF5 replaces missing data by a fill value."""
    if not found.size:
        return True
    if found.chunks is None:
        return bool(found.id.get_storage_size() >= found.size * found.dtype.itemsize)
    check_memory(math.prod(found.chunks) * found.dtype.itemsize, f"one chunk of {found.name!r}")
    chunks = math.prod(-(-length // chunk) for length, chunk in zip(found.shape, found.chunks, strict=True))
    return bool(found.id.get_num_chunks() == chunks)
