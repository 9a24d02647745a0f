"""A folder of shards behaves as one file, and a wrong shard is found and named."""

import json
import os
import pickle
import shutil

import numpy as np
import pytest
from shard_folders import columns, flip_a_byte, planned, write_folder, write_shard, write_single

from supa_datasets import ShowerFile, load
from supa_datasets.shards import sharded_showers
from supa_datasets.shards.manifest import MANIFEST, Manifest


@pytest.fixture(scope="module", params=["none", "gzip"])
def pair(request, tmp_path_factory):
    """Return the folder of a dataset with trees, and a file of the same showers."""
    base = tmp_path_factory.mktemp("pair")
    manifest = write_folder(base / "folder", record="particles", compression=request.param)
    write_single(base / "single.h5", manifest)
    return base / "folder", base / "single.h5"


KEYS = {
    "one": 17,
    "the last": -1,
    "inside of a shard": slice(16, 20),
    "several shards": slice(3, 58),
    "all": slice(None),
    "a step": slice(50, 2, -7),
    "none": slice(7, 7),
    "none at the end": slice(60, 70),
    "an empty list": [],
    "any order": [59, 0, 15, 14, 15, 30, -1],
    "a mask": np.arange(60) % 3 == 0,
}


@pytest.mark.parametrize("key", KEYS.values(), ids=KEYS)
def test_every_index_selects_the_same_showers(pair, monkeypatch, key):
    monkeypatch.setattr(sharded_showers, "MOST_OPEN", 2)
    with ShowerFile(pair[0]) as folder, ShowerFile(pair[1]) as single:
        assert folder[key] == single[key]
        assert folder[key].run == single[key].run
        assert len(folder._stored._parts) <= 2


def test_a_folder_has_all_properties_of_a_file(pair):
    with ShowerFile(pair[0]) as folder, ShowerFile(pair[1]) as single:
        assert len(folder) == len(single) == 60
        assert folder.run == single.run
        assert folder.has_particles
        assert folder.attributes == single.attributes
        assert folder.compression == single.compression
        assert folder.num_hits.tolist() == single.num_hits.tolist()
        assert folder.num_particles.tolist() == single.num_particles.tolist()
        assert columns(folder) == columns(single)
        assert [chunk.index.tolist() for chunk in folder.chunks(13)] == [c.index.tolist() for c in single.chunks(13)]
        assert [shower.index[0] for shower in folder] == list(range(5, 65))
        assert repr(folder).split(": ")[1] == repr(single).split(": ")[1]
        assert folder._repr_html_().split("</caption>")[1] == single._repr_html_().split("</caption>")[1]
        assert folder.num_bytes == sum(path.stat().st_size for path in folder.shards)
        assert single.shards == (single.path,)
        assert folder.faults() == single.faults() == []
        for file in (folder, single):
            with pytest.raises(IndexError, match="Shower 60 does not exist"):
                file[60]
            with pytest.raises(ValueError, match="there is no column hits/fate"):
                file.column("hits", "fate")
    with pytest.raises(ValueError, match="was closed"):
        folder[0]


def test_showers_of_several_shards_must_fit_into_the_memory(pair, monkeypatch):
    with ShowerFile(pair[0]) as folder:
        monkeypatch.setattr("supa_datasets.reader._READ_AT_ONCE", 0)
        monkeypatch.setattr("supa_datasets.reader.available_bytes", lambda: folder.num_bytes)
        assert len(folder[10:20]) == 10
        with pytest.raises(ValueError, match=r"folder: its showers 5 to 59 need 0.0 GB of memory, more than is avail"):
            folder[5:]


def test_a_folder_can_be_pickled_and_inherited(pair):
    with ShowerFile(pair[0]) as folder, pickle.loads(pickle.dumps(folder)) as copy:
        assert copy[20] == folder[20]
        child = os.fork()
        if child == 0:
            os._exit(0 if folder[20] == copy[20] else 1)
        assert os.waitpid(child, 0)[1] == 0


def test_a_replaced_folder_is_recognised_after_pickling(tmp_path):
    write_folder(tmp_path / "a")
    pickled = pickle.dumps(ShowerFile(tmp_path / "a"))
    shutil.rmtree(tmp_path / "a")
    write_folder(tmp_path / "a", seed=9)
    with pytest.raises(ValueError, match="has changed since it was pickled"):
        pickle.loads(pickled)


LOADERS = {
    "points": ("PointDataset", {"targets": ["incident_energy", "source", "attempt"], "normalisation": "fit"}),
    "graphs": ("GraphDataset", {"targets": ["num_primaries"]}),
    "sequences": ("SequenceDataset", {"targets": ["primary"]}),
    "images": ("ImageDataset", {"targets": ["leaked_energy"]}),
}


@pytest.mark.parametrize("name", LOADERS)
def test_every_loader_accepts_a_folder(pair, name):
    pytest.importorskip("torch_geometric", reason="PyTorch Geometric is not installed")
    import supa_datasets

    kind, options = LOADERS[name]
    batches = []
    for path in pair:
        dataset = getattr(supa_datasets, kind)(path, split="train", **options)
        numbers = np.random.default_rng(1).permutation(len(dataset))
        batch = dataset.collate(dataset.__getitems__(numbers.tolist()))
        batches.append(dict(batch.to_dict() if hasattr(batch, "to_dict") else batch))
    one, other = batches
    assert one.keys() == other.keys()
    for key, value in one.items():
        assert np.array_equal(np.asarray(value), np.asarray(other[key]), equal_nan=True), key


# ---------------------------------------------------------------------- wrong shards


def _truncate(folder):
    os.truncate(folder / "shard-00001.h5", 50_000)


def _write_text(folder):
    (folder / "shard-00001.h5").write_text("no HDF5")


WRONG = {
    "missing": (lambda folder: (folder / "shard-00001.h5").unlink(), "there is no such file"),
    "truncated": (_truncate, "damaged or truncated"),
    "text": (_write_text, "not an HDF5 file"),
    "foreign seed": (lambda folder: write_shard(folder, 1, seed=9), "another run .seed is 9 there, 8 here"),
    "foreign config": (
        lambda folder: write_shard(folder, 1, config="standard"),
        "another run .impact_spread is 0.0 there, 2.0 here",
    ),
    "other record": (
        lambda folder: write_shard(folder, 1, record="particles"),
        "record is 'particles' there, 'hits' here",
    ),
    "other range": (lambda folder: write_shard(folder, 1, first=100), "the showers 115 to 129, instead of 20 to 34"),
    "other count": (lambda folder: write_shard(folder, 1, shards=3), "the showers 25 to 44, instead of 20 to 34"),
    "doubled": (
        lambda folder: shutil.copy(folder / "shard-00002.h5", folder / "shard-00001.h5"),
        "the showers 35 to 49, which are those of shard-00002.h5, instead of 20 to 34",
    ),
    "other size": (lambda folder: write_shard(folder, 1, compression="gzip"), "bytes, but the manifest states"),
}


@pytest.mark.parametrize("name", WRONG)
def test_opening_names_a_wrong_shard(folder, name):
    damage, message = WRONG[name]
    damage(folder)
    with pytest.raises(ValueError, match=rf"dataset: shards are wrong .1 of 4.: \S+shard-00001.h5: .*{message}"):
        ShowerFile(folder)


def test_several_wrong_shards_are_named_together(folder):
    (folder / "shard-00000.h5").unlink()
    (folder / "shard-00003.h5").unlink()
    with pytest.raises(ValueError, match=r"wrong .2 of 4.: .*-00000.h5: .*; \S*-00003.h5: .*Repeat the command"):
        load(folder)


def test_a_copy_of_a_shard_under_another_name_is_named(folder):
    shutil.copy(folder / "shard-00001.h5", folder / "shard-00001-copy.h5")
    with pytest.raises(ValueError, match=r"not in its manifest: shard-00001-copy.h5; move them away"):
        ShowerFile(folder)


def test_a_flipped_bit_is_found_by_the_checksum(folder):
    flip_a_byte(folder / "shard-00002.h5")
    with ShowerFile(folder) as file:
        faults = {fault.kind: (fault.count, fault.shower) for fault in file.faults()}
    assert faults["the checksum of shard-00002.h5"] == (15, 30)


def test_a_fault_has_the_position_in_the_whole_dataset(folder):
    import h5py

    with h5py.File(folder / "shard-00002.h5", "r+") as file:
        file["showers/leaked_energy"][4] = 1e6
    with ShowerFile(folder) as file:
        assert [fault.shower for fault in file.faults()] == [30, 34]


def _changed(folder, change) -> None:
    values = json.loads((folder / MANIFEST).read_text())
    change(values)
    (folder / MANIFEST).write_text(json.dumps(values))


MANIFESTS = {
    "doubled": (lambda v: v["shards"].insert(1, v["shards"][0]), "shard-00000.h5 is listed twice"),
    "a gap": (lambda v: v["shards"].pop(1), "shard-00002.h5 has 15 showers from 35, but the next shower is 20"),
    "no end": (lambda v: v["shards"].pop(), "they end before shower 50, not 65"),
    "outside": (lambda v: v["shards"][0].update(file="../a.h5"), "'../a.h5' was given, but it must be a name"),
    "absolute": (lambda v: v["shards"][0].update(file="/a.h5"), "'/a.h5' was given, but it must be a name"),
    "a newer version": (lambda v: v.update(version=2), "its version is 2, but this program reads versions up to 1"),
    "another format": (lambda v: v.update(format="x"), "not a manifest of the format 'supa-shards'"),
    "unfinished": (lambda v: v["shards"][3].update(checksum=None), "shards are not finished .1 of 4.: shard-00003"),
    "a wrong type": (lambda v: v["shards"][3].update(count="many"), "'many' was given, but it must be a whole number"),
}


@pytest.mark.parametrize("name", MANIFESTS)
def test_a_wrong_manifest_is_refused(folder, name):
    change, message = MANIFESTS[name]
    _changed(folder, change)
    with pytest.raises(ValueError, match=message):
        ShowerFile(folder)


def test_a_folder_without_a_manifest_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"a folder without manifest.json, not a dataset in shards"):
        ShowerFile(tmp_path)


def test_a_manifest_is_read_as_it_was_written(whole, tmp_path):
    manifest = Manifest.of_folder(whole)
    manifest.write(tmp_path)
    assert Manifest.of_folder(tmp_path) == manifest
    assert manifest.unfinished == []
    assert planned(10, 4).unfinished == [f"shard-0000{k}.h5" for k in range(4)]
    assert [shard.count for shard in planned(10, 4).shards] == [2, 3, 2, 3]


def test_the_checksum_does_not_depend_on_the_compression(whole, tmp_path):
    other = write_folder(tmp_path / "gzip", compression="gzip")
    assert [shard.checksum for shard in other.shards] == [s.checksum for s in Manifest.of_folder(whole).shards]
