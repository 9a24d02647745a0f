"""Damaged heaps of HDF5 files, which cause endless loops in the HDF5 library, are found before it reads them."""

import h5py
import numpy as np
import pytest

import supa
import supa_datasets
from supa_datasets.hdf5_integrity import check_heaps


@pytest.fixture
def path(tmp_path):
    """A file with attributes and many lists in several heap collections."""
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.attrs["text"] = "hello"
        lists = file.create_dataset("lists", (500,), h5py.vlen_dtype("f4"))
        for k in range(500):
            lists[k] = np.arange(k % 60, dtype="f4")
    return tmp_path / "a.h5"


def test_an_intact_file_passes(path, tmp_path):
    check_heaps(path)
    assert path.read_bytes().count(b"GCOL\x01\x00\x00\x00") >= 2
    (tmp_path / "empty").write_bytes(b"")
    check_heaps(tmp_path / "empty")


@pytest.mark.parametrize("which", [0, 1, -1])
def test_a_collection_with_an_endless_loop_is_found(path, which):
    content = bytearray(path.read_bytes())
    places = [k for k in range(len(content)) if content[k : k + 8] == b"GCOL\x01\x00\x00\x00"]
    content[places[which] + 16 : places[which] + 80] = bytes(64)
    path.write_bytes(content)
    with pytest.raises(ValueError, match="a heap of strings or lists is invalid"):
        check_heaps(path)


def test_a_damaged_shower_file_is_an_error_without_hanging(tmp_path):
    supa_datasets.save(supa.simulate(3), tmp_path / "a.h5")
    content = bytearray((tmp_path / "a.h5").read_bytes())
    place = content.index(b"GCOL")
    content[place + 16 : place + 80] = bytes(64)
    (tmp_path / "a.h5").write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.h5: it is damaged: a heap"):
        supa_datasets.ShowerFile(tmp_path / "a.h5")


def test_a_file_of_another_format_is_recognised(tmp_path):
    supa_datasets.save(supa.simulate(3), tmp_path / "a.h5")
    supa_datasets.convert(tmp_path / "a.h5", tmp_path / "a.npz")
    with pytest.raises(ValueError, match=r"a zip archive such as npz; convert it first: supa convert a\.npz"):
        supa_datasets.load(tmp_path / "a.npz")


def test_a_checkpoint_is_recognised(tmp_path):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    torch.save({"format": "checkpoint"}, tmp_path / "g.ckpt")
    with pytest.raises(
        ValueError, match=r"g\.ckpt: it is not a shower file but a PyTorch file, .*; give a file of showe"
    ):
        supa_datasets.load(tmp_path / "g.ckpt")
