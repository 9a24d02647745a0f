"""Checks of one shard: whether a file contains the showers that the manifest states."""

from pathlib import Path

from supa import Run
from supa_datasets.layout import check_format, read_progress, read_run, stores_particles
from supa_datasets.reader import named_errors, open_for_reading
from supa_datasets.resume import describe_difference
from supa_datasets.shards.checksum import checksum
from supa_datasets.shards.manifest import Manifest, Shard
from supa_datasets.stored_showers import StoredShowers


class ForeignShardError(ValueError):
    """Raised if a file contains showers of another run. Such a file is never replaced."""


def _check_range(path: Path, manifest: Manifest, shard: Shard, run: Run, count: int, *, has_particles: bool) -> None:
    """Check that a file has the run and the range of a shard.

    Args:
        path: Path of the file.
        manifest: The dataset.
        shard: The shard.
        run: Run of the file.
        count: Number of showers of the file.
        has_particles: Whether the file has recorded particles.

    Raises:
        ForeignShardError: If the file belongs to another run.
        ValueError: If the file contains another range of the run.
    """
    difference = describe_difference(run, manifest.run)
    if not difference and has_particles != manifest.has_particles:
        difference = "record is " + " there, ".join(_record(one) for one in (has_particles, manifest.has_particles))
        difference += " here"
    if difference:
        raise ForeignShardError(f"{path}: it belongs to another run ({difference}).")
    if (run.first, count, run.attempts) != (shard.first, shard.count, shard.count):
        twins = [one.file for one in manifest.shards if (one.first, one.count) == (run.first, count)]
        of = f", which are those of {twins[0]}" if twins else ""
        there = Shard(shard.file, run.first, count).indices if count else "none"
        raise ValueError(f"{path}: it contains the showers {there}{of}, instead of {shard.indices}.")


def _record(has_particles: bool) -> str:
    return repr("particles" if has_particles else "hits")


def quick_check(path: Path, manifest: Manifest, shard: Shard) -> None:
    """Check that the file of a shard exists, and its size, run and range, without reading its columns.

    Args:
        path: Path of the file.
        manifest: The dataset.
        shard: The shard.

    Raises:
        FileNotFoundError: If the file does not exist.
        ValueError: If the file is damaged, or is not this shard.
    """
    with open_for_reading(path) as file, named_errors(path):
        check_format(file)
        has_particles, run, count = stores_particles(file), read_run(file), read_progress(file)
    _check_range(path, manifest, shard, run, count, has_particles=has_particles)
    size = path.stat().st_size
    if size != shard.bytes:
        raise ValueError(f"{path}: it has {size:,} bytes, but the manifest states {shard.bytes or 0:,}.")


def full_check(path: Path, manifest: Manifest, shard: Shard) -> Shard:
    """Check the file of a shard and its checksum.

    Args:
        path: Path of the file.
        manifest: The dataset.
        shard: The shard.

    Returns:
        The shard with the size and the checksum of its file.

    Raises:
        FileNotFoundError: If the file does not exist.
        ForeignShardError: If the file belongs to another run.
        ValueError: If the file is damaged, or is not this shard.
    """
    stored = StoredShowers(path)
    try:
        _check_range(path, manifest, shard, stored.run, len(stored), has_particles=stored.has_particles)
        found = shard.replace(hits=stored.num_rows("hits"), bytes=stored.num_bytes, checksum=checksum(stored))
    finally:
        stored.close()
    if shard.checksum not in (None, found.checksum):
        raise ValueError(f"{path}: it is damaged: its columns do not have the checksum that the manifest states.")
    return found
