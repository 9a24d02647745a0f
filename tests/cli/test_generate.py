"""``supa generate``: files, errors and resuming."""

import contextlib
import hashlib
import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import pytest
from click.testing import CliRunner

import supa
import supa_datasets
from supa_cli import main
from supa_cli.main import cli

COMMAND = [sys.executable, "-m", "supa_cli.main"]


def _supa(*arguments, cwd, **options) -> subprocess.CompletedProcess:
    return subprocess.run(
        [*COMMAND, *map(str, arguments)], cwd=cwd, capture_output=True, text=True, timeout=300, **options
    )


def _generate(path: Path, *arguments) -> None:
    result = CliRunner().invoke(cli, ["generate", str(path), "--quiet", *map(str, arguments)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    assert result.output == ""


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_file_contains_the_showers_of_simulate(tmp_path):
    _generate(tmp_path / "a.h5", "-n", 500, "--seed", 3, "--energy", "log:1:100", "--record", "particles")
    loaded = supa_datasets.load(tmp_path / "a.h5")
    simulated = supa.simulate(500, energy="log:1:100", seed=3, record="particles")
    assert loaded.run == simulated.run
    assert loaded.energy.tolist() == simulated.energy.astype(np.float32).tolist()
    assert loaded.particles["x"].tolist() == simulated.particles["x"].astype(np.float32).tolist()


def test_the_reference_engine_writes_the_showers_of_the_public_code(tmp_path, data):
    path = tmp_path / "r.h5"
    options = ["--preset", "reference", "--engine", "reference", "--keep", "complete", "--seed", 1234, "--energy", 65]
    _generate(path, "-n", 60, *options)
    with supa_datasets.ShowerFile(path) as file, np.load(data / "reference_65GeV_seed1234_60showers.npz") as sample:
        assert file[:].index.tolist() == sample["attempt_index"].tolist()
        assert file[:].energy.tolist() == sample["energy"].astype(np.float32).tolist()
        assert file[:].layer.tolist() == sample["layer"].tolist()
        assert file.run.attempts == sample["attempt_index"][-1] + 1


def test_physics_comes_from_presets_files_and_changes(tmp_path):
    (tmp_path / "p.toml").write_text(supa.preset("dense").to_toml())
    _generate(tmp_path / "a.h5", "-n", 3, "--config", tmp_path / "p.toml", "--set", "frame=reference")
    _generate(tmp_path / "b.h5", "-n", 3, "--preset", "dense", "--set", 'frame="reference"', "--set", "num_slices=24")
    _generate(tmp_path / "c.h5", "-n", 3, "--set", "readout_layers=[[7, 12], [13, 27]]", "--set", "incident_energy=1:2")
    assert _digest(tmp_path / "a.h5") == _digest(tmp_path / "b.h5")
    config = supa_datasets.ShowerFile(tmp_path / "c.h5").run.config
    assert config.readout_layers == ((7, 12), (13, 27))
    assert str(config.spectrum) == "1.0:2.0"


@pytest.mark.parametrize("compression", ["lz4", "zstd", "gzip"])
def test_the_requested_compression_is_used(tmp_path, compression):
    pytest.importorskip("hdf5plugin")
    _generate(tmp_path / "a.h5", "-n", 10, "--compression", compression)
    with supa_datasets.ShowerFile(tmp_path / "a.h5") as file:
        assert file.compression != "none"
        assert len(file[:]) == 10


def test_the_command_offers_the_compressions_of_the_library():
    from supa_cli.generate import command

    (option,) = (p for p in command.params if p.name == "compression")
    assert tuple(option.type.choices) == supa_datasets.COMPRESSIONS


def test_threads_do_not_change_the_bytes(tmp_path):
    for threads in (1, 2, 3):
        _generate(tmp_path / f"{threads}.h5", "-n", 3000, "--threads", threads, "--keep", "complete")
    assert len({_digest(tmp_path / f"{threads}.h5") for threads in (1, 2, 3)}) == 1


def test_the_summary_compares_with_the_exact_expectations(tmp_path):
    path = str(tmp_path / "a.h5")
    result = CliRunner().invoke(cli, ["generate", path, "-n", "2e3", "--keep", "complete"], catch_exceptions=False)
    assert result.exit_code == 0, result.stderr
    for part in ("showers", "2,000", "attempts", "acceptance", "file size", "97.4834", "std. error"):
        assert part in result.stdout
    assert re.search(
        r"\ntime +\d+\.\d s, of which \d+\.\d s to start\nrate +[\d,]+ showers/s after the start\n", result.stdout
    )
    pulls = [float(p) for p in re.findall(r"([+-]\d+\.\d\d)$", result.stdout, re.MULTILINE)]
    assert len(pulls) == 8
    assert "acceptance" in result.stdout
    assert max(map(abs, pulls)) < 5
    assert re.search(r"100\.0 % +2,000 of 2,000 showers, [\d,]+ showers/s", result.stderr)
    assert "\x1b" not in result.stdout + result.stderr


def test_unusual_names_and_encodings_are_supported(tmp_path):
    (tmp_path / "x[").mkdir()
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "LANG": "C", "TERM": "dumb"}
    for name in ("x[/y].h5", "é[red].h5"):
        result = _supa("generate", name, "-n", "10", cwd=tmp_path, env=environment)
        assert (result.returncode, name.replace("é", "?") in result.stdout) == (0, True), result
    assert _supa("presets", cwd=tmp_path, env=environment).returncode == 0


def test_the_start_is_called_compilation_only_with_an_empty_cache(tmp_path, monkeypatch):
    from supa_cli.generate import _must_compile

    monkeypatch.setattr("supa.compiler.machine_code_folder", lambda _: str(tmp_path))
    assert _must_compile("cpu")
    (tmp_path / "engines_1").mkdir()
    (tmp_path / "engines_1" / "cpu.walk-1.py311.nbi").touch()
    assert not _must_compile("cpu")
    assert not _must_compile("reference")


STARTED = """
from numba.core.registry import CPUDispatcher
from supa_cli import file_run
from supa_cli.main import main

compile_or_load, calls = CPUDispatcher.compile, []

def counted(self, signature):
    calls.append(signature)
    return compile_or_load(self, signature)

CPUDispatcher.compile = counted

class Report:
    counts = []

    def __enter__(self):
        return lambda *_: self.counts.append(len(calls))

    def __exit__(self, *_):
        pass

file_run.progress = lambda *_, **__: Report()
try:
    main()
finally:
    print("compiled", Report.counts[0] < Report.counts[1] == len(calls))
"""


@pytest.mark.parametrize("record", ["hits", "particles"])
def test_everything_is_compiled_at_the_start(tmp_path, record):
    """The rate in the summary excludes the start, and the threads need compiled functions."""
    arguments = ["generate", "a.h5", "-n", "5000", "--record", record, "--energy", "1:9", "--keep", "complete"]
    command = [sys.executable, "-c", STARTED, *arguments, "--quiet"]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120)
    assert (ended.returncode, ended.stdout) == (0, "compiled True\n"), ended.stderr


def test_the_summary_reports_a_missing_closed_form(tmp_path):
    path = str(tmp_path / "a.h5")
    result = CliRunner().invoke(cli, ["generate", path, "-n", "50", "--preset", "critical"], catch_exceptions=False)
    assert "no closed form" in result.stdout


# ---------------------------------------------------------------------- mistakes

MISTAKES = {
    "no count": (["a.h5"], "Missing option '-n'"),
    "no file": (["-n", "1"], "Missing argument 'OUT'"),
    "zero": (["a.h5", "-n", "0"], "at least 1"),
    "negative": (["a.h5", "-n", "-5"], "at least 1"),
    "word": (["a.h5", "-n", "many"], "'many' was given"),
    "fraction": (["a.h5", "-n", "1.5"], "'1.5' was given"),
    "infinite": (["a.h5", "-n", "inf"], "'inf' was given"),
    "preset": (["a.h5", "-n", "1", "--preset", "SUPAv1"], "no preset 'SUPAv1'; choose from standard"),
    "two configs": (["a.h5", "-n", "1", "--preset", "dense", "--config", "x.toml"], "cannot be used together"),
    "no config file": (["a.h5", "-n", "1", "--config", "x.toml"], "cannot be read"),
    "config ending": (["a.h5", "-n", "1", "--config", "x.yaml"], "must end in .json or .toml"),
    "key": (["a.h5", "-n", "1", "--set", "slices=3"], "'slices' is not a setting of ShowerConfig"),
    "no equals": (["a.h5", "-n", "1", "--set", "num_slices"], "must be KEY=VALUE"),
    "value": (["a.h5", "-n", "1", "--set", "num_slices=0"], "num_slices: 0 was given"),
    "text value": (["a.h5", "-n", "1", "--set", "num_slices=many"], "num_slices: 'many' was given"),
    "list value": (["a.h5", "-n", "1", "--set", "opening_angle=[1]"], "must be two numbers"),
    "energy word": (["a.h5", "-n", "1", "--energy", "high"], "'high' was given"),
    "energy range": (["a.h5", "-n", "1", "--energy", "9:1"], "the range 9:1 is empty"),
    "energy sign": (["a.h5", "-n", "1", "--energy=-3"], "-3.0 was given"),
    "seed": (["a.h5", "-n", "1", "--seed", "-1"], "at least 0"),
    "large seed": (["a.h5", "-n", "1", "--seed", str(2**64)], "from 0 to 18446744073709551615"),
    "reference seed": (["a.h5", "-n", "1", "--seed", str(2**32), "--engine", "reference"], "with engine='reference'"),
    "first": (["a.h5", "-n", "1", "--first", str(2**56)], "first: 72057594037927936 was given"),
    "keep": (["a.h5", "-n", "1", "--keep", "some"], "'some' is not one of 'all', 'complete'"),
    "record": (["a.h5", "-n", "1", "--record", "tree"], "'tree' is not one of"),
    "engine": (["a.h5", "-n", "1", "--engine", "gpu"], "'gpu' is not one of"),
    "threads": (["a.h5", "-n", "1", "--threads", "0"], "at least 1"),
    "reference threads": (["a.h5", "-n", "1", "--engine", "reference", "--threads", "2"], "uses one stream; use 1"),
    "two values": (["a.h5", "-n", "1", "--set", "num_slices=27\nframe='reference'"], "num_slices: "),
    "deep value": (["a.h5", "-n", "1", "--set", "azimuth=" + "[" * 3000], "azimuth: "),
    "empty config": (["a.h5", "-n", "1", "--config", ""], "must end in .json or .toml"),
    "incomplete": (
        ["a.h5", "-n", "1", "--keep", "complete", "--set", "readout_layers=[[5, 6], [7, 27]]"],
        "No shower of this config",
    ),
    "compression": (["a.h5", "-n", "1", "--compression", "rar"], "'rar' is not one of"),
    "both": (["a.h5", "-n", "1", "--overwrite", "--resume"], "cannot be used together"),
    "folder": ([".", "-n", "1"], "is a folder"),
    "unknown": (["a.h5", "-n", "1", "--speed", "9"], "No such option"),
}


@pytest.mark.parametrize(("arguments", "message"), MISTAKES.values(), ids=MISTAKES.keys())
def test_a_mistake_is_one_clear_usage_error(arguments, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(cli, ["generate", *arguments])
    assert result.exit_code == 2, result.output
    assert message in " ".join(result.output.replace("│", " ").split())
    assert "Traceback" not in result.output
    assert list(tmp_path.iterdir()) == []


FAILURES = {
    "exists": (["there.h5", "-n", "1"], "there.h5 exists; choose another name"),
    "no folder": (["absent/a.h5", "-n", "1"], "absent does not exist; make it first"),
    "another run": (["there.h5", "-n", "9", "--resume", "--seed", "5"], "another run (seed is 0 there, 5 here)"),
    "not ours": (["text.h5", "-n", "9", "--resume"], "not an HDF5 file"),
    "never complete": (
        ["a.h5", "-n", "1", "--keep", "complete", "--preset", "critical", "--set", "critical_energy=1000"],
        "None of",
    ),
}


@pytest.mark.parametrize(("arguments", "message"), FAILURES.values(), ids=FAILURES.keys())
def test_a_failed_run_prints_the_reason_and_exits_with_1(arguments, message, tmp_path, monkeypatch):
    monkeypatch.setattr("supa.simulation.MAX_FRUITLESS_ATTEMPTS", 1000)
    monkeypatch.chdir(tmp_path)
    supa_datasets.save(supa.simulate(3), "there.h5")
    Path("text.h5").write_text("hello")
    before = _digest(Path("there.h5"))
    monkeypatch.setattr(sys, "argv", ["supa", "generate", *arguments])

    errors = []
    monkeypatch.setattr("click.echo", lambda text, **_: errors.append(str(text)))
    with pytest.raises(SystemExit) as stopped:
        main.main()
    assert stopped.value.code == 1
    *_, error = errors
    assert error.startswith("Error: ")
    assert message in error
    assert _digest(Path("there.h5")) == before


def test_fewer_showers_than_the_file_contains_is_an_error(tmp_path):
    _generate(tmp_path / "a.h5", "-n", 20)
    result = CliRunner().invoke(cli, ["generate", str(tmp_path / "a.h5"), "-n", "10", "--resume"])
    assert result.exit_code == 2
    assert "already contains 20 showers" in result.output
    assert len(supa_datasets.load(tmp_path / "a.h5")) == 20
    assert [p.name for p in tmp_path.iterdir()] == ["a.h5"]


# ---------------------------------------------------------------------- interruption


def test_resume_extends_a_finished_file_and_keeps_a_complete_one(tmp_path):
    _generate(tmp_path / "whole.h5", "-n", 900)
    _generate(tmp_path / "a.h5", "-n", 400)
    _generate(tmp_path / "a.h5", "-n", 900, "--resume")
    _generate(tmp_path / "a.h5", "-n", 900, "--resume")
    assert _digest(tmp_path / "a.h5") == _digest(tmp_path / "whole.h5")


def _start(path: Path, *arguments, wait_for: str | None = ".partial") -> subprocess.Popen:
    process = subprocess.Popen(
        [*COMMAND, "generate", str(path), *map(str, arguments)],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 120
    while wait_for and not Path(f"{path}{wait_for}").exists() and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return process


def _finished(path: Path) -> int:
    """Return the number of showers in a partial file that is being written."""
    with h5py.File(f"{path}.partial", "r", swmr=True, libver="latest", locking=False) as partial:
        return int(partial["progress"][0])


def test_ctrl_c_keeps_finished_showers(tmp_path):
    path = tmp_path / "a.h5"
    process = _start(path, "-n", 10_000_000)
    deadline = time.monotonic() + 120
    while not _finished(path):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    for _ in range(4):
        process.send_signal(signal.SIGINT)
        time.sleep(0.02)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "resume with the same command and --resume" in errors
    assert "Traceback" not in errors
    assert [p.name for p in tmp_path.iterdir()] == ["a.h5.partial"]
    n = _finished(path) + 1000
    _generate(path, "-n", n, "--resume")
    _generate(tmp_path / "whole.h5", "-n", n)
    assert _digest(path) == _digest(tmp_path / "whole.h5")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_other_signals_keep_finished_showers(tmp_path, number):
    if signal.getsignal(number) is signal.SIG_IGN:
        pytest.skip(f"{number.name} is ignored here, as by nohup, and would be by the command")
    process = _start(tmp_path / "a.h5", "-n", 10_000_000)
    process.send_signal(number)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "Traceback" not in errors
    assert not (tmp_path / "a.h5").exists()


def test_a_signal_inside_a_weak_reference_callback_ends_the_run(tmp_path, monkeypatch, capsys):
    """Python discards exceptions inside callbacks of weak references, of which h5py runs many."""
    path, append = tmp_path / "a.h5", supa_datasets.ShowerWriter.append

    def interrupted_where_nobody_sees_it(writer, showers):
        append(writer, showers)
        with contextlib.suppress(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(supa_datasets.ShowerWriter, "append", interrupted_where_nobody_sees_it)
    monkeypatch.setattr("sys.argv", ["supa", "generate", str(path), "-n", "2000000"])
    with pytest.raises(SystemExit) as stopped:
        main.main()
    assert stopped.value.code == 130
    assert "--resume" in capsys.readouterr().err
    assert 0 < _finished(path) < 2_000_000


def test_a_signal_inside_exec_ends_the_run_with_status_130(tmp_path):
    """An exception at this point would make `python -m` die from the signal, even if it is caught."""
    (tmp_path / "program.py").write_text(
        "import supa_datasets, supa_cli.main\n"
        "append = supa_datasets.ShowerWriter.append\n"
        "def interrupted(writer, showers):\n"
        "    append(writer, showers)\n"
        "    exec('import signal; signal.raise_signal(signal.SIGINT)')\n"
        "supa_datasets.ShowerWriter.append = interrupted\n"
        "supa_cli.main.main()\n"
    )
    command = [sys.executable, "-m", "program", "generate", "a.h5", "-n", "2000000"]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120)
    assert (ended.returncode, "--resume" in ended.stderr) == (130, True), ended.stderr
    assert 0 < _finished(tmp_path / "a.h5") < 2_000_000


def test_a_full_disk_is_one_clear_error(tmp_path):
    """A limit on the file size simulates a full disk, which the thread that appends meets."""
    arguments = " ".join([*COMMAND, "generate", "a.h5", "-n", "1e6"])
    command = ["sh", "-c", f"ulimit -f 80000; exec {arguments}"]  # 41 MB
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120)
    assert (ended.returncode, "Traceback" in ended.stderr) == (1, False), ended.stderr
    *_, error = ended.stderr.strip().splitlines()
    assert re.fullmatch(
        r"Error: a\.h5: the file cannot be written \(File too large\); [\d,]+ showers are saved in a\.h5\.partial\.",
        error,
    )
    assert [path.name for path in tmp_path.iterdir()] == ["a.h5.partial"]
    assert _finished(tmp_path / "a.h5") > 10_000


WAYS = {
    "complete": ["-n", 400_000, "--energy", "log:1:100", "--keep", "complete"],
    "particles, gzip": ["-n", 20_000, "--record", "particles", "--compression", "gzip"],
    "zstd": ["-n", 100_000, "--compression", "zstd"],
}


@pytest.mark.slow
@pytest.mark.parametrize("options", WAYS.values(), ids=WAYS.keys())
def test_sigkill_leaves_no_file_or_a_complete_one(tmp_path, options):
    """A run that is killed at 8 random times and resumed writes the same bytes as an undisturbed run."""
    if "zstd" in options:
        pytest.importorskip("hdf5plugin")
    options = [*options, "--seed", 9, "--quiet"]
    whole = tmp_path / "whole.h5"
    _generate(whole, *options[:-1])  # compiles
    started = time.monotonic()
    _generate(whole, *options[:-1], "--overwrite")
    undisturbed = time.monotonic() - started
    digest, moments = _digest(whole), random.Random(1)
    path = tmp_path / "a.h5"
    kills = 0
    while kills < 8:
        process = _start(path, *options, "--resume", wait_for=None)
        try:
            process.wait(timeout=moments.uniform(0.5, 1.5 + undisturbed))
        except subprocess.TimeoutExpired:
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
            kills += 1
        process.stdout.close()
        process.stderr.close()
        if path.exists():
            assert _digest(path) == digest
            path.unlink()
    if not path.exists():
        _generate(path, *options[:-1], "--resume")
    assert _digest(path) == digest
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.h5", "whole.h5"]
