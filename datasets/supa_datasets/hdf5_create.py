"""How the HDF5 file of a shower file is created: its properties, its columns and their filters."""

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

# Blocks of the writer are much larger than chunks, so a cache of chunks only takes memory, for each of some 20 columns.
_WRITE_CACHE_BYTES = 1 << 18


def compression_filters(compression: Compression) -> dict[str, Any]:
    """Return the arguments of ``create_dataset`` for a compression.

    Args:
        compression: one of ``COMPRESSIONS``.

    Returns:
        The arguments, empty for no compression.

    Raises:
        ValueError: there is no such compression, or it needs a package that is not installed.
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
    """Create an empty HDF5 file that stays readable if the process that writes it dies.

    Args:
        path: the file, which exists and is replaced.
        descriptor: the descriptor of the same file.

    Returns:
        The open file.

    Raises:
        OSError: the disk does not take a megabyte.
    """
    _check_disk_space(descriptor)
    access = h5py.h5p.create(h5py.h5p.FILE_ACCESS)
    access.set_fclose_degree(h5py.h5f.CLOSE_STRONG)
    # Single-writer-multiple-reader mode, which makes an unfinished file readable, begins with the layout of HDF5 1.10.
    access.set_libver_bounds(h5py.h5f.LIBVER_V110, h5py.h5f.LIBVER_V110)
    # The lock is the writer's own: in that mode HDF5 would give its lock up.
    access.set_file_locking(False, True)
    creation = _without_times(h5py.h5p.FILE_CREATE)
    return h5py.File(h5py.h5f.create(os.fsencode(path), h5py.h5f.ACC_TRUNC, fcpl=creation, fapl=access))


def create_columns(
    file: h5py.File, run: Run, *, has_particles: bool, filters: dict[str, Any]
) -> dict[str, h5py.Dataset]:
    """Write the attributes of a shower file and create its empty columns.

    Args:
        file: the empty file.
        run: what makes the showers.
        has_particles: whether there is a table of particles.
        filters: what ``compression_filters`` returned.

    Returns:
        The columns by their paths. Keep them open: a column that is closed writes what it still holds, where no error
        can be caught.
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
    # From here on HDF5 orders its writes so that the file can be read whenever this process dies.
    file.swmr_mode = True
    return columns


def append_rows(column: h5py.Dataset, values: Any) -> None:
    """Append rows to a column.

    Args:
        column: the column.
        values: (rows,) the rows.
    """
    start = len(column)
    column.resize(start + len(values), axis=0)
    column[start:] = values


def _check_disk_space(descriptor: int) -> None:
    """Write a megabyte and take it back: HDF5 crashes where not even its first kilobytes can be written."""
    with os.fdopen(os.dup(descriptor), "wb") as file:
        file.write(bytes(1 << 20))
    os.ftruncate(descriptor, 0)


def _without_times(kind: Any) -> Any:
    """Return properties of a new object without its time, so that the same showers make the same bytes."""
    properties = h5py.h5p.create(kind)
    properties.set_obj_track_times(False)
    return properties
