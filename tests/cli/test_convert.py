"""``supa convert``: files, messages and errors."""

import os
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from click.testing import CliRunner

import supa
import supa_datasets
from supa_cli.main import cli, main

COMMAND = [sys.executable, "-m", "supa_cli.main", "convert"]


@pytest.fixture
def folder(tmp_path, monkeypatch, data):
    monkeypatch.chdir(tmp_path)
    supa_datasets.save(supa.simulate(200, seed=2), "a.h5")
    (tmp_path / "binning.xml").write_bytes((data / "binning_supa.xml").read_bytes())
    return tmp_path


def _run(*arguments, code: int = 0) -> str:
    result = CliRunner().invoke(cli, ["convert", *arguments], catch_exceptions=False)
    assert result.exit_code == code, result.output
    return result.output


def test_a_file_survives_a_round_trip(folder):
    text = _run("a.h5", "b.parquet")
    assert "converting" in text
    assert "100.0 %  200 of 200 showers" in text
    assert _run("b.parquet", "c.h5", "--quiet") == ""
    assert (folder / "c.h5").read_bytes() == (folder / "a.h5").read_bytes()
    assert "Error" not in _run("a.h5", "b.parquet", "--overwrite")


def test_assumptions_and_losses_are_reported(folder):
    text = _run("a.h5", "b.h5", "--to", "calochallenge", "--binning", "binning.xml", "--particle", "photon")
    assert "of the hit energy is outside the cells" in text
    assert "overflow" in _run("a.h5", "g.h5", "--to", "calogan") + _run("g.h5", "back.npz")
    columns = {f"hits_{name}": [1.0] for name in ("x", "y", "energy")}
    np.savez("m.npz", hits_offset=[0, 1], incident_energy=[2.0], hits_layer=[1], **columns)
    assert "the preset 'standard' is assumed" in _run("m.npz", "m.h5")
    assert "assumed" not in _run("m.npz", "m2.h5", "--preset", "dense")
    assert supa_datasets.load("m2.h5").config == supa.preset("dense")
    (folder / "my.toml").write_text(supa.preset("critical").to_toml())
    _run("m.npz", "m3.h5", "--config", "my.toml")
    assert supa_datasets.load("m3.h5").config == supa.preset("critical")


def test_the_formats_are_listed(folder):
    text = _run("--list")
    for name, form in supa_datasets.FORMATS.items():
        assert name in text
        assert all(ending in text for ending in form.extensions)


MISTAKES = {
    "unknown ending": (["a.h5", "b.txt"], 1, "no format has this file extension; choose one .*parquet"),
    "unknown format": (["a.h5", "b.h5", "--to", "rar"], 2, "'rar' was given, but the formats are supa, showerdata"),
    "unknown source": (["a.h5", "b.npz", "--from", "rar"], 2, "'rar' was given, but the formats are"),
    "another source": (["a.h5", "b.root", "--from", "npz"], 1, "a.h5: it is damaged or not of this format"),
    "same format": (["a.h5", "b.hdf5"], 1, "both files have the format 'supa'; choose the format to write"),
    "same file": (["a.h5", "a.h5", "--to", "npz"], 1, "the target is the source file"),
    "there": (["a.h5", "binning.xml", "--to", "npz"], 1, "binning.xml exists; .*--overwrite"),
    "absent": (["b.h5", "b.npz"], 1, "b.h5: there is no such file"),
    "not written": (["a.h5", "b.bin"], 1, "'reference' can be read, but not written"),
    "no binning": (["a.h5", "b.h5", "--to", "calochallenge"], 1, "needs its binning .--binning XML"),
    "several particles": (
        ["a.h5", "b.h5", "--to", "calochallenge", "--binning", "binning.xml"],
        1,
        "photon .22., pion",
    ),
    "particle alone": (["a.h5", "b.npz", "--particle", "photon"], 2, "also use --binning"),
    "absent binning": (["a.h5", "b.npz", "--binning", "no.xml"], 1, "no.xml: there is no such file"),
    "two configs": (["a.h5", "b.npz", "--preset", "dense", "--config", "a.toml"], 2, "cannot be used together"),
    "config": (["a.h5", "b.npz", "--config", "a.toml"], 2, "cannot be read"),
    "preset": (["a.h5", "b.npz", "--preset", "SUPAv1"], 2, "no preset 'SUPAv1'"),
    "other preset": (["a.h5", "b.npz", "--preset", "dense"], 1, "another config was given; omit it"),
    "depth": (["a.h5", "b.npz", "--depth", "z"], 2, "'z' is not one of"),
}


@pytest.mark.parametrize(("arguments", "code", "message"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_one_clear_error(folder, monkeypatch, capsys, arguments, code, message):
    before = sorted(folder.iterdir())
    monkeypatch.setattr(sys, "argv", ["supa", "convert", *arguments])
    with pytest.raises(SystemExit) as stop:
        main()
    text = capsys.readouterr().err
    assert stop.value.code == code
    assert "Traceback" not in text
    assert re.search(message, text.replace("\n", " ")), text
    assert sorted(folder.iterdir()) == before


def test_ctrl_c_leaves_no_file(folder):
    supa_datasets.save(supa.simulate(60_000), "long.h5")
    before = sorted(folder.iterdir())
    process = subprocess.Popen([*COMMAND, "long.h5", "b.root"], stderr=subprocess.PIPE, text=True)
    while not (folder / "b.root.partial").exists():
        time.sleep(0.01)
        assert process.poll() is None
    time.sleep(0.5)
    os.kill(process.pid, signal.SIGINT)
    _, text = process.communicate(timeout=60)
    assert process.returncode == 130
    assert text.splitlines()[-1] == "Interrupted."
    assert "Traceback" not in text
    assert sorted(folder.iterdir()) == before
