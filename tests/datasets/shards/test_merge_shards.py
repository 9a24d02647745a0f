"""Shards become one file with the bytes of a single process, or a virtual file whose sources are verified."""

import shutil
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from shard_folders import columns, flip_a_byte, write_folder, write_shard, write_single

from supa_datasets import PointDataset, ShowerFile, ShowerWriter, load, merge_shards


@pytest.mark.parametrize(("record", "compression"), [("hits", "none"), ("particles", "gzip")])
def test_a_merged_file_has_the_bytes_of_a_single_process(tmp_path, record, compression):
    manifest = write_folder(tmp_path / "folder", record=record, compression=compression)
    write_single(tmp_path / "single.h5", manifest)
    merge_shards(tmp_path / "folder", tmp_path / "merged.h5")
    assert (tmp_path / "merged.h5").read_bytes() == (tmp_path / "single.h5").read_bytes()


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Return a folder with a dataset in shards, a virtual file of it, and a file of the same showers."""
    data = tmp_path_factory.mktemp("whole") / "data"
    data.mkdir()
    manifest = write_folder(data / "folder", record="particles")
    write_single(data / "single.h5", manifest)
    merge_shards(data / "folder", data / "virtual.h5", virtual=True)
    return data


@pytest.fixture
def folder(whole, tmp_path):
    """Return a copy of the dataset in shards."""
    return shutil.copytree(whole / "folder", tmp_path / "folder")


def test_an_interrupted_merge_continues(folder, tmp_path):
    def stop(done, _total):
        if done == 30:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        merge_shards(folder, tmp_path / "a.h5", progress=stop)
    reported = []
    merge_shards(folder, tmp_path / "a.h5", resume=True, progress=lambda *numbers: reported.append(numbers))
    assert reported == [(30, 60), (45, 60), (60, 60)]
    merge_shards(folder, tmp_path / "b.h5")
    assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "b.h5").read_bytes()


def test_a_merge_verifies_checksums(folder, tmp_path):
    flip_a_byte(folder / "shard-00002.h5")
    with pytest.raises(ValueError, match=r"shard-00002.h5: it is damaged: its columns do not have the checksum"):
        merge_shards(folder, tmp_path / "a.h5")
    assert not (tmp_path / "a.h5").exists()


def test_existing_files_are_kept(folder, tmp_path):
    (tmp_path / "a.h5").write_text("text")
    for virtual in (False, True):
        with pytest.raises(FileExistsError, match="exists"):
            merge_shards(folder, tmp_path / "a.h5", virtual=virtual)
    merge_shards(folder, tmp_path / "a.h5", virtual=True, overwrite=True)
    assert len(ShowerFile(tmp_path / "a.h5")) == 60
    with pytest.raises(ValueError, match="it is not a folder of shards"):
        merge_shards(tmp_path / "a.h5", tmp_path / "b.h5")


# ---------------------------------------------------------------------- virtual files


@pytest.fixture
def virtual(whole, tmp_path):
    """Return a copy of the virtual file, with its shards and the file of the same showers beside it."""
    return shutil.copytree(whole, tmp_path / "data") / "virtual.h5"


def test_a_virtual_file_equals_the_single_file(virtual):
    with ShowerFile(virtual) as file, ShowerFile(virtual.with_name("single.h5")) as single:
        assert file[:] == single[:]
        assert file.run == single.run
        assert columns(file) == columns(single)
        assert file.faults() == []
    assert len(PointDataset(virtual)) == 60


def test_other_programs_read_the_virtual_columns_also_after_a_move(virtual, tmp_path):
    moved = Path(shutil.move(virtual.parent, tmp_path / "moved"))
    with h5py.File(moved / "virtual.h5") as file, h5py.File(moved / "single.h5") as single:
        names = []
        single.visititems(lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None)
        assert len(names) == 25
        for name in names:
            assert np.array_equal(file[name][:], single[name][:]), name
        assert dict(file.attrs) == dict(single.attrs)
    assert load(moved / "virtual.h5") == load(moved / "single.h5")


def test_hdf5_itself_returns_impossible_values_for_a_missing_source(virtual):
    (virtual.parent / "folder" / "shard-00001.h5").unlink()
    with h5py.File(virtual) as file:
        assert np.isnan(file["showers/incident_energy"][15:30]).all()
        assert (file["showers/index"][15:30] == -1).all()


SOURCES = {
    "removed": (lambda folder: (folder / "shard-00001.h5").unlink(), "there is no such file"),
    "another seed": (
        lambda folder: write_shard(folder, 1, record="particles", seed=9),
        "another run .seed is 9 there, 8 here",
    ),
    "doubled": (lambda f: shutil.copy(f / "shard-00002.h5", f / "shard-00001.h5"), "those of folder/shard-00002.h5"),
}


@pytest.mark.parametrize("name", SOURCES)
def test_a_virtual_file_with_a_wrong_source_is_refused(virtual, name):
    change, message = SOURCES[name]
    change(virtual.parent / "folder")
    with pytest.raises(ValueError, match=rf"virtual.h5: shards are wrong .1 of 4.: \S+shard-00001.h5: .*{message}"):
        ShowerFile(virtual)


def test_a_virtual_file_must_be_above_its_shards(folder, tmp_path):
    (tmp_path / "data").mkdir()
    with pytest.raises(ValueError, match=r"it must be in the folder .* or above"):
        merge_shards(folder, tmp_path / "data" / "a.h5", virtual=True)
    merge_shards(folder, folder / "virtual.h5", virtual=True)
    assert len(ShowerFile(folder / "virtual.h5")) == 60
    assert len(ShowerFile(folder)) == 60


def test_a_virtual_file_is_never_resumed(virtual):
    run = load(virtual).run
    with pytest.raises(ValueError, match="is stored in another file"):
        ShowerWriter(virtual, replace(run, attempts=None), has_particles=True, resume=True)
    with pytest.raises(ValueError, match="a virtual file is written at once"):
        merge_shards(virtual.parent / "folder", virtual, virtual=True, resume=True)
