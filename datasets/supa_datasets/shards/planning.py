"""The start of a generation in shards: the dataset that the arguments define, and the state of its folder."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from supa.checks import check_int
from supa.file_lock import open_locked_temporary
from supa.presets import ConfigLike, as_config
from supa.random import MAX_INDEX
from supa.simulation_plan import make_plan
from supa_datasets.compression import compression_filters
from supa_datasets.shards.manifest import MANIFEST, Manifest, listed

_LOCK = "manifest.json.lock"


def planned_dataset(
    num_showers: int,
    config: ConfigLike,
    *,
    shards: int,
    seed: int,
    first: int,
    record: Any,
    engine: Any,
    compression: Any,
) -> Manifest:
    """Check the arguments of `generate_shards` that define the dataset.

    Args:
        num_showers: Number of showers.
        config: Name of a preset or a config.
        shards: Number of files.
        seed: Random seed.
        first: Index of the first shower.
        record: ``"hits"`` or ``"particles"``.
        engine: ``"cpu"`` or ``"cuda"``.
        compression: One of ``COMPRESSIONS``.

    Returns:
        The dataset, of which no file is finished.

    Raises:
        ValueError: If an argument is not allowed.
    """
    if engine == "reference":
        raise ValueError(
            "engine: 'reference' was given, but it draws all showers from one stream, so each shard would simulate all "
            "showers before it; use 'cpu', or one file."
        )
    compression_filters(compression)
    if engine != "cuda":  # the GPU is needed on the workers only
        make_plan(num_showers, config, None, seed, first, "all", record, engine, 1, None)
    first = check_int(0, MAX_INDEX, "first", first)
    return Manifest.planned(
        shards,
        num_showers,
        first=first,
        config=as_config(config),
        seed=seed,
        engine="cpu",
        record=record,
        compression=compression,
    )


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Create and lock a folder, so that two runs do not write the same manifest.

    Args:
        folder: Folder of the dataset. It is removed at the end if it is empty.

    Returns:
        Context manager.

    Raises:
        ValueError: If another process holds the lock.
    """
    folder.mkdir(exist_ok=True)
    path = folder / _LOCK
    descriptor = open_locked_temporary(path, called=folder)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(descriptor)
        with suppress(OSError):
            folder.rmdir()


def begun(folder: Path, planned: Manifest) -> Manifest:
    """Return the manifest of a folder if it is that of the same dataset, or the planned one if there is none.

    Args:
        folder: Folder of the dataset.
        planned: The dataset that shall be generated.

    Returns:
        The dataset with the files that are finished.

    Raises:
        ValueError: If the folder contains another dataset.
    """
    if (folder / MANIFEST).exists():
        stored = Manifest.of_folder(folder)
        difference = stored.differences(planned)
        if difference:
            raise ValueError(f"{folder}: it contains another dataset ({difference}); choose another folder.")
        return stored
    files = sorted(file.name for file in folder.glob("shard-*.h5"))
    if files:
        raise ValueError(f"{folder}: it contains {listed(files)}, but no {MANIFEST}; choose another folder.")
    return planned
