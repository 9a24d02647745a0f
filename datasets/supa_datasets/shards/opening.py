"""Opening a path that contains showers: a file, a virtual file, or a folder of shards."""

from pathlib import Path

from supa_datasets.shards.checking import quick_check
from supa_datasets.shards.manifest import Manifest, listed
from supa_datasets.shards.sharded_showers import ShardedShowers
from supa_datasets.shards.virtual_file import read_virtual_manifest
from supa_datasets.stored_showers import StoredShowers

ADVICE = "Repeat the command that generated the dataset: it makes only what is missing or damaged."


def open_stored(path: Path) -> StoredShowers | ShardedShowers:
    """Open a file, a virtual file, or a folder of shards.

    Args:
        path: Path of the file or the folder.

    Returns:
        The open showers.

    Raises:
        FileNotFoundError: If the path does not exist.
        ValueError: If a file is damaged or of another format, or a shard is missing, damaged, or not the one that the
            manifest states.
    """
    if path.is_dir():
        manifest = Manifest.of_folder(path)
        _check_shards(path, path, manifest)
        unlisted = sorted({file.name for file in path.glob("shard-*.h5")} - {shard.file for shard in manifest.shards})
        if unlisted:
            raise ValueError(f"{path}: these files are not in its manifest: {listed(unlisted)}; move them away.")
        return ShardedShowers(path, path, manifest)
    virtual = read_virtual_manifest(path)
    if virtual is None:
        return StoredShowers(path)
    _check_shards(path, path.parent, virtual)
    return ShardedShowers(path, path.parent, virtual)


def _check_shards(path: Path, folder: Path, manifest: Manifest) -> None:
    unfinished, total = manifest.unfinished, len(manifest.shards)
    if unfinished:
        raise ValueError(
            f"{path}: shards are not finished ({len(unfinished):,} of {total:,}): {listed(unfinished)}. {ADVICE}"
        )
    problems = []
    for shard in manifest.shards:
        try:
            quick_check(folder / shard.file, manifest, shard)
        except (FileNotFoundError, ValueError) as error:
            problems.append(str(error).rstrip("."))
    if problems:
        advice = ADVICE if path.is_dir() else "Restore the sources, or merge them again."
        raise ValueError(f"{path}: shards are wrong ({len(problems):,} of {total:,}): {listed(problems)}. {advice}")
