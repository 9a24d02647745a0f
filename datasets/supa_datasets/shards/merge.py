"""Merging of shards into one file, or into a virtual file that refers to them."""

import os
from collections.abc import Callable
from dataclasses import replace
from os import PathLike
from pathlib import Path

from supa.atomic_file import resolve_target
from supa_datasets.shards.checking import full_check
from supa_datasets.shards.manifest import Manifest, Shard
from supa_datasets.shards.opening import open_stored
from supa_datasets.shards.sharded_showers import ShardedShowers
from supa_datasets.shards.virtual_file import write_virtual_file
from supa_datasets.stored_showers import StoredShowers
from supa_datasets.writer import ShowerWriter

_PIECE_SHOWERS = 8192


def merge_shards(
    folder: str | PathLike[str],
    path: str | PathLike[str],
    *,
    virtual: bool = False,
    overwrite: bool = False,
    resume: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Merge the shards of a folder into one file.

    The file has the same bytes as one that a single process generated. The checksum of each shard is verified.

    Args:
        folder: Folder that `generate_shards` wrote.
        path: Path of the file to create; its folder must exist.
        virtual: Whether to write an HDF5 virtual file, which contains no showers but refers to the shards. It must be
            in the parent of ``folder`` or above, and the shards must stay where they are relative to it. Checksums are
            not verified.
        overwrite: Whether to replace an existing file.
        resume: Whether to continue a merge that was interrupted; not for virtual files.
        progress: Function that is called with the number of merged showers and of all showers.

    Raises:
        FileExistsError: If the file exists, and ``overwrite`` and ``resume`` are False.
        FileNotFoundError: If the folder of ``path`` does not exist.
        OSError: If the disk is full or fails.
        ValueError: If a shard is missing or damaged, or ``path`` is not allowed.

    Example:
        >>> from supa_datasets import ShowerFile, generate_shards, load, merge_shards
        >>> _ = generate_shards("dataset", 1000, "standard", shards=4, seed=1, workers=1)
        >>> merge_shards("dataset", "dataset.h5")
        >>> load("dataset.h5") == load("dataset")
        True
        >>> merge_shards("dataset", "virtual.h5", virtual=True)
        >>> len(ShowerFile("virtual.h5"))
        1000
    """
    folder, target = Path(folder), resolve_target(path)
    if not folder.is_dir():
        raise ValueError(f"{folder}: it is not a folder of shards.")
    manifest = Manifest.of_folder(folder)
    stored = open_stored(folder)
    assert isinstance(stored, ShardedShowers)
    try:
        if virtual:
            _write_virtual(folder, target, manifest, stored, overwrite=overwrite, resume=resume)
        else:
            _write_merged(folder, target, manifest, overwrite=overwrite, resume=resume, progress=progress)
    finally:
        stored.close()


def _write_virtual(
    folder: Path, target: Path, manifest: Manifest, stored: ShardedShowers, *, overwrite: bool, resume: bool
) -> None:
    if resume:
        raise ValueError("resume is for ordinary files; a virtual file is written at once.")
    if target.exists() and not overwrite:
        raise FileExistsError(
            f"{target} exists; choose another name or overwrite it (--overwrite; in Python overwrite=True)."
        )
    below = os.path.relpath(folder.resolve(), target.parent.resolve())
    if below.startswith(".."):
        raise ValueError(
            f"{target}: a virtual file refers to its shards by relative names, so it must be in the folder "
            f"{folder.resolve().parent} or above."
        )
    shards = tuple(shard.replace(file=(Path(below) / shard.file).as_posix()) for shard in manifest.shards)
    write_virtual_file(target, stored, manifest.replace(shards=shards))


def _write_merged(
    folder: Path,
    target: Path,
    manifest: Manifest,
    *,
    overwrite: bool,
    resume: bool,
    progress: Callable[[int, int], None] | None,
) -> None:
    with ShowerWriter(
        target,
        manifest.run,
        has_particles=manifest.has_particles,
        compression=manifest.compression,
        overwrite=overwrite,
        resume=resume,
    ) as writer:
        report = progress or _ignore
        report(writer.num_showers, manifest.num_showers)
        for shard in manifest.shards:
            if shard.first + shard.count > writer.next_attempt:
                _append(writer, folder, manifest, shard, report)


def _append(
    writer: ShowerWriter, folder: Path, manifest: Manifest, shard: Shard, report: Callable[[int, int], None]
) -> None:
    full_check(folder / shard.file, manifest, shard)
    part = StoredShowers(folder / shard.file)
    try:
        for start in range(writer.next_attempt - shard.first, shard.count, _PIECE_SHOWERS):
            showers = part.read_checked(start, min(start + _PIECE_SHOWERS, shard.count))
            # Nothing was dropped, so the number of attempts is the number of showers.
            writer.append(replace(showers, run=replace(manifest.run, attempts=len(showers))))
            report(writer.num_showers, manifest.num_showers)
    finally:
        part.close()


def _ignore(_done: int, _total: int) -> None:
    """Ignore the progress."""
