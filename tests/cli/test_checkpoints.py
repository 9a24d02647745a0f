"""When a checkpoint is written: at the start, now and then, at the end, and when the work is interrupted."""

import pytest

from supa_cli import checkpoints
from supa_cli.checkpoints import saved


class _Checkpoint:
    """Remembers what was written."""

    def __init__(self, name, written):
        self.name, self.written = name, written

    def save(self, path):
        self.written.append(self.name)


@pytest.fixture
def clock(monkeypatch):
    """A clock to set."""
    now = [0.0]
    monkeypatch.setattr(checkpoints.time, "perf_counter", lambda: now[0])
    return now


def _saved(path, written, *, fresh=True):
    return saved(
        path, _Checkpoint("first", written), fresh=fresh, seconds=60.0, words=lambda c: f"words on {c.name} are"
    )


def test_it_is_written_at_the_start_when_it_is_time_and_at_the_end(tmp_path, clock):
    written = []
    with _saved(tmp_path / "m.ckpt", written) as save:
        for name, now in (("a", 1), ("b", 61), ("c", 100), ("d", 122)):
            clock[0] = now
            save(lambda name=name: _Checkpoint(name, written), False)
        save(lambda: _Checkpoint("end", written), True)
    assert written == ["first", "b", "d", "end"]


@pytest.mark.parametrize(
    ("fresh", "names", "expected"), [(True, (), ["first"]), (False, (), []), (False, ("a", "b"), ["b"])]
)
def test_an_interruption_writes_what_is_newest_once(tmp_path, clock, capsys, fresh, names, expected):
    written = []

    def work():
        with _saved(tmp_path / "m.ckpt", written, fresh=fresh) as save:
            for name in names:
                save(lambda name=name: _Checkpoint(name, written), False)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        work()
    assert written == expected
    newest = names[-1] if names else "first"
    assert f"words on {newest} are in {tmp_path / 'm.ckpt'}; go on" in capsys.readouterr().err


def test_an_interruption_while_it_is_written_writes_it_again(tmp_path, clock):
    written = []

    class Interrupted(_Checkpoint):
        def save(self, path):
            written.append("whole" if written else "torn")
            if written == ["torn"]:
                raise KeyboardInterrupt

    def work():
        with _saved(tmp_path / "m.ckpt", written, fresh=False) as save:
            clock[0] = 100.0
            save(lambda: Interrupted("a", written), False)

    with pytest.raises(KeyboardInterrupt):
        work()
    assert written == ["torn", "whole"]
