"""Generation in shards: killed workers, continued runs, damaged files, and clear errors."""

import contextlib
import json
import os
import shutil
import signal
import time

import pytest
from shard_folders import columns, flip_a_byte, planned, write_shard, write_single

from supa_datasets import ShowerFile, generate_shards
from supa_datasets.shards import generate, planning, task
from supa_datasets.shards.cluster import connected
from supa_datasets.shards.manifest import MANIFEST, Manifest
from supa_datasets.shards.task import FinishedShard, ShardError, make_shard

# ---------------------------------------------------------------------- one task


def _shard(folder, number=1) -> FinishedShard:
    return make_shard(folder, Manifest.of_folder(folder).reduced_to(number), "cpu")


def test_a_finished_shard_is_not_simulated_again(folder):
    before = (folder / "shard-00001.h5").stat().st_ino
    assert _shard(folder) == FinishedShard(Manifest.of_folder(folder).shards[1], False, "")
    assert (folder / "shard-00001.h5").stat().st_ino == before


def test_a_finished_file_that_is_not_in_the_manifest_is_taken_over(folder):
    finished = Manifest.of_folder(folder)
    planned().write(folder)
    assert [_shard(folder, k) for k in range(4)] == [FinishedShard(shard, False, "") for shard in finished.shards]


def _truncate(path):
    os.truncate(path, 50_000)


@pytest.mark.parametrize("damage", [flip_a_byte, _truncate, lambda path: path.write_text("x")], ids=["bit", "cut", "x"])
def test_a_damaged_file_is_replaced(folder, damage):
    path = folder / "shard-00001.h5"
    whole = path.read_bytes()
    damage(path)
    result = _shard(folder)
    assert result.simulated
    assert "shard-00001.h5: it is" in result.damage
    assert path.read_bytes() == whole


def test_a_file_of_another_run_is_kept(folder):
    write_shard(folder, 1, seed=9)
    before = (folder / "shard-00001.h5").read_bytes()
    with pytest.raises(ValueError, match=r"shard-00001.h5: it belongs to another run .seed is 9 there, 8 here"):
        _shard(folder)
    assert (folder / "shard-00001.h5").read_bytes() == before


def test_showers_with_another_checksum_than_the_recorded_one_are_refused(folder):
    manifest = Manifest.of_folder(folder)
    shard = manifest.shards[1].replace(checksum="0" * 64)
    with pytest.raises(ShardError, match="use the version of supa-showers that began the dataset, on "):
        make_shard(folder, manifest.replace(first=20, num_showers=15, shards=(shard,)), "cpu")
    assert sorted(path.name for path in folder.iterdir()) == [MANIFEST, *(f"shard-0000{k}.h5" for k in range(4))]


def test_two_workers_that_make_the_same_shard_at_the_same_moment_do_no_harm(folder, monkeypatch):
    """The second one makes the whole shard while the first one, presumed dead, is in the middle of it."""
    path = folder / "shard-00001.h5"
    whole = path.read_bytes()
    path.unlink()
    stream, results = task.stream, []

    def paused(*arguments, **options):
        monkeypatch.setattr(task, "stream", stream)
        first, *rest = stream(*arguments, **options, chunk_size=5)
        yield first
        assert len(list(folder.glob("shard-00001.*.tmp.partial"))) == 1
        results.append(_shard(folder))
        assert path.read_bytes() == whole
        yield from rest

    monkeypatch.setattr(task, "stream", paused)
    results.append(_shard(folder))
    assert results[0] == results[1]
    assert path.read_bytes() == whole
    assert list(folder.glob("*.tmp*")) == []


def test_a_worker_whose_temporary_file_was_removed_does_no_harm(folder, monkeypatch):
    """The other worker finished the shard, the run ended, and the rest of this one was removed."""
    path = folder / "shard-00001.h5"
    whole = path.read_bytes()
    path.unlink()
    stream = task.stream

    def removed(*arguments, **options):
        monkeypatch.setattr(task, "stream", stream)
        _shard(folder)
        task.remove_temporary_files(folder)
        yield from stream(*arguments, **options)

    monkeypatch.setattr(task, "stream", removed)
    with pytest.raises(ShardError, match="No such file"):
        _shard(folder)
    assert path.read_bytes() == whole


def test_a_worker_that_does_not_see_the_folder_fails(tmp_path):
    with pytest.raises(ShardError, match=r"there is no .*manifest.json: all workers must see the folder"):
        make_shard(tmp_path / "dataset", planned().reduced_to(0), "cpu")


# ---------------------------------------------------------------------- many tasks


@pytest.fixture(scope="module")
def client():
    """Return the client of two local workers."""
    pytest.importorskip("distributed", reason="dask.distributed is not installed")
    with connected("local", 2) as client:
        yield client


def _generate(folder, client, num_showers=3000, **changes):
    options = {"shards": 12, "seed": 8, "first": 5, "scheduler": client.scheduler.address, **changes}
    return generate_shards(folder, num_showers, "two-primaries", **options)


def test_a_killed_worker_does_not_change_the_result(tmp_path, client):
    folder, killed, states = tmp_path / "dataset", [], []

    def kill(state):
        states.append(state)
        if killed:
            return
        # The first call waits here, because the workers may have made all shards before this process counts two.
        end = time.monotonic() + 60
        while len(list(folder.glob("shard-*.h5"))) < 2:
            assert time.monotonic() < end
            time.sleep(0.01)
        address = next(address for address, keys in client.processing().items() if keys)
        [pid] = client.run(os.getpid, workers=[address]).values()
        os.kill(pid, signal.SIGKILL)
        killed.append(pid)

    report = _generate(folder, client, 12_000, progress=kill)
    assert (len(killed), report.lost, report.failures) == (1, 1, ())
    assert len(report.simulated) == 12
    assert states[-1].done == states[-1].total == 12
    assert (report.showers, report.simulated_showers, report.shards) == (12_000, 12_000, 12)
    assert sorted(path.name for path in folder.iterdir()) == [MANIFEST, *report.simulated]
    write_single(tmp_path / "single.h5", Manifest.of_folder(folder))
    with ShowerFile(folder) as file, ShowerFile(tmp_path / "single.h5") as single:
        assert columns(file) == columns(single)
        assert file.faults() == []
        assert (file.num_hits.sum(), file.num_bytes) == (report.hits, report.bytes)


class _LostResult:
    """A task whose worker is killed before it can send its result, so the task runs again."""

    def __init__(self, function, arguments, statuses):
        self._run = lambda: function(*arguments)
        self._run()
        self._statuses = list(statuses)

    @property
    def status(self):
        return self._statuses[0]

    def add_done_callback(self, function):
        if self._statuses[0] == "pending":
            self._statuses.pop(0)
        function(self)

    def result(self, timeout):
        assert timeout < 1
        if len(self._statuses) > 1:
            self._statuses.pop(0)
            raise TimeoutError
        return self._run()


class _Client:
    """A scheduler that loses every first result."""

    def __init__(self, statuses):
        self._statuses = statuses

    def submit(self, function, *arguments, pure):
        assert not pure
        return _LostResult(function, arguments, self._statuses)

    def nthreads(self):
        return {"tcp://a:1": 1}


@pytest.mark.parametrize("statuses", [("finished", "pending", "finished"), ("lost", "lost", "finished")])
def test_a_result_that_is_lost_with_its_worker_is_awaited_again(tmp_path, monkeypatch, statuses):
    monkeypatch.setattr(generate, "connected", lambda *_: contextlib.nullcontext(_Client(statuses)))
    report = generate_shards(tmp_path / "dataset", 60, "two-primaries", shards=4)
    assert report.simulated == tuple(f"shard-0000{k}.h5" for k in range(4))
    assert len(ShowerFile(tmp_path / "dataset")) == 60


def test_a_repeated_run_makes_only_what_is_missing_or_damaged(tmp_path, client):
    folder = tmp_path / "dataset"
    _generate(folder, client, 600)
    bytes_before = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert _generate(folder, client, 600).simulated == ()
    (folder / "shard-00002.h5").unlink()
    os.truncate(folder / "shard-00004.h5", 50_000)
    flip_a_byte(folder / "shard-00006.h5")
    shutil.copy(folder / "shard-00001.h5", folder / "shard-00008.h5")
    report = _generate(folder, client, 600)
    assert report.simulated == tuple(f"shard-0000{k}.h5" for k in (2, 4, 6, 8))
    assert sorted(text.split("/")[-1].split(":")[0] for text in report.replaced) == [
        "shard-00004.h5",
        "shard-00006.h5",
        "shard-00008.h5",
    ]
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == bytes_before


DIFFERENT = {
    "seed": ({"seed": 9}, "seed is 8 there, 9 here"),
    "first": ({"first": 6}, "first is 5 there, 6 here"),
    "count": ({"num_showers": 601}, "num_showers is 600 there, 601 here"),
    "shards": ({"shards": 13}, "the number of shards is 12 there, 13 here"),
    "record": ({"record": "particles"}, "record is 'hits' there, 'particles' here"),
    "compression": ({"compression": "gzip"}, "compression is 'none' there, 'gzip' here"),
}


def test_another_dataset_in_the_same_folder_is_refused(tmp_path, client):
    _generate(tmp_path / "dataset", client, 600)
    before = (tmp_path / "dataset" / MANIFEST).read_bytes()
    for changes, message in DIFFERENT.values():
        with pytest.raises(ValueError, match=f"contains another dataset .{message}.; choose another folder"):
            _generate(tmp_path / "dataset", client, **{"num_showers": 600, **changes})
    assert (tmp_path / "dataset" / MANIFEST).read_bytes() == before


def test_results_are_recorded_as_they_arrive_and_an_interruption_keeps_them(tmp_path, client):
    def stop(state):
        if state.done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        _generate(tmp_path / "dataset", client, progress=stop)
    assert len(Manifest.of_folder(tmp_path / "dataset").unfinished) == 9
    with pytest.raises(ValueError, match=r"shards are not finished .9 of 12.: .*Repeat the command"):
        ShowerFile(tmp_path / "dataset")
    assert len(_generate(tmp_path / "dataset", client).simulated) <= 9
    assert len(ShowerFile(tmp_path / "dataset")) == 3000


def test_a_shard_that_fails_is_repeated_and_then_reported(tmp_path, client):
    """A folder in the place of a file makes a task fail, until the callback removes it."""
    folder = tmp_path / "dataset"
    (folder / "shard-00003.h5").mkdir(parents=True)
    planned(600, 12).write(folder)

    def repair(state):
        if state.failures:
            shutil.rmtree(folder / "shard-00003.h5", ignore_errors=True)

    with pytest.raises(OSError, match=r"dataset: shard-00003.h5: .* failed 3 times. \d+ of 12 shards are finished"):
        _generate(folder, client, 600)
    report = _generate(folder, client, 600, progress=repair)
    assert len(report.failures) >= 1
    assert all("shard-00003.h5" in text for text in report.failures)
    assert len(ShowerFile(folder)) == 600


def test_a_shard_of_another_run_ends_the_run(folder, client):
    write_shard(folder, 1, seed=9)
    with pytest.raises(ValueError, match=r"shard-00001.h5: it belongs to another run .* move it away"):
        _generate(folder, client, 60, shards=4)


def test_two_runs_cannot_write_the_same_folder(tmp_path, client):
    with planning.locked(tmp_path / "dataset"), pytest.raises(ValueError, match="another process is writing it"):
        _generate(tmp_path / "dataset", client, 60)
    assert not (tmp_path / "dataset").exists()


def test_a_scheduler_file_names_the_scheduler(tmp_path, client):
    (tmp_path / "scheduler.json").write_text(json.dumps({"address": client.scheduler.address}))
    report = _generate(tmp_path / "dataset", client, 24, scheduler=tmp_path / "scheduler.json")
    assert len(report.simulated) == 12


# ---------------------------------------------------------------------- errors

WRONG = {
    "engine": ({"engine": "reference"}, "each shard would simulate all showers before it"),
    "more shards than showers": ({"num_showers": 3}, "shards: 12 was given, but it must be a whole number from 1 to 3"),
    "too many shards": ({"num_showers": 10**6, "shards": 200_000}, "from 1 to 100000"),
    "compression": ({"compression": "zip"}, "compression: 'zip' was given"),
    "seed": ({"seed": -1}, "seed: -1 was given"),
    "record": ({"record": "tree"}, "record: 'tree' was given"),
    "no scheduler file": ({"scheduler": "none.json"}, "'none.json' was given, but it must be 'local', an address"),
    "workers": ({"scheduler": "tcp://a:1", "workers": 2}, "only scheduler='local' starts workers"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_arguments_are_errors(tmp_path, name):
    changes, message = WRONG[name]
    with pytest.raises(ValueError, match=message):
        generate_shards(tmp_path / "dataset", **{"num_showers": 60, "shards": 12, **changes})
    assert not (tmp_path / "dataset").exists()


def test_wrong_folders_are_errors(tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "shard-00000.h5").write_text("")
    for name, message in (
        ("file", "it is a file, but shards need a folder"),
        ("there", "it contains shard-00000.h5, but no manifest.json"),
    ):
        with pytest.raises(ValueError, match=message):
            generate_shards(tmp_path / name, 10, shards=1)
    with pytest.raises(FileNotFoundError, match="make it first"):
        generate_shards(tmp_path / "no" / "dataset", 10, shards=1)


def test_a_file_that_is_not_a_scheduler_file_is_an_error(tmp_path):
    (tmp_path / "a.json").write_text("[]")
    with pytest.raises(ValueError, match="not a scheduler file of dask"):
        generate_shards(tmp_path / "dataset", 10, shards=1, scheduler=str(tmp_path / "a.json"))


def test_a_scheduler_that_does_not_answer_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr("supa_datasets.shards.cluster._TIMEOUT", 0.2)
    with pytest.raises(OSError, match=r"tcp://127.0.0.1:1: the scheduler does not answer"):
        generate_shards(tmp_path / "dataset", 10, shards=1, scheduler="tcp://127.0.0.1:1")
    assert not (tmp_path / "dataset").exists()


def test_without_distributed_the_error_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "distributed", None)
    with pytest.raises(ImportError, match=r"pip install 'supa-showers\[scale\]'"):
        generate_shards(tmp_path / "dataset", 10, shards=1)
