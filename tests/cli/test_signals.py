"""Signals: no output is left incomplete, only one sentence is printed, and the exit status is correct."""

import hashlib
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from supa_cli import signals

COMMAND = [sys.executable, "-m", "supa_cli.main"]


@pytest.fixture
def ended(monkeypatch):
    """Install the signal handlers; return the list of statuses with which the process would have exited."""
    statuses = []
    monkeypatch.setattr(signals.os, "_exit", statuses.append)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # under nohup it is ignored
    signals.install()
    yield statuses
    signals.install()


@pytest.mark.parametrize("number", signals.SIGNALS)
def test_outside_of_a_section_the_process_exits_immediately(ended, number):
    signal.raise_signal(number)
    assert ended == [130]


def test_inside_a_section_the_work_continues_to_its_next_check(ended, capsys):
    done = []
    with pytest.raises(KeyboardInterrupt), signals.deferred_interrupts(lambda: "Go on with --resume."):  # noqa: PT012
        for piece in signals.interruptible(range(5)):
            if piece == 2:
                for _ in range(4):
                    signal.raise_signal(signal.SIGINT)
            done.append(piece)
    assert done == [0, 1, 2]
    assert ended == []
    assert capsys.readouterr().err == "\nGo on with --resume.\n"


def test_a_section_without_a_check_is_interrupted_at_its_end(ended):
    done = []
    with pytest.raises(KeyboardInterrupt), signals.deferred_interrupts():  # noqa: PT012
        signal.raise_signal(signal.SIGTERM)
        done.append("whole")
    assert done == ["whole"]


def test_a_late_second_signal_ends_the_process_and_cleans_up(ended, monkeypatch, capfd):
    cleaned = []

    def left() -> str:
        cleaned.append(True)
        return "Half of it is kept."

    with pytest.raises(KeyboardInterrupt), signals.deferred_interrupts(left):  # noqa: PT012
        signal.raise_signal(signal.SIGINT)
        assert ended == []
        monkeypatch.setattr(signals, "PATIENCE", -1.0)
        signal.raise_signal(signal.SIGINT)
        assert (ended, cleaned) == ([130], [True])
        assert capfd.readouterr().err.endswith("Half of it is kept.\nInterrupted.\n")


def test_signals_have_no_effect_once_the_output_is_complete(ended, monkeypatch):
    with signals.deferred_interrupts():
        signal.raise_signal(signal.SIGINT)
        signals.mark_output_complete()
    signal.raise_signal(signal.SIGTERM)
    signals.raise_if_interrupted()
    assert ended == []
    monkeypatch.setattr(signals, "PATIENCE", -1.0)  # as if the exit hung
    signal.raise_signal(signal.SIGTERM)
    assert ended == [0]


def _run(program: str, *arguments: str, cwd: Path) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-c", program, *arguments], cwd=cwd, capture_output=True, text=True, check=False, timeout=120
    )


@pytest.mark.parametrize("number", ["SIGINT", "SIGTERM", "SIGHUP"])
@pytest.mark.parametrize("module", ["click", "numpy"])
def test_a_signal_during_imports_is_quiet(tmp_path, number, module):
    program = f"""
import signal, sys
class Interrupts:
    def find_spec(self, name, *_):
        if name == {module!r}:
            signal.raise_signal(signal.{number})
sys.meta_path.insert(0, Interrupts())
signal.signal(signal.SIGHUP, signal.SIG_DFL)
from supa_cli.main import main
main()
"""
    result = _run(program, "generate", "a.h5", "-n", "5", cwd=tmp_path)
    assert (result.returncode, result.stdout, result.stderr.strip()) == (130, "", "Interrupted.")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", ["SIGINT", "SIGTERM"])
def test_a_signal_after_the_work_keeps_its_status(tmp_path, number):
    program = (
        "import atexit, signal\n"
        "from supa_cli.main import main\n"
        f"atexit.register(signal.raise_signal, signal.{number})\n"
        "main()"
    )
    result = _run(program, "presets", "standard", cwd=tmp_path)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.startswith("num_slices")
    assert _run(program, "presets", "standart", cwd=tmp_path).returncode == 2


def test_an_interrupted_conversion_leaves_no_file(tmp_path, monkeypatch, capsys):
    import supa
    import supa_datasets
    from supa_cli import convert, main

    monkeypatch.chdir(tmp_path)
    supa_datasets.save(supa.simulate(20), "a.h5")

    def checks():
        signal.raise_signal(signal.SIGTERM)
        assert Path("a.npz.partial").exists()
        signals.raise_if_interrupted()

    monkeypatch.setattr(convert, "raise_if_interrupted", checks)
    monkeypatch.setattr(sys, "argv", ["supa", "convert", "a.h5", "a.npz"])
    with pytest.raises(SystemExit) as stopped:
        main.main()
    assert (stopped.value.code, "Interrupted." in capsys.readouterr().err) == (130, True)
    assert [path.name for path in tmp_path.iterdir()] == ["a.h5"]


def test_a_closed_pipe_is_not_an_error(tmp_path):
    reader, writer = os.pipe()
    os.close(reader)
    result = subprocess.run([*COMMAND, "presets"], stdout=writer, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writer)
    assert (result.returncode, result.stderr) == (1, "")


def test_closed_standard_streams_are_not_reused_for_files(tmp_path):
    arguments = " ".join([*COMMAND, "generate", "a.h5", "-n", "20"])
    shell = ["sh", "-c", f"{arguments} <&- >&- 2>&-"]
    assert subprocess.run(shell, cwd=tmp_path, check=False).returncode == 0
    result = subprocess.run([*COMMAND, "info", "a.h5"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr) == (0, "")


@pytest.mark.slow
def test_signals_at_any_moment_are_quiet_and_lose_nothing(tmp_path):
    """A run that is interrupted at 25 random times and resumed writes the same bytes as an undisturbed run."""
    options = ["-n", "60000", "--seed", "9", "--keep", "complete"]
    started = time.monotonic()
    subprocess.run([*COMMAND, "generate", "whole.h5", *options], cwd=tmp_path, check=True, capture_output=True)
    undisturbed, moments = time.monotonic() - started, random.Random(1)
    digest = hashlib.sha256((tmp_path / "whole.h5").read_bytes()).hexdigest()
    path = tmp_path / "a.h5"
    for _ in range(25):
        process = subprocess.Popen(
            [*COMMAND, "generate", "a.h5", *options, "--resume"],
            cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        # In the first tenth of a second the interpreter starts and has not reached the command.
        time.sleep(0.1 + moments.uniform(0, undisturbed))
        process.send_signal(moments.choice([signal.SIGINT, signal.SIGTERM]))
        _, errors = process.communicate(timeout=120)
        assert process.returncode in (0, 130), errors
        assert "Traceback" not in errors
        assert "Exception ignored" not in errors
        if path.exists():
            assert hashlib.sha256(path.read_bytes()).hexdigest() == digest
            path.unlink()
    subprocess.run([*COMMAND, "generate", "a.h5", *options, "--resume"], cwd=tmp_path, check=True, capture_output=True)
    assert hashlib.sha256(path.read_bytes()).hexdigest() == digest
