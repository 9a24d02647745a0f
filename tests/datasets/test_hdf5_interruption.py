"""Interrupted writers: kills at any moment, exceptions, readers of the partial file, and full disks."""

import errno
import hashlib
import os
import random
import resource
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from forked import run_forked

import supa
import supa_datasets
from supa import Showers
from supa_datasets import ShowerWriter
from supa_datasets.chunk_queue import ChunkQueue


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _showers(count: int, first: int = 0) -> Showers:
    return supa.simulate(count, "two-primaries", seed=8, energy="log:1:100", record="particles", first=first)


WAYS = [
    ("none", True), ("none", False), ("gzip", True), ("zstd", False),
    pytest.param("lz4", True, marks=pytest.mark.slow),
]  # fmt: skip


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize(("compression", "has_particles"), WAYS)
def test_a_kill_between_any_two_writes_loses_only_unfinished_showers(tmp_path, monkeypatch, compression, has_particles):
    """A copy of the partial file is what a kill at that moment leaves."""
    if compression in ("lz4", "zstd"):
        pytest.importorskip("hdf5plugin")
    showers, moments, copies = _showers(300), random.Random(1), []
    options = {"has_particles": has_particles, "compression": compression}
    path, write_piece, save = tmp_path / "whole.h5", ChunkQueue._write_piece, ShowerWriter._save

    def copied(function, share):
        def call(self, *arguments):
            partial = tmp_path / "whole.h5.partial"
            if partial.exists() and moments.random() < share:
                copy = tmp_path / f"{len(copies)}.h5.partial"
                shutil.copy(partial, copy)
                copies.append((copy, writer._num_saved))
            function(self, *arguments)

        return call

    with monkeypatch.context() as patched:
        share = 0.005 if has_particles else 0.01  # there are many more pieces with trees
        patched.setattr(ChunkQueue, "_write_piece", copied(write_piece, share))
        patched.setattr(ShowerWriter, "_save", copied(save, 0.1))
        with ShowerWriter(path, showers.run, **options) as writer:
            for start in range(0, 300, 30):
                writer.append(_showers(30, first=start))
    assert len({saved for _, saved in copies}) > 2
    for copy, saved in copies:
        resumed = copy.with_suffix("")
        with ShowerWriter(resumed, showers.run, **options, resume=True) as writer:
            assert writer.num_showers == saved
            writer.append(_showers(300 - saved, first=saved))
        assert _digest(resumed) == _digest(path)
        resumed.unlink()


@pytest.mark.usefixtures("small_chunks")
def test_large_showers_are_saved_before_their_columns_fill_a_chunk(tmp_path, monkeypatch):
    """A chunk of the columns with one row per shower contains many blocks of large showers."""
    for module in ("hdf5_create", "shower_buffer"):
        monkeypatch.setattr(f"supa_datasets.{module}.SHOWER_CHUNK", 4096)
    showers = _showers(300)
    with ShowerWriter(tmp_path / "a.h5", showers.run, has_particles=True) as writer:
        for start in range(0, 300, 10):
            writer.append(_showers(10, first=start))
        saved = writer._num_saved
    assert 150 < saved < 300
    with ShowerWriter(tmp_path / "whole.h5", showers.run, has_particles=True) as writer:
        writer.append(showers)
    assert _digest(tmp_path / "a.h5") == _digest(tmp_path / "whole.h5")
    assert supa_datasets.load(tmp_path / "a.h5").x.tolist() == showers.x.astype(np.float32).tolist()


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize(("part", "step", "call"), [(ChunkQueue, "_write_piece", 100), (ShowerWriter, "_save", 7)])
def test_an_interruption_inside_append_keeps_the_earlier_showers(tmp_path, monkeypatch, part, step, call):
    showers, calls, original = _showers(300), [], getattr(part, step)

    def interrupted(self, *arguments):
        calls.append(step)
        if len(calls) == call:
            raise KeyboardInterrupt
        original(self, *arguments)

    with monkeypatch.context() as patched:
        patched.setattr(part, step, interrupted)
        writer = ShowerWriter(tmp_path / "a.h5", showers.run)
        with pytest.raises(KeyboardInterrupt), writer:
            writer.append(showers)
    with pytest.raises(ValueError, match="nothing can be written, because it was closed; resume the file"):
        writer.append(showers)
    with ShowerWriter(tmp_path / "a.h5", showers.run, resume=True) as resumed:
        assert resumed.num_showers == writer._num_saved > 0
        resumed.append(_showers(300 - resumed.num_showers, first=resumed.num_showers))
    assert supa_datasets.load(tmp_path / "a.h5").y.tolist() == showers.y.astype(np.float32).tolist()


def test_an_interruption_during_the_creation_of_a_file_leaves_nothing(tmp_path, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("importlib.metadata.version", interrupted)  # the first attributes are written
    with pytest.raises(KeyboardInterrupt):
        supa_datasets.save(_showers(3), tmp_path / "a.h5")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("small_chunks")
def test_an_error_of_the_disk_in_the_background_is_not_lost(tmp_path, monkeypatch):
    """The system reports an error of a write to the disk once: to the thread that flushes the file."""
    flush = os.fsync

    def fail_in_the_background(descriptor):
        if threading.current_thread().name.startswith("supa-sync"):
            raise OSError(errno.EIO, "I/O error")
        flush(descriptor)

    monkeypatch.setattr(os, "fsync", fail_in_the_background)
    with pytest.raises(OSError, match=r"a\.h5: the file cannot be written \(Input/output error\)"):
        supa_datasets.save(_showers(300), tmp_path / "a.h5")
    assert [file.name for file in tmp_path.iterdir()] == ["a.h5.partial"]


READER = """
import sys
import h5py

with h5py.File(sys.argv[1], "r", swmr=True, libver="latest", locking=False) as file:
    for _ in sys.stdin:
        # The writer goes on meanwhile: the number of showers must be read before the lengths of the columns.
        file["progress"].refresh()
        count = int(file["progress"][0])
        for column in (file["showers/offset"], file["hits/energy"]):
            column.refresh()
        offset = file["showers/offset"][: count + 1]
        print(count, float(file["hits/energy"][: offset[-1]].sum(dtype="f8")), flush=True)
"""


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("compression", ["none", "gzip"])
def test_a_reader_follows_the_partial_file(tmp_path, compression):
    showers, path = _showers(300), tmp_path / "a.h5"
    counts = []
    command = [sys.executable, "-c", READER, f"{path}.partial"]
    with (
        ShowerWriter(path, showers.run, compression=compression) as writer,
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as reader,
    ):
        for stop in (60, 120, 180, 240, 300, None):
            if stop is not None:
                writer.append(showers[stop - 60 : stop])
            else:
                writer._queue.drain()  # what the thread of the writer has not yet written
            reader.stdin.write("\n")
            reader.stdin.flush()
            count, energy = reader.stdout.readline().split()
            counts.append(int(count))
            expected = showers[: int(count)].energy.astype(np.float32).sum(dtype=np.float64)
            assert float(energy) == pytest.approx(expected, rel=1e-12)
        reader.stdin.close()
    assert counts == sorted(counts)
    assert counts[-1] > 200


def _fill_the_disk(path, limit, compression):
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    try:
        with ShowerWriter(path, supa.simulate(0, seed=1).run, compression=compression, resume=True) as writer:
            for _ in range(8):
                writer.append(supa.simulate(10_000, seed=1, first=writer.next_attempt))
    except OSError as error:
        os.write(1, f"{error}\n".encode())


@pytest.mark.parametrize("compression", ["none", pytest.param("gzip", marks=pytest.mark.slow)])
def test_a_disk_that_is_full_again_on_resuming_is_one_clear_error(tmp_path, capfd, compression):
    """A limit on the file size simulates a full disk. The showers of the partial file must survive."""
    path = tmp_path / "a.h5"
    for limit, saved in ((35_000_000, 20_000), (15_000_000, 20_000), (60_000_000, 40_000)):
        assert run_forked(_fill_the_disk, path, limit, compression) == 0
        printed = capfd.readouterr()
        assert printed.err == ""
        assert "the file cannot be written (File too large)" in printed.out
        assert printed.out.count("\n") == 1
        assert [file.name for file in tmp_path.iterdir()] == ["a.h5.partial"]
        assert supa_datasets.resumable(path, supa.simulate(0, seed=1).run).showers > saved
