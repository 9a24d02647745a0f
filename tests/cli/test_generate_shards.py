"""``supa generate --shards`` and ``supa merge``: folders, interruptions, kills and errors."""

import contextlib
import json
import logging
import shutil
import signal
import subprocess
import sys
import time

import pytest
from click.testing import CliRunner
from shard_folders import flip_a_byte

from supa_cli.main import cli
from supa_datasets import ShowerFile
from supa_datasets.shards.manifest import Manifest

COMMAND = [sys.executable, "-m", "supa_cli.main"]
DATASET = ["-n", "16_000", "--shards", "16", "--seed", "3"]


def _supa(*arguments, status=0) -> str:
    result = CliRunner().invoke(cli, list(map(str, arguments)), catch_exceptions=False)
    assert result.exit_code == status, result.output
    return result.output


@pytest.fixture(scope="module")
def scheduler():
    """Return the address of a scheduler with two workers, which are threads of this process."""
    distributed = pytest.importorskip("distributed", reason="dask.distributed is not installed")
    options = {"processes": False, "dashboard_address": "127.0.0.1:0", "silence_logs": logging.CRITICAL}
    with distributed.LocalCluster(protocol="tcp", n_workers=2, threads_per_worker=1, **options) as cluster:
        yield cluster.scheduler_address


@pytest.fixture(scope="module")
def folder(scheduler, tmp_path_factory):
    """Return a folder of three shards."""
    folder = tmp_path_factory.mktemp("folder") / "dataset"
    output = _supa("generate", folder, "-n", 300, "--shards", 3, "--seed", 3, "--scheduler", scheduler)
    for line in ("shards        3, of which 3 were simulated now", "showers       300", "failures      0"):
        assert line in output
    assert "100.0 %  3 of 3 shards" in output
    assert "2 workers" in output
    return folder


@pytest.fixture(scope="module")
def single(folder):
    """Return a file of the same showers."""
    path = folder.with_name("single.h5")
    _supa("generate", path, "-n", 300, "--seed", 3, "--quiet")
    return path


def test_a_merged_file_has_the_bytes_of_a_single_run(folder, single, tmp_path):
    assert "merged.h5: 300 showers of 3 shards." in _supa("merge", folder, tmp_path / "merged.h5")
    assert (tmp_path / "merged.h5").read_bytes() == single.read_bytes()
    assert _supa("merge", folder, folder.with_name("virtual.h5"), "--virtual", "--quiet") == ""
    assert len(ShowerFile(folder.with_name("virtual.h5"))) == 300


def test_all_commands_accept_a_folder(folder, single, tmp_path):
    facts = [json.loads(_supa("info", path, "--json")) for path in (folder, single)]
    assert facts[0].pop("shards") == 3
    for one in facts:
        del one["path"], one["bytes"]
    assert facts[0] == facts[1]
    _supa("plot", folder, "--shower", 150, "-o", tmp_path / "a.png")
    _supa("convert", folder, tmp_path / "a.npz", "--quiet")
    _supa("convert", single, tmp_path / "b.npz", "--quiet")
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    assert "These showers are identical" in _supa("compare", folder, single, "--fast", "--permutations", 19)


def test_info_checks_every_checksum(folder, tmp_path):
    copy = shutil.copytree(folder, tmp_path / "copy")
    assert "300 showers checked: no invalid values" in _supa("info", copy, "--check")
    flip_a_byte(copy / "shard-00001.h5")
    assert "the checksum of shard-00001.h5" in _supa("info", copy, "--check", status=1)


def _started(folder, unfinished: int, *arguments) -> subprocess.Popen:
    """Start the command, and return when at most this number of shards are unfinished."""
    process = subprocess.Popen(
        [*COMMAND, "generate", str(folder), *DATASET, *arguments], stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with contextlib.suppress(ValueError):
            if len(Manifest.of_folder(folder).unfinished) <= unfinished:
                return process
        time.sleep(0.01)
    process.kill()
    raise AssertionError(process.communicate())


def test_a_run_survives_ctrl_c_and_a_kill_of_the_whole_command(tmp_path, scheduler):
    psutil = pytest.importorskip("psutil")
    folder = tmp_path / "dataset"
    process = _started(folder, 14, "--workers", "1")
    children = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    process.communicate()
    killed = Manifest.of_folder(folder).unfinished
    assert psutil.wait_procs(children, timeout=20)[1] == []
    finished = {path: path.read_bytes() for path in folder.glob("shard-*.h5")}

    process = _started(folder, len(killed) - 2, "--scheduler", scheduler)
    process.send_signal(signal.SIGINT)
    error = process.communicate()[1]
    assert process.returncode == 130
    assert f"The finished files are in {folder}; repeat the same command to make the others." in error
    assert "Traceback" not in error
    assert set(Manifest.of_folder(folder).unfinished) <= set(killed)

    _supa("generate", folder, *DATASET, "--scheduler", scheduler, "--quiet")
    _supa("merge", folder, tmp_path / "merged.h5", "--quiet")
    _supa("generate", tmp_path / "single.h5", "-n", "16_000", "--seed", "3", "--quiet")
    assert (tmp_path / "merged.h5").read_bytes() == (tmp_path / "single.h5").read_bytes()
    assert all(path.read_bytes() == content for path, content in finished.items())
    assert sorted(p.name for p in folder.iterdir()) == ["manifest.json", *(f"shard-{k:05d}.h5" for k in range(16))]


WRONG = {
    "complete": (["--shards", 2, "--keep", "complete"], "how many showers of a range of indices are kept is not known"),
    "threads": (["--shards", 2, "--threads", 2], "--workers sets their number"),
    "resume": (["--shards", 2, "--resume"], "the same command always continues"),
    "overwrite": (["--shards", 2, "--overwrite"], "choose a new folder"),
    "scheduler alone": (["--scheduler", "local"], "--scheduler needs --shards"),
    "workers alone": (["--workers", 2], "--workers needs --shards"),
    "too many": (["--shards", 20], "shards: 20 was given, but it must be a whole number from 1 to 10"),
    "reference": (["--shards", 2, "--engine", "reference"], "each shard would simulate all showers before it"),
    "no scheduler": (["--shards", 2, "--scheduler", "a.json"], "there is no such file"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_options_are_usage_errors(tmp_path, name):
    arguments, message = WRONG[name]
    output = _supa("generate", tmp_path / "dataset", "-n", 10, *arguments, status=2)
    assert message in " ".join(output.split())
    assert list(tmp_path.iterdir()) == []


def test_a_name_of_a_file_is_no_folder_and_a_folder_is_no_file(tmp_path, folder):
    output = _supa("generate", tmp_path / "a.h5", "-n", 10, "--shards", 2, status=2)
    assert "with --shards, OUT is a folder; name it" in " ".join(output.split())
    assert "is a folder; name a file" in " ".join(_supa("generate", folder, "-n", 10, status=2).split())
    assert "a.txt: showers are written as HDF5; name the file" in _supa("merge", folder, tmp_path / "a.txt", status=2)
    assert "there is no such folder" in _supa("merge", tmp_path / "none", tmp_path / "a.h5", status=2)
    assert "cannot be used together" in _supa("merge", folder, tmp_path / "a.h5", "--virtual", "--resume", status=2)
