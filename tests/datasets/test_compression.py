"""Chunks that are compressed in threads: the format of HDF5, readable with h5py and hdf5plugin alone."""

import subprocess
import sys

import h5py
import numpy as np
import pytest

import supa
import supa_datasets
from supa_datasets import compression as module
from supa_datasets.compression import chunk_encoder, compression_filters

COMPRESSIONS = [name for name in supa_datasets.COMPRESSIONS if name != "none"]


@pytest.fixture(params=COMPRESSIONS)
def compression(request) -> str:
    """Return the name of a compression that can be used here."""
    if request.param in ("lz4", "zstd"):
        pytest.importorskip("hdf5plugin")
    return request.param


@pytest.mark.parametrize("kind", ["f4", "u1", "i4", "f8"])
def test_a_chunk_is_stored_as_hdf5_stores_it(tmp_path, compression, kind):
    rng = np.random.default_rng(0)
    chunks = [np.zeros(4096, kind), rng.exponential(40, 4096).astype(kind), rng.integers(0, 99, 4096).astype(kind)]
    chunks.append(np.frombuffer(rng.bytes(4096 * np.dtype(kind).itemsize), kind))  # incompressible
    with h5py.File(tmp_path / "a.h5", "w") as file:
        column = file.create_dataset("x", (4 * 4096,), kind, chunks=(4096,), **compression_filters(compression))
        encode = chunk_encoder(column)
        for k, chunk in enumerate(chunks):
            column[k * 4096 : (k + 1) * 4096] = chunk
            file.flush()
            mask, stored = column.id.read_direct_chunk((k * 4096,))
            if mask == 0 and compression != "gzip":  # Python and HDF5 may have different versions of zlib
                assert stored == encode(chunk)
            column.id.write_direct_chunk((k * 4096,), encode(chunk))
        assert column[:].tobytes() == b"".join(chunk.tobytes() for chunk in chunks)


def test_without_its_plugin_hdf5_compresses_itself(tmp_path, compression, monkeypatch):
    if compression == "gzip":
        pytest.skip("gzip needs no plugin")
    showers = supa.simulate(3000, seed=1)
    supa_datasets.save(showers, tmp_path / "threads.h5", compression=compression)

    def fail(*_):
        raise OSError("no such library")

    monkeypatch.setattr(module, "FilterPlugin", fail)
    supa_datasets.save(showers, tmp_path / "hdf5.h5", compression=compression)
    assert supa_datasets.load(tmp_path / "hdf5.h5") == supa_datasets.load(tmp_path / "threads.h5")
    assert (tmp_path / "hdf5.h5").stat().st_size == pytest.approx((tmp_path / "threads.h5").stat().st_size, rel=0.02)


READ = """
import sys
import h5py, hdf5plugin

with h5py.File(sys.argv[1]) as file:
    print(len(file["hits/x"]), float(file["hits/energy"][:].sum(dtype="f8")))
"""


def test_other_programs_can_read_the_file(tmp_path, compression):
    pytest.importorskip("hdf5plugin")
    showers = supa.simulate(2000, seed=1)
    supa_datasets.save(showers, tmp_path / "a.h5", compression=compression)
    command = [sys.executable, "-c", READ, str(tmp_path / "a.h5")]
    rows, energy = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    assert int(rows) == showers.hits.num_rows
    assert float(energy) == showers.energy.astype(np.float32).sum(dtype=np.float64)


@pytest.mark.usefixtures("small_chunks")
def test_the_number_of_threads_does_not_change_the_bytes(tmp_path, compression):
    showers, contents = supa.simulate(300, "two-primaries", seed=8, record="particles"), set()
    for threads in (1, 2, 7):
        path = tmp_path / f"{threads}.h5"
        options = {"has_particles": True, "compression": compression, "threads": threads}
        with supa_datasets.ShowerWriter(path, showers.run, **options) as writer:
            writer.append(showers)
        contents.add(path.read_bytes())
    assert len(contents) == 1
    assert supa_datasets.load(path) == supa_datasets.load(path)[:]
    assert supa_datasets.load(path).x.tolist() == showers.x.astype(np.float32).tolist()


def test_a_wrong_number_of_threads_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="threads: 0 was given"):
        supa_datasets.ShowerWriter(tmp_path / "a.h5", supa.simulate(0).run, threads=0)
    assert list(tmp_path.iterdir()) == []
