"""Virtual files: HDF5 virtual datasets whose sources are the shards of a dataset.

HDF5 returns fill values for rows of a missing source, without an error. A virtual file therefore contains the manifest
of its shards. `ShowerFile` checks all shards and reads them itself. The virtual columns are for other programs.
"""

import io
import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from supa.atomic_file import atomic_write
from supa_datasets.layout import (
    PROGRESS,
    SHOWER_TYPES,
    check_format,
    dataset_at,
    tables_of,
    write_run,
)
from supa_datasets.reader import named_errors, open_for_reading
from supa_datasets.shards.manifest import Manifest
from supa_datasets.shards.sharded_showers import ShardedShowers

MANIFEST_DATASET = "manifest"
_FILLS = {"f4": np.nan, "f8": np.nan, "u1": 255, "i4": -1, "i8": -1}


def read_virtual_manifest(path: Path) -> Manifest | None:
    """Return the manifest of a virtual file.

    Args:
        path: Path of a file.

    Returns:
        The manifest; None for an ordinary file.

    Raises:
        FileNotFoundError: If the file does not exist.
        ValueError: If the file is damaged, or its manifest is not valid.
    """
    with open_for_reading(path) as file, named_errors(path):
        check_format(file)
        if not file.id.links.exists(MANIFEST_DATASET.encode()):
            return None
        return Manifest.parsed(dataset_at(file, MANIFEST_DATASET, "u1")[:].tobytes())


def write_virtual_file(path: Path, showers: ShardedShowers, manifest: Manifest) -> None:
    """Write a virtual file.

    Args:
        path: Path of the file, which is replaced.
        showers: The open dataset.
        manifest: The dataset, with names of files relative to the folder of ``path``.

    Raises:
        OSError: If the file cannot be written.
    """
    with atomic_write(path) as target:
        # HDF5 writes into memory, so that a failing disk is an error of Python. The image of a file that is still open
        # has a superblock with a wrong checksum in HDF5 1.14.2, so the file is closed first.
        image = io.BytesIO()
        with h5py.File(image, "w", libver="latest") as file:
            _write(file, showers, manifest)
        target.write(image.getbuffer())


def _write(file: Any, showers: ShardedShowers, manifest: Manifest) -> None:
    run = manifest.run
    write_run(file, run)
    file.attrs.modify("attempts", np.int64(manifest.num_showers))
    file.attrs.modify("acceptance", 1.0)
    counts = np.array([shard.count for shard in manifest.shards])
    for name, kind in SHOWER_TYPES.items():
        _write_column(file, f"showers/{name}", kind, manifest, counts)
    boundaries = np.concatenate([[0], np.cumsum(counts)])
    for table in tables_of(manifest.has_particles):
        offset = showers.column(table.offset, "i8")
        file[table.offset] = offset
        for name, kind in table.types.items():
            _write_column(file, f"{table.group}/{name}", kind, manifest, np.diff(offset[boundaries]))
    file[PROGRESS] = np.array([manifest.num_showers])
    file[MANIFEST_DATASET] = np.frombuffer(json.dumps(manifest.to_dict()).encode(), dtype=np.uint8)


def _write_column(file: Any, path: str, kind: str, manifest: Manifest, rows: Any) -> None:
    layout = h5py.VirtualLayout((int(rows.sum()),), kind)
    start = 0
    for shard, count in zip(manifest.shards, rows.tolist(), strict=True):
        if count:
            layout[start : start + count] = h5py.VirtualSource(shard.file, path, (count,), kind)
        start += count
    file.create_virtual_dataset(path, layout, fillvalue=_FILLS[kind])
