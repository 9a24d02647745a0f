"""Creation of the HDF5 file of a shower file: properties, columns and compression filters."""

import os
from pathlib import Path
from typing import Any, Literal

import h5py
import numpy as np

from supa import Run
from supa.checks import did_you_mean
from supa_datasets.layout import PROGRESS, SHOWER_CHUNK, SHOWER_TYPES, tables_of, write_run

Compression = Literal["none", "lz4", "zstd", "gzip"]
COMPRESSIONS: tuple[Compression, ...] = ("none", "lz4", "zstd", "gzip")
"""Names of the compressions."""

# The blocks of the writer are much larger than chunks, so a large chunk cache for each of about 20 columns is useless.
_WRITE_CACHE_BYTES = 1 << 18


def compression_filters(compression: Compression) -> dict[str, Any]:
    """Return the arguments of ``create_dataset`` for a compression.

    Args:
        compression: One of ``COMPRESSIONS``.

    Returns:
        Keyword arguments; empty without compression.

    Raises:
        ValueError: If there is no such compression, or its package is not installed.
    """
    if compression not in COMPRESSIONS:
        raise ValueError(
            f"compression: {compression!r} was given, but it must be one of {', '.join(COMPRESSIONS)}."
            f"{did_you_mean(compression, COMPRESSIONS)}"
        )
    if compression == "none":
        return {}
    if compression == "gzip":
        return {"compression": "gzip", "compression_opts": 4, "shuffle": True}
    try:
        import hdf5plugin
    except ImportError:
        raise ValueError(
            f"compression: {compression!r} needs the package hdf5plugin: pip install 'supa-showers[compression]'."
        ) from None
    return dict(hdf5plugin.Blosc2(cname=compression, clevel=5, filters=hdf5plugin.Blosc2.SHUFFLE))


def create_file(path: Path, descriptor: int) -> h5py.File:
    """Create an empty HDF5 file that stays readable if the writing process dies.

    Args:
        path: Path of the file, which exists and is replaced.
        descriptor: Descriptor of the same file.

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
    # The writer locks the file itself, since HDF5 releases its lock in this mode.
    access.set_file_locking(False, True)
    creation = _without_times(h5py.h5p.FILE_CREATE)
    return h5py.File(h5py.h5f.create(os.fsencode(path), h5py.h5f.ACC_TRUNC, fcpl=creation, fapl=access))


def create_columns(
    file: h5py.File, run: Run, *, has_particles: bool, filters: dict[str, Any]
) -> dict[str, h5py.Dataset]:
    """Write the attributes of a shower file and create its empty columns.

    Args:
        file: The empty file.
        run: Run of the showers.
        has_particles: Whether the file has a table of particles.
        filters: Result of ``compression_filters``.

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
        append_rows(columns[table.offset], np.zeros(1, "i8"))
    for name, kind in SHOWER_TYPES.items():
        create(f"showers/{name}", kind, SHOWER_CHUNK)
    columns[PROGRESS] = file.create_dataset(PROGRESS, (1,), "i8", data=np.zeros(1, "i8"))
    # From now on HDF5 orders its writes such that the file is readable at any time.
    file.swmr_mode = True
    return columns


def append_rows(column: h5py.Dataset, values: Any) -> None:
    """Append rows to a column.

    Args:
        column: The column.
        values: (rows,) values to append.
    """
    start = len(column)
    column.resize(start + len(values), axis=0)
    column[start:] = values


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
