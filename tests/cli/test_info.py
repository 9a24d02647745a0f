"""``supa info``: the full check of a file, and control characters in files."""

import json
import sys
from pathlib import Path

import h5py
import pytest
from click.testing import CliRunner

import supa
import supa_datasets
from supa_cli.main import cli


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    supa_datasets.save(supa.simulate(200, seed=2, record="particles"), "tree.h5")
    return tmp_path


def _run(*arguments, code=0) -> str:
    result = CliRunner().invoke(cli, list(arguments), catch_exceptions=False)
    assert result.exit_code == code, result.output
    return result.stdout


def test_the_full_check_accepts_a_valid_file(folder):
    assert "200 showers checked: no invalid values." in _run("info", "tree.h5", "--check")
    assert json.loads(_run("info", "tree.h5", "--check", "--json"))["faults"] == []
    assert "faults" not in json.loads(_run("info", "tree.h5", "--json"))


def test_the_full_check_reports_each_fault_and_fails(folder):
    with h5py.File("tree.h5", "r+") as file:
        for shower in (5, 9):
            row = int(file["showers/offset"][shower])
            file["hits/energy"][row] = 66.0
    printed = _run("info", "tree.h5", "--check", code=1).splitlines()
    lines = [" ".join(line.split()) for line in printed if line.strip("-")]
    assert lines[-4:] == [
        "fault count first shower",
        "a hit's energy above its shower's 2 5",
        "the sum of the hit energies and the leaked energy 2 5",
        "a hit that is not a stopped particle 2 5",
    ]
    faults = json.loads(_run("info", "tree.h5", "--check", "--json", code=1))["faults"]
    assert faults[0] == {"kind": "a hit's energy above its shower's", "count": 2, "shower": 5}


def test_an_interruption_ends_the_check(folder, monkeypatch):
    def interrupted() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("supa_cli.info.raise_if_interrupted", interrupted)
    result = CliRunner().invoke(cli, ["info", "tree.h5", "--check"])
    assert result.exit_code == 1
    assert "Aborted" in result.stderr


HOSTILE = "\x1b[31m\x07\x9b2J\u202e[b]x"
ESCAPED = r"\x1b[31m\x07\x9b2J\u202e[b]x"


def test_control_characters_of_a_file_are_escaped(folder):
    with h5py.File("tree.h5", "r+") as file:
        file.attrs["version of numpy"] = HOSTILE
        file.attrs[f"version of {HOSTILE}"] = "1"
    text = _run("info", "tree.h5")
    assert text.replace("\n", "").isprintable()
    assert text.count(ESCAPED) == 2


@pytest.mark.parametrize("name", ["keep", "engine", "config", "energy_unit", "format", "seed"])
def test_control_characters_in_messages_are_escaped(folder, name):
    path = folder / f"a{HOSTILE[:5]}.h5"
    (folder / "tree.h5").rename(path)
    with h5py.File(path, "r+") as file:
        file.attrs[name] = json.dumps({HOSTILE: 1}, ensure_ascii=False) if name == "config" else HOSTILE
    with pytest.raises(ValueError, match=r"a\\x1b") as caught:
        supa_datasets.load(path)
    assert str(caught.value).isprintable()


def test_control_characters_of_file_names_are_escaped(folder):
    hostile = f"b{HOSTILE}.h5"
    (folder / "tree.h5").rename(folder / hostile)
    assert ESCAPED in _run("info", hostile)
    assert ESCAPED in _run("plot", hostile, "--shower", "1")
    supa_datasets.save(supa.simulate(150, seed=3), "other.h5")
    text = _run("compare", hostile, "other.h5", "--fast", "--permutations", "19", "--quiet")
    assert text.replace("\n", "").isprintable()
    assert ESCAPED in text


def test_control_characters_in_errors_are_escaped(folder, monkeypatch, capfd):
    from supa_cli import main

    missing = f"c{HOSTILE}.h5"
    Path(missing).write_text("no shower file")
    monkeypatch.setattr(sys, "argv", ["supa", "info", missing])
    with pytest.raises(SystemExit):
        main.main()
    text = capfd.readouterr().err
    assert text.replace("\n", "").isprintable()
    assert ESCAPED in text
