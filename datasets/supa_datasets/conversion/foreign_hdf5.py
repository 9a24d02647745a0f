"""Foreign HDF5 files: opened without harm, and written without hanging on a full disk."""

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
"""Room for what HDF5 writes beside the data."""


@contextmanager
def opened(path: Path) -> Iterator[h5py.File]:
    """Open a foreign file for reading.

    Args:
        path: the file.

    Returns:
        A context that gives the open file.
    """
    if path.is_file():
        check_heaps(path)
    with open_for_reading(path) as file:
        yield file


@contextmanager
def created(path: Path, config: ShowerConfig) -> Iterator[h5py.File]:
    """Make a foreign file that tells the physics of its showers in an attribute.

    Args:
        path: the file to make.
        config: the physics.

    Returns:
        A context that gives the open file.
    """
    # The conversion holds the lock of the file itself.
    file = h5py.File(path, "w", locking=False)
    try:
        make_room(file, 0)
        file.attrs[CONFIG] = config.to_json()
        yield file
        file.flush()
    except BaseException:
        # A file that the disk did not take cannot be closed in order either; what counts is the first error.
        with suppress(OSError, RuntimeError):
            file.close()
        raise
    file.close()


def make_room(file: h5py.File, nbytes: int) -> None:
    """Try whether the disk takes some more bytes: HDF5 crashes where it cannot write a list.

    Args:
        file: the open file.
        nbytes: what will be written next.

    Raises:
        OSError: the disk does not take them.
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
    """Read the physics that a file of ours tells.

    Args:
        file: the open file.

    Returns:
        The config, or None where there is none.

    Raises:
        ValueError: it is damaged.
    """
    text = file.attrs.get(CONFIG)
    if text is None:
        return None
    if not isinstance(text, str):
        raise ValueError(f"the attribute {CONFIG!r} is {format_value(text)}")
    return ShowerConfig.from_json(text)


def dataset(file: h5py.File, name: str, shape: tuple[int | None, ...], kinds: str = "fiu") -> h5py.Dataset:
    """Look up a dataset and check that it holds what its header claims.

    Args:
        file: the open file.
        name: its name.
        shape: its shape; None where any length is allowed.
        kinds: the kinds of its NumPy type that are allowed; ``"O"`` for lists of numbers.

    Returns:
        The dataset.

    Raises:
        ValueError: it is missing, lies in another file, has another shape or type, or claims rows that are not there.
    """
    if not isinstance(file.get(name, getlink=True), h5py.HardLink) or not isinstance(file[name], h5py.Dataset):
        raise ValueError(f"the dataset {name!r} is missing")
    found = file[name]
    if found.external or found.is_virtual:
        raise ValueError(f"the dataset {name!r} lies in another file")
    given: tuple[int, ...] = found.shape or ()
    fits = len(given) == len(shape) and all(b in (None, a) for a, b in zip(given, shape, strict=True))
    if not fits or found.dtype.kind not in kinds or (kinds == "O" and h5py.check_vlen_dtype(found.dtype) is None):
        wanted = "x".join("N" if length is None else str(length) for length in shape)
        raise ValueError(f"the dataset {name!r} is {found.dtype} {given}, not numbers of shape {wanted}")
    if not _is_there(found):
        raise ValueError(f"the dataset {name!r} claims {counted(given[0], 'row')}, but the file does not hold them")
    return found


def _is_there(found: h5py.Dataset) -> bool:
    """Return whether all data of a dataset are in the file: HDF5 would make up what is not."""
    if not found.size:
        return True
    if found.chunks is None:
        return bool(found.id.get_storage_size() >= found.size * found.dtype.itemsize)
    check_memory(math.prod(found.chunks) * found.dtype.itemsize, f"one chunk of {found.name!r}")
    chunks = math.prod(-(-length // chunk) for length, chunk in zip(found.shape, found.chunks, strict=True))
    return bool(found.id.get_num_chunks() == chunks)
