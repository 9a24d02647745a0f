"""The cache of graph benchmarks: interrupted processes, damaged files and concurrent jobs."""

import errno
import fcntl
import os
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from benchmark_files import write_tu, write_webkb

from supa_datasets import load_benchmark
from supa_datasets.graph_benchmarks import cache as cache_module

pytest.importorskip("torch_geometric", reason="PyTorch Geometric is not installed")
from torch_geometric.datasets import tu_dataset


@pytest.fixture
def folder(tmp_path):
    write_tu(tmp_path / "root", "MUTAG", graphs=8)
    return tmp_path


def _load(folder: Path, name: str = "MUTAG", root: str | None = "root"):
    return load_benchmark(name, root=None if root is None else folder / root, cache=folder / "cache")


def _place(folder: Path) -> Path:
    return folder / "cache" / "TUDataset" / "MUTAG"


def _others(folder: Path) -> list[str]:
    """Return the names in the cache besides the set and its lock."""
    return [path.name for path in _place(folder).parent.iterdir() if path.name not in ("MUTAG", ".MUTAG.lock")]


def _flipped(data: bytes) -> bytes:
    """Change one byte in the middle, so that the file remains readable."""
    return data[: len(data) // 2] + bytes([data[len(data) // 2] ^ 1]) + data[len(data) // 2 + 1 :]


DAMAGES = {"empty": lambda _: b"", "cut": lambda data: data[: len(data) // 2], "zeros": lambda data: bytes(len(data)),
           "pointer": lambda _: b"version https://git-lfs.github.com/spec/v1\n", "flipped": _flipped}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
@pytest.mark.parametrize(
    "file", ["processed/data.pt", "processed/pre_filter.pt", "processed/pre_transform.pt", "contents.json"]
)
@pytest.mark.parametrize("root", ["root", None])
def test_a_damaged_file_is_built_again(folder, root, file, damage):
    first = _load(folder)
    path = _place(folder) / file
    whole = path.read_bytes()
    path.write_bytes(damage(whole))
    again = _load(folder, root=root)
    assert [graph.to_dict().keys() for graph in again.graphs] == [graph.to_dict().keys() for graph in first.graphs]
    assert all((a.x == b.x).all() for a, b in zip(again.graphs, first.graphs, strict=True))
    assert path.read_bytes() == whole
    assert _others(folder) == []


@pytest.mark.parametrize("file", ["processed/data.pt", "raw/MUTAG_A.txt"])
def test_a_missing_file_is_built_again(folder, file):
    _load(folder)
    (_place(folder) / file).unlink()
    assert len(_load(folder)) == 8
    assert (_place(folder) / file).exists()


def test_files_in_the_root_take_precedence(folder):
    _load(folder)
    write_tu(folder / "other", "MUTAG", graphs=12)
    assert len(_load(folder, root="other")) == 12
    assert len(_load(folder, root=None)) == 12
    labels = folder / "other" / "MUTAG" / "raw" / "MUTAG_node_labels.txt"
    labels.write_text("0\n" * labels.read_text().count("\n"))  # same number of bytes
    assert _load(folder, root="other").num_features == 1
    labels.unlink()
    assert _load(folder, root="other").from_degrees


def test_a_wrong_root_is_an_error_even_if_the_set_is_cached(folder):
    _load(folder)
    with pytest.raises(ValueError, match="there is no such folder"):
        _load(folder, root="rot")
    (folder / "empty").mkdir()
    with pytest.raises(ValueError, match="holds neither"):
        _load(folder, root="empty")


def test_files_repaired_in_the_cache_are_used(folder):
    _load(folder)
    for path in (_place(folder) / "raw").iterdir():
        path.unlink()
    write_tu(folder / "other", "MUTAG", graphs=12)
    for path in (folder / "other" / "MUTAG" / "raw").iterdir():
        path.rename(_place(folder) / "raw" / path.name)
    assert len(_load(folder, root=None)) == 12


@pytest.mark.parametrize("locks", [True, False], ids=["locks", "no locks"])
def test_concurrent_jobs_with_an_empty_cache_all_load_the_set(folder, locks, monkeypatch):
    if not locks:

        def refused(*_):
            raise OSError(errno.ENOLCK, "No locks available")

        monkeypatch.setattr(fcntl, "flock", refused)
        monkeypatch.setattr(sys, "stderr", sys.stderr)  # concurrent threads may redirect it in any order
    write_tu(folder / "other", "MUTAG", graphs=12)
    roots = ["root", "other"] * 4
    start = threading.Barrier(len(roots))

    def job(root: str) -> int:
        start.wait()
        return len(_load(folder, root=root))

    with ThreadPoolExecutor(len(roots)) as pool:
        assert list(pool.map(job, roots)) == [8, 12] * 4
    assert len(_load(folder, root=None)) in (8, 12)
    assert _others(folder) == []


def test_load_waits_for_another_process_and_a_killed_process_releases_its_lock(folder):
    _place(folder).parent.mkdir(parents=True)
    lock = _place(folder).parent / ".MUTAG.lock"
    program = "import fcntl, sys; f = open(sys.argv[1], 'w'); fcntl.flock(f, fcntl.LOCK_EX); print(flush=True); input()"
    with (
        subprocess.Popen(
            [sys.executable, "-c", program, lock], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as holder,
        ThreadPoolExecutor(1) as pool,
    ):
        holder.stdout.readline()
        loaded = pool.submit(_load, folder)
        time.sleep(0.2)
        assert not loaded.done()
        assert not _place(folder).exists()
        holder.kill()
        assert len(loaded.result()) == 8


def test_leftovers_of_a_killed_process_are_removed_after_a_day(folder):
    for name, age in ((".MUTAG-old", 2 * 86400), (".MUTAG-new", 60)):
        left = _place(folder).parent / name
        (left / "MUTAG").mkdir(parents=True)
        os.utime(left, (time.time() - age,) * 2)
    _load(folder)
    assert _others(folder) == [".MUTAG-new"]


def _refuse_writing(folder: Path, monkeypatch) -> None:
    """Simulate a read-only disk, since the superuser ignores the permissions of folders."""
    opened, temporary = os.open, tempfile.TemporaryDirectory

    def open_(path, flags, *arguments, **options):
        if flags & (os.O_CREAT | os.O_RDWR) and Path(path).is_relative_to(folder / "cache"):
            raise OSError(errno.EROFS, "Read-only file system")
        return opened(path, flags, *arguments, **options)

    def temporary_directory(*arguments, **options):
        if options.get("dir") is not None:
            raise OSError(errno.EROFS, "Read-only file system")
        return temporary(*arguments, **options)

    monkeypatch.setattr(os, "open", open_)
    monkeypatch.setattr(cache_module.tempfile, "TemporaryDirectory", temporary_directory)


def test_a_read_only_cache_is_read(folder, monkeypatch):
    _load(folder)
    before = {path: path.stat().st_mtime_ns for path in (folder / "cache").rglob("*")}
    _refuse_writing(folder, monkeypatch)
    monkeypatch.setattr(cache_module, "process", None)
    assert len(_load(folder)) == len(_load(folder, root=None)) == 8
    assert {path: path.stat().st_mtime_ns for path in (folder / "cache").rglob("*")} == before


def test_a_damaged_set_in_a_read_only_cache_is_built_elsewhere(folder, monkeypatch):
    _load(folder)
    (_place(folder) / "processed" / "data.pt").write_bytes(b"")
    _refuse_writing(folder, monkeypatch)
    assert len(_load(folder)) == 8
    assert (_place(folder) / "processed" / "data.pt").read_bytes() == b""


def test_a_full_disk_is_one_clear_error_and_leaves_no_files(folder, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("torch_geometric.io.fs.torch_save", full)
    with pytest.raises(ValueError, match=r"cache of benchmarks cannot be written \(No space left on device\)"):
        _load(folder)
    assert not _place(folder).exists()
    assert _others(folder) == []


def test_a_cache_that_is_a_file_is_one_clear_error(folder):
    (folder / "cache").write_text("no folder")
    with pytest.raises(ValueError, match="cache of benchmarks cannot be written"):
        _load(folder)


def _downloads(files: dict[str, bytes], monkeypatch) -> None:
    """Replace the download by the given files."""

    def cp(_url, target, *, extract):
        assert extract
        (Path(target) / "MUTAG").mkdir()
        for name, data in files.items():
            (Path(target) / "MUTAG" / name).write_bytes(data)

    monkeypatch.setattr(tu_dataset.fs, "cp", cp)


def test_a_broken_download_is_not_cached(folder, monkeypatch):
    files = {path.name: path.read_bytes() for path in (folder / "root" / "MUTAG" / "raw").iterdir()}
    _downloads({**files, "MUTAG_graph_labels.txt": b"0\n1\n"}, monkeypatch)
    with pytest.raises(ValueError, match=r"the downloaded MUTAG_graph_labels\.txt: it has 2 lines.* needs 8"):
        _load(folder, root=None)
    _downloads({name: data for name, data in files.items() if "labels" not in name}, monkeypatch)
    with pytest.raises(ValueError, match=r"MUTAG: the set cannot be downloaded or read .*root= or --root"):
        _load(folder, root=None)
    assert not _place(folder).exists()
    _downloads(files, monkeypatch)
    assert len(_load(folder, root=None)) == 8


def test_a_damaged_copy_in_the_cache_is_downloaded_again(folder, monkeypatch):
    _load(folder)
    files = {path.name: path.read_bytes() for path in (folder / "root" / "MUTAG" / "raw").iterdir()}
    (_place(folder) / "raw" / "MUTAG_A.txt").write_bytes(b"")
    _downloads({}, monkeypatch)
    with pytest.raises(ValueError, match=r"raw.MUTAG_A\.txt: the file is empty.*cannot be downloaded"):
        _load(folder, root=None)
    _downloads(files, monkeypatch)
    assert len(_load(folder, root=None)) == 8


def test_a_missing_raw_file_in_the_root_is_not_downloaded(tmp_path, monkeypatch):
    def download(*_arguments, **_options):
        raise AssertionError("downloaded")

    monkeypatch.setattr("torch_geometric.datasets.webkb.download_url", download)
    write_webkb(tmp_path / "root")
    (tmp_path / "root" / "texas" / "raw" / "texas_split_0.6_0.2_4.npz").unlink()
    with pytest.raises(ValueError, match=r"lacks texas_split_0\.6_0\.2_4\.npz"):
        _load(tmp_path, "Texas")
