"""Random access to memory-mapped files, and to files that cannot be mapped."""

import os
import pickle
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import supa
import supa_datasets
from supa_datasets.memory_map import MappedColumns, mappable


@pytest.fixture(scope="module")
def showers():
    # More hits than rows in a chunk.
    return supa.simulate(1500, "two-primaries", seed=8, record="particles")


@pytest.fixture(scope="module")
def paths(tmp_path_factory, showers):
    folder = tmp_path_factory.mktemp("mapped")
    supa_datasets.save(showers, folder / "plain.h5")
    supa_datasets.save(showers, folder / "packed.h5", compression="gzip")
    return folder


@settings(deadline=None, max_examples=40)
@given(numbers=st.lists(st.integers(-1500, 1499), max_size=50))
def test_random_showers_equal_those_in_memory(paths, numbers):
    with supa_datasets.ShowerFile(paths / "plain.h5") as file:
        assert file[numbers] == file[:][numbers]


def test_all_showers_can_be_read_in_another_order(paths):
    order = np.random.default_rng(0).permutation(1500)
    with supa_datasets.ShowerFile(paths / "plain.h5") as file:
        assert file[order] == file[:][order]
        assert file[file.num_hits > 150] == file[:][file.num_hits > 150]


def test_a_compressed_file_is_read_through_hdf5(paths):
    numbers = [7, 1499, 7, 0, 1, 2]
    with supa_datasets.ShowerFile(paths / "packed.h5") as packed, supa_datasets.ShowerFile(paths / "plain.h5") as plain:
        assert packed[numbers] == plain[numbers]


def test_only_uncompressed_columns_are_mapped(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        plain = file.create_dataset("plain", data=np.arange(10.0), chunks=(4,))
        assert mappable(plain)
        assert not mappable(file.create_dataset("gzip", data=np.arange(10.0), chunks=(4,), compression="gzip"))
        assert not mappable(file.create_dataset("one block", data=np.arange(10.0)))
        assert not mappable(file.create_dataset("swapped", data=np.arange(10.0), dtype=">f8", chunks=(4,)))
        file.flush()
        rows = MappedColumns(file, {"plain": plain}).rows("plain", np.array([7, 0, 3]), np.array([3, 1, 0]))
        assert rows.tolist() == [7, 8, 9, 0]


def test_a_chunk_that_was_never_written_is_an_error(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        column = file.create_dataset("a", (10,), "f4", chunks=(4,))
        file.flush()
        with pytest.raises(ValueError, match="outside the file"):
            MappedColumns(file, {"a": column})


def test_a_file_truncated_while_open_is_an_error(tmp_path, showers):
    supa_datasets.save(showers[:400], tmp_path / "a.h5")
    with supa_datasets.ShowerFile(tmp_path / "a.h5") as file:
        os.truncate(tmp_path / "a.h5", 5000)
        with pytest.raises(ValueError, match=r"a\.h5: it was truncated while it was open"):
            file[[399, 3]]


def test_a_closed_file_releases_its_descriptors(tmp_path, showers):
    if not Path("/proc/self/fd").exists():
        pytest.skip("this system does not list open files in /proc")
    supa_datasets.save(showers[:10], tmp_path / "a.h5")
    before = len(list(Path("/proc/self/fd").iterdir()))
    files = [supa_datasets.ShowerFile(tmp_path / "a.h5") for _ in range(20)]
    for file in files:
        file.close()
    assert len(list(Path("/proc/self/fd").iterdir())) <= before + 1
    with pytest.raises(ValueError, match="the file was closed"):
        files[0][[3, 1]]


def test_a_file_that_changed_since_it_was_pickled_is_an_error(tmp_path, showers):
    supa_datasets.save(showers[:10], tmp_path / "a.h5")
    with supa_datasets.ShowerFile(tmp_path / "a.h5") as file:
        state = pickle.dumps(file)
    assert len(pickle.loads(state)) == 10
    supa_datasets.save(showers[:8], tmp_path / "a.h5", overwrite=True)
    with pytest.raises(ValueError, match="has changed since it was pickled"):
        pickle.loads(state)


def test_a_damaged_value_is_found(tmp_path, showers):
    supa_datasets.save(showers[:10], tmp_path / "a.h5")
    with h5py.File(tmp_path / "a.h5", "a") as file:
        file["hits/energy"][3] = np.nan
    with supa_datasets.ShowerFile(tmp_path / "a.h5") as file, pytest.raises(ValueError, match=r"a\.h5: it is damaged"):
        file[[0, 5]]
