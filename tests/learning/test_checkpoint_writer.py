"""Times at which checkpoints are written: at the start, at intervals, at the end and after an interruption."""

from types import SimpleNamespace

import pytest

from supa_learning import checkpoint_writer
from supa_learning.checkpoint_writer import CheckpointWriter


class _Checkpoint:
    """Records that it was written."""

    def __init__(self, name, written):
        self.name, self.written = name, written

    def save(self, _path):
        self.written.append(self.name)


@pytest.fixture
def clock(monkeypatch):
    """A clock that the test sets."""
    now = [0.0]
    monkeypatch.setattr(checkpoint_writer.time, "perf_counter", lambda: now[0])
    return now


class _Training:
    """A training whose state has a name."""

    def __init__(self, path, *, at_start=True):
        self.written, self.name = [], "first"
        self.state = SimpleNamespace(finished=False)
        take = lambda: _Checkpoint(self.name, self.written)  # noqa: E731
        self.writer = CheckpointWriter(path, take, seconds=60.0, at_start=at_start)
        self.writer.on_start(self)

    def step(self, name, *, finished=False):
        self.name, self.state.finished = name, finished
        self.writer.on_step(self)


def test_checkpoints_are_written_at_the_start_at_intervals_and_at_the_end(tmp_path, clock):
    training = _Training(tmp_path / "m.ckpt")
    for name, now in (("a", 1), ("b", 61), ("c", 100), ("d", 122)):
        clock[0] = now
        training.step(name)
    training.step("end", finished=True)
    assert training.written == ["first", "b", "d", "end"]


@pytest.mark.parametrize(
    ("at_start", "names", "expected"), [(True, (), ["first"]), (False, (), []), (False, ("a", "b"), ["b"])]
)
def test_write_after_an_interruption_writes_the_newest_state_once(tmp_path, clock, at_start, names, expected):
    training = _Training(tmp_path / "m.ckpt", at_start=at_start)
    for name in names:
        training.step(name)
    training.writer.write()
    training.writer.write()
    assert training.written == expected


def test_an_interruption_during_a_write_writes_again(tmp_path, clock, monkeypatch):
    training = _Training(tmp_path / "m.ckpt", at_start=False)
    save = _Checkpoint.save

    def interrupted(self, path):
        monkeypatch.setattr(_Checkpoint, "save", save)
        self.written.append("torn")
        raise KeyboardInterrupt

    monkeypatch.setattr(_Checkpoint, "save", interrupted)
    clock[0] = 100.0
    with pytest.raises(KeyboardInterrupt):
        training.step("a")
    training.writer.write()
    assert training.written == ["torn", "a"]
