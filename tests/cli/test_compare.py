"""``supa compare``: output, report and errors."""

import dataclasses
import json
from pathlib import Path

import pytest
from click.testing import CliRunner

import supa
import supa_datasets
from supa_cli.main import cli


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("compare")
    supa_datasets.save(supa.simulate(300, seed=1), path / "true.h5")
    supa_datasets.save(supa.simulate(300, "symmetric", seed=2), path / "made.h5")
    supa_datasets.save(supa.simulate(30, seed=2), path / "few.h5")
    supa_datasets.save(supa.simulate(60, "single-layer", seed=2), path / "single.h5")
    (path / "text.h5").write_text("hello")
    return path


@pytest.fixture(autouse=True)
def _here(folder, monkeypatch):
    monkeypatch.chdir(folder)


def _run(*arguments):
    return CliRunner().invoke(cli, ["compare", *arguments], catch_exceptions=False)


def test_it_prints_tables_and_a_verdict():
    result = _run("true.h5", "made.h5", "--fast", "--permutations", "99")
    assert result.exit_code == 0, result.output
    for part in ("The samples differ (joint p = 0.01)", "num_hits", "hits, layer 1", "pull", "with its config", "more"):
        assert part in result.output
    assert "…" not in result.output  # no column is cut
    assert "comparing observables of showers ..." in result.stderr
    every = _run("true.h5", "made.h5", "--fast", "--permutations", "99", "--all", "--quiet")
    assert "hits, slice 9" in every.stdout
    assert every.stderr == ""


@pytest.mark.parametrize("columns", ["60", "80", "200"])
def test_no_number_is_truncated_at_any_width(monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", columns)
    result = _run("true.h5", "made.h5", "--fast", "--quiet", "--permutations", "19", "--all")
    tables = result.stdout[: result.stdout.index("The samples differ")]
    assert "…" not in tables
    assert max(map(len, tables.splitlines())) <= max(int(columns), 75)  # 75: the sentences above the tables
    for heading in ("W1", "separation", "pull", "made"):
        assert heading in tables.split()


def test_a_long_name_is_printed_above_the_tables(folder, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    name = "a-model-of-showers-that-was-trained-for-100-epochs"
    (folder / f"{name}.h5").write_bytes((folder / "made.h5").read_bytes())
    result = _run("true.h5", f"{name}.h5", "--fast", "--quiet", "--permutations", "19")
    assert f"generated: {name}: 300 showers" in result.stdout
    assert result.stdout.count(name) == 1


def test_equal_files_do_not_differ():
    result = _run("true.h5", "true.h5", "--fast", "--quiet")
    assert "No significant difference" in result.stdout


def test_scores_are_printed():
    pytest.importorskip("sklearn", reason="scikit-learn is not installed")
    result = _run("true.h5", "made.h5", "--permutations", "19")
    for part in ("Frechet distance", "kernel distance", "coverage", "classifier AUC", "±"):
        assert part in result.stdout


def test_names_are_printed_unchanged(folder):
    (folder / "[red]a.h5").write_bytes((folder / "true.h5").read_bytes())
    result = _run("[red]a.h5", "made.h5", "--fast", "--quiet", "--permutations", "19")
    assert result.stdout.count("[red]a") >= 3
    assert "…" not in result.stdout


def test_json_is_one_object():
    result = _run("true.h5", "made.h5", "--fast", "--json", "--seed", "4")
    numbers = json.loads(result.stdout)
    assert numbers["seed"] == 4
    assert numbers["true"]["name"] == "true"
    assert numbers["generated"]["preset"] == "symmetric"


def test_the_report_is_written(monkeypatch):
    def short(result, folder):  # drawing all observables takes seconds
        return write_report(dataclasses.replace(result, observables=result.observables[:3]), folder)

    write_report = supa.write_report
    monkeypatch.setattr(supa, "write_report", short)
    result = _run("true.h5", "made.h5", "--fast", "--quiet", "-o", "out/report", "--permutations", "19")
    assert result.exit_code == 0, result.output
    assert "out/report/report.html" in result.stdout
    assert json.loads(Path("out/report/comparison.json").read_text())["repeats"] == 19
    refused = CliRunner().invoke(cli, ["compare", "true.h5", "made.h5", "--fast", "-o", "out/report"])
    assert (refused.exit_code, "report.html exists; choose another folder, or overwrite" in refused.output) == (1, True)


MISTAKES = {
    "no file": (["none.h5", "true.h5"], "there is no such file"),
    "no shower file": (["true.h5", "text.h5"], "not an HDF5 file"),
    "few": (["true.h5", "few.h5", "--fast"], "a comparison needs at least 50 showers, got 30"),
    "layers": (["true.h5", "single.h5", "--fast"], "must have the same readout layers"),
    "permutations": (["true.h5", "made.h5", "--permutations", "5"], "at least 19"),
    "one file": (["true.h5"], "Missing argument 'GENERATED'"),
    "output": (["true.h5", "made.h5", "-o", "true.h5"], "is not a folder"),
    "no output": (["true.h5", "made.h5", "-o", ""], "is not a folder"),
    "output below a file": (["true.h5", "made.h5", "-o", "true.h5/x"], "the folder cannot be created"),
}


@pytest.mark.parametrize(("arguments", "message"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_one_clear_error(arguments, message):
    result = CliRunner().invoke(cli, ["compare", *arguments])
    assert result.exit_code in (1, 2)
    # `supa` prints these in its main function, which the runner does not call.
    ours = isinstance(result.exception, ValueError | OSError)
    assert message in (str(result.exception) if ours else result.output)
