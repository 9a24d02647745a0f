"""Creation of the HDF5 file of a shower file: properties and columns."""

import os
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from supa import Run
from supa.arrays import FloatArray
from supa_datasets.layout import PROGRESS, SHOWER_CHUNK, SHOWER_TYPES, WEIGHT, tables_of, write_run

# Linux copies aligned chunks into large pages of its cache, which takes two thirds of the time. Compressed chunks have
# arbitrary sizes, so aligning them would waste space.
_ALIGNMENT = 1 << 15

# The writer writes whole chunks, so a large chunk cache for each of about 20 columns is useless.
_WRITE_CACHE_BYTES = 1 << 18


def create_file(path: Path, descriptor: int, *, aligned: bool) -> h5py.File:
    """Create an empty HDF5 file that stays readable if the writing process dies.

    Args:
        path: Path of the file, which exists and is replaced.
        descriptor: Descriptor of the same file.
        aligned: Whether large chunks start at multiples of their usual size.

    Returns:
        The open file.

    Raises:
        OSError: If the disk has less than a megabyte of free space.
    """
    _check_disk_space(descriptor)
    access = h5py.h5p.create(h5py.h5p.FILE_ACCESS)
    access.set_fclose_degree(h5py.h5f.CLOSE_STRONG)
    # Single-writer-multiple-reader mode makes an unfinished file readable and requires the layout of HDF5 1.10.
    access.set_libver_bounds(h5py.h5f.LIBVER_V110, h5py.h5f.LIBVER_V110)
    if aligned:
        access.set_alignment(_ALIGNMENT, _ALIGNMENT)
    # The writer locks the file itself, since HDF5 releases its lock in this mode.
    access.set_file_locking(False, True)
    creation = _without_times(h5py.h5p.FILE_CREATE)
    return h5py.File(h5py.h5f.create(os.fsencode(path), h5py.h5f.ACC_TRUNC, fcpl=creation, fapl=access))


def create_columns(
    file: h5py.File, run: Run, *, has_particles: bool, filters: dict[str, Any], weight: FloatArray | None
) -> dict[str, h5py.Dataset]:
    """Write the attributes of a shower file and create its empty columns.

    Args:
        file: The empty file.
        run: Run of the showers.
        has_particles: Whether the file has a table of particles.
        filters: Result of ``compression_filters``.
        weight: (showers,) weights of all showers that will be written, or None.

    Returns:
        Columns by path. Keep them open: closing a column writes its remaining data, and errors cannot be caught there.
    """
    columns: dict[str, h5py.Dataset] = {}

    def create(name: str, kind: str, chunk: int, **filters: Any) -> None:
        columns[name] = file.create_dataset(
            name, (0,), kind, maxshape=(None,), chunks=(chunk,), rdcc_nbytes=_WRITE_CACHE_BYTES, **filters
        )

    write_run(file, run)
    tables = tables_of(has_particles)
    for group in ("showers", *(table.group for table in tables)):
        h5py.h5g.create(file.id, group.encode(), gcpl=_without_times(h5py.h5p.GROUP_CREATE))
    for table in tables:
        for name, kind in table.types.items():
            create(f"{table.group}/{name}", kind, table.chunk, **filters)
        create(table.offset, "i8", SHOWER_CHUNK)
    for name, kind in SHOWER_TYPES.items():
        create(f"showers/{name}", kind, SHOWER_CHUNK)
    if weight is not None:
        file.create_dataset(f"showers/{WEIGHT}", data=weight, dtype="f8")
    columns[PROGRESS] = file.create_dataset(PROGRESS, (1,), "i8", data=np.zeros(1, "i8"))
    # From now on HDF5 orders its writes such that the file is readable at any time.
    file.swmr_mode = True
    return columns


def _check_disk_space(descriptor: int) -> None:
    """Write a megabyte and remove it, since HDF5 crashes if it cannot write its first kilobytes."""
    with os.fdopen(os.dup(descriptor), "wb") as file:
        file.write(bytes(1 << 20))
    os.ftruncate(descriptor, 0)


def _without_times(kind: Any) -> Any:
    """Return creation properties without time stamps, so that the same showers give the same bytes."""
    properties = h5py.h5p.create(kind)
    properties.set_obj_track_times(False)
    return properties
