"""Atomic writes: a file is replaced completely or not at all."""

import os

import pytest

from supa.atomic_file import atomic_write, temporary_path


def test_a_failure_leaves_the_old_file_unchanged(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(TypeError), atomic_write(path) as file:
        file.write(b"new"[:1]) and file.write("text, which a binary file rejects")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_an_older_temporary_file_is_overwritten(tmp_path):
    path = tmp_path / "a.txt"
    temporary_path(path).write_text("left by a killed process")
    with atomic_write(path) as file:
        file.write(b"new")
        assert not path.exists()
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_one_process_writes_at_a_time(tmp_path):
    path = tmp_path / "a.txt"
    with atomic_write(path) as file:
        file.write(b"first")
        with pytest.raises(ValueError, match="another process is writing it"), atomic_write(path):
            pass
    assert path.read_text() == "first"


def test_invalid_targets_raise_clear_errors(tmp_path):
    with (
        pytest.raises(FileNotFoundError, match="does not exist; make it first"),
        atomic_write(tmp_path / "b" / "a.txt"),
    ):
        pass
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(ValueError, match="it is not a regular file"), atomic_write(tmp_path / "fifo"):
        pass
