"""The task of a worker: make the file of one shard, unless it exists."""

import socket
import uuid
from pathlib import Path
from typing import NamedTuple

from supa import stream
from supa.atomic_file import promote
from supa.simulation_plan import Engine
from supa_datasets.shards.checking import ForeignShardError, full_check
from supa_datasets.shards.manifest import MANIFEST, Manifest, Shard
from supa_datasets.writer import ShowerWriter


class ShardError(Exception):
    """Raised if a worker cannot make a shard. The message contains the reason and the host of the worker."""


class FinishedShard(NamedTuple):
    """Result of a task. It is small, because it travels through the scheduler."""

    shard: Shard
    """The shard with the size and the checksum of its file."""
    simulated: bool
    """Whether the file was simulated; otherwise it existed."""
    damage: str
    """What was wrong with an existing file that was replaced; empty if there was none."""


def make_shard(folder: Path, dataset: Manifest, engine: Engine) -> FinishedShard:
    """Make the file of one shard, unless it exists and has the right showers and checksum.

    The same shard may be made several times at the same moment, if a slow worker was presumed dead and another one got
    its task. Each attempt therefore writes to a temporary file of its own and renames it. All attempts write the same
    showers, so the order of the renames does not matter.

    Args:
        folder: Folder of the dataset.
        dataset: The dataset, reduced to this shard.
        engine: ``"cpu"`` or ``"cuda"``.

    Returns:
        The finished shard.

    Raises:
        ForeignShardError: If the existing file belongs to another run.
        ShardError: If the shard cannot be made.
    """
    [shard] = dataset.shards
    try:
        if not (folder / MANIFEST).is_file():
            raise OSError(f"there is no {folder / MANIFEST}: all workers must see the folder of the dataset")
        damage = ""
        if (folder / shard.file).exists():
            try:
                return FinishedShard(full_check(folder / shard.file, dataset, shard), False, "")
            except ForeignShardError:
                raise
            except ValueError as error:
                damage = str(error)
        return FinishedShard(_simulated(folder, dataset, shard, engine), True, damage)
    except ForeignShardError:
        raise
    except Exception as error:  # such as a full disk, or a GPU that is missing
        raise ShardError(f"{str(error).rstrip('.') or type(error).__name__}, on {socket.gethostname()}") from None


def _simulated(folder: Path, dataset: Manifest, shard: Shard, engine: Engine) -> Shard:
    path = folder / shard.file
    temporary = path.with_name(f"{path.stem}.{uuid.uuid4().hex[:12]}.tmp")
    try:
        with ShowerWriter(
            temporary,
            dataset.run,
            has_particles=dataset.has_particles,
            compression=dataset.compression,
            threads=1,
        ) as writer:
            chunks = stream(
                shard.count,
                dataset.config,
                seed=dataset.seed,
                first=shard.first,
                record=dataset.record,
                engine=engine,
                threads=1,
            )
            for showers in chunks:
                writer.append(showers)
        # The checksum is that of the file, so errors of the disk do not enter it unnoticed.
        found = full_check(temporary, dataset, shard.replace(checksum=None))
        if shard.checksum not in (None, found.checksum):
            raise ValueError(
                "its showers do not have the checksum in the manifest; use the version of supa-showers that began the "
                "dataset"
            )
        promote(temporary, path)
    except BaseException:
        for file in folder.glob(f"{temporary.name}*"):
            file.unlink(missing_ok=True)
        raise
    return found


def remove_temporary_files(folder: Path) -> None:
    """Remove what killed workers left.

    A worker that still writes such a file only fails to rename it.

    Args:
        folder: Folder of the dataset.
    """
    for file in folder.glob("shard-*.tmp*"):
        file.unlink(missing_ok=True)
