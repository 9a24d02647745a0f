"""``supa score``: output, files of scores, tables and errors."""

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import supa
import supa_datasets
from supa_cli.main import cli
from supa_datasets import Score, ScoreMetric, add_score, benchmark_names, benchmark_task, save_predictions
from supa_datasets.benchmark_tasks import shower_metrics


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("score")
    supa_datasets.save(supa.simulate(300, seed=1), path / "true.h5")
    supa_datasets.save(supa.simulate(300, "symmetric", seed=2), path / "symmetric.h5")
    supa_datasets.save(supa.simulate(30, seed=2), path / "few.h5")
    task = benchmark_task("energy-graphs")
    right = task.targets(task.simulate("test", 400))
    save_predictions(path / "classes.h5", task, right, num=400)
    save_predictions(path / "zeros.h5", task, np.zeros(400, dtype=int), num=400)
    (path / "text.h5").write_text("hello")
    (path / "damaged.json").write_text('{"task": "standard-po')
    for name, version, label, value in (("a", 1, "first", 0.8), ("b", 1, "second", 0.9), ("c", 2, "new", 0.7)):
        add_score(path / f"{name}.json", _score(label, value, version))
    (path / "empty.json").write_text("")
    return path


def _score(label, value, version=1, package="0.1.0", observables=0):
    metric = ScoreMetric("accuracy", value, 0.9, 0.01, (value - 0.9) / 0.01)
    return Score("energy-graphs", version, 400, label, 0.5, (metric,), (), observables, label, package, "2026-11-29")


@pytest.fixture(autouse=True)
def _here(folder, monkeypatch):
    monkeypatch.chdir(folder)


def _run(*arguments):
    return CliRunner().invoke(cli, ["score", *arguments], catch_exceptions=False)


def test_tasks_are_listed():
    result = _run("--list")
    assert result.exit_code == 0
    for name in benchmark_names():
        assert f"{name}: {benchmark_task(name).title}" in result.stdout


def test_generated_showers_get_a_score(monkeypatch):
    monkeypatch.setattr(shower_metrics, "FLOOR_SAMPLES", 2)
    result = _run("standard-points", "symmetric.h5", "--label", "my model", "--json", "out.json")
    assert result.exit_code == 0, result.output
    for part in (
        "standard-points (version 1): 300 showers of my model", "Wasserstein distance", "noise floor", "pull",
        "The standard number of showers is 10,000", "smallest p-values: ",
        "The sample differs from true showers (p = 0.001).",
    ):  # fmt: skip
        assert part in result.stdout
    assert "comparing with the test showers ..." in result.stderr
    again = _run("standard-points", "symmetric.h5", "--json", "out.json", "--quiet")
    assert again.stderr == ""
    first, second = (json.loads(line) for line in Path("out.json").read_text().splitlines())
    assert (first["label"], second["label"]) == ("my model", "symmetric")
    assert first["metrics"] == second["metrics"]
    assert first["supa_version"] == supa.__version__
    assert len(first["sha256"]) == 64
    table = _run("--table", "out.json").stdout
    assert table.index("standard-points, version 1, 300 showers") < table.index("my model") < table.index("noise floor")


def test_predictions_get_a_score():
    right, wrong = _run("energy-graphs", "classes.h5"), _run("energy-graphs", "zeros.h5")
    assert "accuracy      1" in right.stdout
    assert "The prediction differs from the optimal prediction" in wrong.stdout


def test_the_best_score_is_the_first_of_a_table():
    result = _run("--table", "a.json", "b.json", "a.json")
    assert result.exit_code == 0
    assert result.stdout.index("second") < result.stdout.index("first  ")
    assert result.stdout.count("first  ") == 1  # the same score twice
    assert "0.9 ± 0.01" in result.stdout
    assert "cannot be compared" not in result.stdout


def test_versions_are_not_mixed():
    result = _run("--table", "a.json", "b.json", "c.json")
    assert result.stdout.count("noise floor") == 2
    assert result.stdout.index("energy-graphs, version 2") < result.stdout.index("new")
    assert result.stdout.index("new") < result.stdout.index("energy-graphs, version 1")
    assert "Scores of different versions of a task, or of different numbers of showers, cannot be compared." in (
        result.stdout
    )


def test_several_versions_of_the_package_are_stated():
    add_score("versions.json", _score("old", 0.8))
    add_score("versions.json", _score("new", 0.9, package="0.2.0"))
    assert "from several versions of supa-showers: 0.1.0, 0.2.0" in _run("--table", "versions.json").stdout


def test_different_observables_are_stated():
    for number in (39, 43):
        add_score("observables.json", _score(f"{number}", 0.8, observables=number))
    assert "different numbers of observables (39, 43)" in _run("--table", "observables.json").stdout


MISTAKES = {
    "no arguments": ([], "specify the name of a task and one file, got 0 arguments"),
    "no file": (["standard-points"], "got 1 argument; supa score --list"),
    "name": (["standard-point", "true.h5"], "Did you mean 'standard-points'?"),
    "exchanged": (["true.h5", "standard-points"], "'true.h5' was given, but a benchmark task is one of"),
    "missing": (["standard-points", "none.h5"], "none.h5: there is no such file"),
    "text": (["standard-points", "text.h5"], "text.h5: it is not an HDF5 file"),
    "few": (["standard-points", "few.h5"], "few.h5: the sample has 30 showers, but a score of standard-points needs"),
    "geometry": (["dense-points", "true.h5"], "true.h5: The sample has another geometry than dense-points"),
    "energies": (["conditional-points", "true.h5"], "another geometry than conditional-points"),
    "predictions": (["standard-points", "classes.h5"], "it contains predictions, but"),
    "showers": (["energy-graphs", "true.h5"], "it is not a file of predictions but 'supa-showers'"),
    "other task": (["energy-regression", "classes.h5"], "for the task 'energy-graphs', not for energy-regression"),
    "folder": (["standard-points", "true.h5", "--json", "x/y.json"], "the folder x does not exist"),
    "damaged output": (["standard-points", "true.h5", "--json", "damaged.json"], "damaged.json: line 1 is not a score"),
    "damaged table": (["--table", "a.json", "damaged.json"], "damaged.json: line 1 is not a score"),
    "empty table": (["--table", "empty.json"], "The files contain no scores"),
    "no table": (["--table"], "--table needs one or more files"),
    "missing table": (["--table", "none.json"], "none.json: there is no such file"),
    "table with label": (["--table", "a.json", "--label", "x"], "use it without --json and --label"),
}


@pytest.mark.parametrize(("arguments", "message"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_one_clear_error(arguments, message):
    before = {path.name: path.read_bytes() for path in Path().iterdir()}
    result = CliRunner().invoke(cli, ["score", *arguments])
    assert result.exit_code in (1, 2)
    # `supa` prints these in its main function, which the runner does not call.
    ours = isinstance(result.exception, ValueError | OSError)
    assert message in (str(result.exception) if ours else result.output)
    assert {path.name: path.read_bytes() for path in Path().iterdir()} == before


def test_names_and_files_are_completed():
    from click.shell_completion import ShellComplete

    complete = ShellComplete(cli, {}, "supa", "_SUPA_COMPLETE")
    assert [item.value for item in complete.get_completions(["score"], "dense")] == ["dense-points"]
    assert [item.type for item in complete.get_completions(["score", "dense-points"], "gen")] == ["file"]
