"""Folders of shards that are written in this process, without a scheduler."""

from pathlib import Path

import supa
from supa_datasets.layout import SHOWER_TYPES, tables_of
from supa_datasets.shards.manifest import Manifest
from supa_datasets.shards.task import make_shard


def planned(num_showers: int = 60, shards: int = 4, **changes) -> Manifest:
    """Return the manifest of a small dataset of which no file is finished."""
    settings = {"config": "two-primaries", "seed": 8, "first": 5, "record": "hits", "compression": "none", **changes}
    return Manifest.planned(
        shards, num_showers, engine="cpu", **{**settings, "config": supa.preset(settings["config"])}
    )


def write_folder(folder: Path, *arguments, **changes) -> Manifest:
    """Write all files and the manifest of a small dataset, and return the manifest."""
    manifest = planned(*arguments, **changes)
    folder.mkdir(exist_ok=True)
    manifest.write(folder)
    shards = tuple(make_shard(folder, manifest.reduced_to(k), "cpu").shard for k in range(len(manifest.shards)))
    manifest = manifest.replace(shards=shards)
    manifest.write(folder)
    return manifest


def write_shard(folder: Path, number: int, **changes) -> None:
    """Replace the file of one shard by that of a dataset with other settings."""
    reduced = planned(**changes).reduced_to(number)
    (folder / reduced.shards[0].file).unlink()
    make_shard(folder, reduced, "cpu")


def write_single(path: Path, manifest: Manifest) -> None:
    """Write the showers of a dataset into one file."""
    from supa_datasets import save

    run = manifest.run
    showers = supa.simulate(
        manifest.num_showers, run.config, seed=run.seed, first=run.first, record=manifest.record, threads=1
    )
    save(showers, path, compression=manifest.compression)


def columns(file) -> dict:
    """Return every column of an open file."""
    names = [("showers", name) for name in (*SHOWER_TYPES, "offset")]
    for table in tables_of(file.has_particles):
        names += [(table.group, name) for name in table.types]
        names += [(table.group, "offset")] * (table.group != "hits")
    return {f"{table}/{name}": file.column(table, name).tobytes() for table, name in names}


def flip_a_byte(path: Path) -> None:
    """Change a byte of the energy of a hit."""
    import h5py

    with h5py.File(path) as file:
        place = file["hits/energy"].id.get_chunk_info(0).byte_offset
    with path.open("r+b") as file:
        file.seek(place)
        byte = file.read(1)
        file.seek(place)
        file.write(bytes([byte[0] ^ 1]))
