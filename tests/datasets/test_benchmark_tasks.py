"""Benchmark tasks: their definitions, the conditions of submissions, noise floors and faults."""

import dataclasses
import functools
import hashlib
import json
import subprocess
import sys
import tomllib
from importlib.resources import files
from itertools import pairwise

import h5py
import numpy as np
import pytest

import supa
import supa_datasets
from supa import Ragged
from supa.posterior import energy_moments
from supa_datasets import (
    Score,
    ScoreMetric,
    add_score,
    benchmark_names,
    benchmark_task,
    rank_scores,
    read_scores,
    save_predictions,
    score_file,
    score_predictions,
    score_showers,
)
from supa_datasets.benchmark_tasks import shower_metrics
from supa_datasets.benchmark_tasks.fingerprints import shared_showers
from supa_datasets.benchmark_tasks.prediction_metrics import optimal_predictions
from supa_datasets.benchmark_tasks.samples import check_sample
from supa_datasets.benchmark_tasks.shower_metrics import score_sample

NAMES = benchmark_names()
GENERATION = [name for name in NAMES if benchmark_task(name).kind == "generation"]
PREDICTION = [name for name in NAMES if benchmark_task(name).kind != "generation"]
SMALL = 300
_SHARED_METRICS = ("energy", "Wasserstein distance", "Frechet distance", "coverage")


def _small(name):
    """Return a task with short ranges and without the classifier, which takes most of the time."""
    task = benchmark_task(name)
    return dataclasses.replace(
        task,
        train=range(1000),
        metrics=tuple((metric, rows) for metric, rows in task.metrics if metric != "classifier AUC"),
    )


def _generated(showers, **columns):
    hits = Ragged({**showers.hits.columns, **columns}, showers.offset)
    return dataclasses.replace(showers, hits=hits, run=dataclasses.replace(showers.run, engine="imported", seed=None))


def _true_sample(task, num=SMALL):
    showers = (
        supa.simulate(num, task.config, seed=99)
        if task.conditions is None
        else task.simulate_range(task.conditions, num)
    )
    return _generated(showers)


def _without_hits(showers, share):
    keep = np.random.default_rng(0).random(showers.hits.num_rows) >= share
    counts = np.bincount(showers.hits.group_of_row()[keep], minlength=len(showers))
    columns = {name: column[keep] for name, column in showers.hits.columns.items()}
    hits = Ragged(columns, np.concatenate([[0], np.cumsum(counts)]))
    return dataclasses.replace(showers, hits=hits)


# ---------------------------------------------------------------------- definitions


def test_there_are_tasks_of_every_kind():
    tasks = [benchmark_task(name) for name in NAMES]
    assert 6 <= len(tasks) <= 8
    assert {task.kind for task in tasks} == {"generation", "labelling", "regression", "classification"}
    assert {task.form for task in tasks} == {"points", "images", "graphs"}
    assert any(task.conditions for task in tasks)
    assert len({task.seed for task in tasks}) == len(tasks)


@pytest.mark.parametrize("name", NAMES)
def test_a_file_defines_a_valid_task(name):
    text = (files("supa_datasets.benchmark_tasks") / "tasks" / f"{name}.toml").read_text(encoding="utf-8")
    task = benchmark_task(name)
    assert tomllib.loads(text)["name"] == task.name == name
    assert task.version >= 1
    assert 1 <= task.difficulty <= 4
    parts = [task.train, task.validation, task.test, task.conditions, task.floor]
    ranges = sorted((part for part in parts if part is not None), key=lambda part: part.start)
    assert all(len(part) > 0 for part in ranges)
    assert all(one.stop <= other.start for one, other in pairwise(ranges))  # disjoint
    assert task.num_showers <= len(task.test)
    assert task.rank_by in dict(task.metrics)
    if task.kind == "generation":
        assert len(task.floor) >= 20 * len(task.test)
        assert set(dict(task.metrics)) == {*_SHARED_METRICS, "classifier AUC"}
        varies = task.config.spectrum.law != "fixed"
        assert (task.conditions is not None) == varies
        assert not varies or len(task.conditions) == len(task.test)
    else:
        assert task.conditions is task.floor is None


DIGESTS = {
    "standard-points": (1, "0e45bb23c618755c"),
    "dense-points": (1, "a2f45d1c51bb62bf"),
    "standard-images": (1, "83f9473713661be1"),
    "conditional-points": (1, "0fb60daff5482304"),
    "inclined-points": (1, "386b3bdb17506329"),
    "energy-regression": (1, "f403e2deb8f5379b"),
    "energy-graphs": (1, "36f29b60f309aaed"),
    "primary-labels": (1, "97bb923dc670f33b"),
}


@pytest.mark.parametrize("name", NAMES)
def test_a_version_of_a_task_never_changes(name):
    """If this test fails, increase the version of the task: scores of both definitions are not comparable."""
    task = benchmark_task(name)
    facts = [task.config.to_dict(), task.seed, task.kind, task.metrics, task.num_showers, task.rank_by]
    facts += [part and [part.start, part.stop] for part in (task.train, task.test, task.conditions, task.floor)]
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]
    assert (task.version, digest) == DIGESTS[name]


def test_the_wheel_contains_the_files_of_the_tasks(root):
    project = tomllib.loads((root / "pyproject.toml").read_text())
    assert "datasets/supa_datasets" in project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    ignored = subprocess.run(
        ["git", "check-ignore", "--quiet", "datasets/supa_datasets/benchmark_tasks/tasks/standard-points.toml"],
        cwd=root,
        check=False,
    )
    assert ignored.returncode == 1, "hatch leaves out what git ignores"


@pytest.mark.parametrize("name", NAMES)
def test_parts_are_the_showers_of_their_indices(name):
    task = benchmark_task(name)
    test = task.simulate("test", 3, skip=2)
    assert test.index.tolist() == [task.test.start + k for k in (2, 3, 4)]
    assert test == supa.simulate(3, task.config, seed=task.seed, first=task.test.start + 2, record=task.record)
    assert len(task.simulate("validation", skip=len(task.validation) - 1)) == 1
    if task.kind == "generation":
        assert len(task.incident_energies(7)) == 7
        with pytest.raises(ValueError, match="it has no targets"):
            task.targets(test)
    else:
        assert len(task.targets(test)) == (test.hits.num_rows if task.kind == "labelling" else 3)


def test_wrong_names_and_numbers_raise_a_clear_error():
    with pytest.raises(ValueError, match=r"a benchmark task is one of .* Did you mean 'dense-points'"):
        benchmark_task("dense-point")
    task = benchmark_task("standard-points")
    with pytest.raises(
        ValueError, match=r"a part of a task is one of train, validation, test\. Did you mean 'validation'"
    ):
        task.simulate("valid")
    with pytest.raises(ValueError, match="num: 20001 was given, but it must be a whole number from 0 to 20000"):
        task.simulate("test", 20_001)


def test_importing_the_tasks_does_not_import_pytorch():
    program = "import sys, supa_datasets; supa_datasets.score_file; print('torch' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "False"


# ---------------------------------------------------------------------- generation: noise floor and faults


@pytest.mark.parametrize("name", [GENERATION[0], *(pytest.param(n, marks=pytest.mark.slow) for n in GENERATION[1:])])
def test_true_samples_are_at_the_noise_floor_and_faults_are_not(name, monkeypatch):
    task = _small(name)
    size = 200 if name == "dense-points" else SMALL
    true = _true_sample(task, size)
    monkeypatch.setattr(shower_metrics, "FLOOR_SAMPLES", 8)
    at_floor = score_sample(task, true, lambda _step: None)
    assert at_floor.p_value > 0.01
    assert [metric.name for metric in at_floor.metrics] == list(_SHARED_METRICS)
    # Of the pulls of 8 samples, which have the t distribution with 7 degrees of freedom, 1 in 1,000 is above 5.4.
    assert max(abs(metric.pull) for metric in at_floor.metrics) < 5.4
    monkeypatch.setattr(shower_metrics, "FLOOR_SAMPLES", 2)
    for faulty in (_generated(true, energy=true.energy * 1.01), _without_hits(true, 0.01)):
        found = score_sample(task, faulty, lambda _step: None)
        energy = found.metrics[0]
        assert found.p_value == 0.001
        assert energy.value == pytest.approx(0.01, abs=0.004)
        assert energy.pull > 100
        # The Frechet distance does not use the response, which alone would add up to 100.
        assert found.metrics[2].value < 20
        assert "response" in found.largest_differences


# benchmarks/benchmark_tasks.py calibrates all tasks. These have images of one energy, and hits of given energies.
@pytest.mark.slow
@pytest.mark.parametrize("name", ["standard-images", "inclined-points"])
def test_scores_of_true_samples_are_calibrated(name, monkeypatch):
    """The p-value is at most 0.05 in 5 % of the cases, and pulls have mean 0 and about the width 1."""
    monkeypatch.setattr(shower_metrics, "FLOOR_SAMPLES", 10)
    task, p_values, pulls = _small(name), [], []
    for number in range(50):
        other = dataclasses.replace(task, seed=task.seed + 2000 + number)
        result = score_sample(other, _true_sample(other, 200), lambda _step: None)
        p_values.append(result.p_value)
        pulls.append([metric.pull for metric in result.metrics[1:]])
    assert np.sum(np.array(p_values) <= 0.05) <= 8  # 0.2 % of the cases have more
    assert np.sum(np.array(p_values) <= 0.01) <= 4
    assert np.mean(pulls, axis=0) == pytest.approx(0, abs=4 / np.sqrt(50))
    assert np.std(pulls, axis=0) == pytest.approx(1.05, abs=0.5)


def test_the_classifier_finds_another_preset(monkeypatch):
    monkeypatch.setattr(shower_metrics, "FLOOR_SAMPLES", 2)
    pytest.importorskip("sklearn", reason="scikit-learn is not installed")
    task = dataclasses.replace(benchmark_task("standard-points"), train=range(1000))
    score = score_showers(task, supa.simulate(SMALL, "symmetric", seed=1), label="symmetric")
    assert score.differs
    assert score["classifier AUC"].pull > 5
    assert (score.label, score.task, score.task_version, score.num_showers) == ("symmetric", task.name, 1, SMALL)


@pytest.mark.slow
def test_a_sample_without_slices_is_at_the_floor_of_its_observables(monkeypatch):
    monkeypatch.setattr(shower_metrics, "FLOOR_SAMPLES", 8)
    task = _small("standard-points")
    showers = supa.simulate(SMALL, task.config, seed=8)
    layers_only = supa.from_hits(
        task.config, offset=showers.offset, incident_energy=showers.incident_energy, x=showers.x, y=showers.y,
        energy=showers.energy, layer=showers.layer,
    )  # fmt: skip
    one, other = (score_sample(task, sample, lambda _step: None) for sample in (showers, layers_only))
    assert other.num_observables < one.num_observables
    for metric, of_all in zip(other.metrics[1:], one.metrics[1:], strict=True):
        assert metric.floor != of_all.floor
        assert abs(metric.pull) < 5.4


@pytest.mark.slow
def test_a_sorted_sample_has_the_score_of_the_unsorted_one():
    """Metrics of fewer showers than the sample draw them at random."""
    task = _small("conditional-points")
    task = dataclasses.replace(task, metrics=(("Frechet distance", 200),))
    sample = _true_sample(task, 600)
    sorted_sample = sample[np.argsort(sample.num_hits)]
    (metric,) = score_sample(task, sorted_sample, lambda _step: None).metrics
    assert abs(metric.pull) < 4


def test_hits_and_their_images_have_the_same_score(tmp_path, monkeypatch):
    monkeypatch.setattr(shower_metrics, "FLOOR_SAMPLES", 2)
    task = dataclasses.replace(_small("standard-images"), validation=range(1000, 1010), test=range(2000, 2600))
    supa_datasets.save(supa.simulate(SMALL, task.config, seed=4), tmp_path / "hits.h5")
    supa_datasets.convert(tmp_path / "hits.h5", tmp_path / "images.h5", to_format="calogan")
    one, other = (score_file(task, tmp_path / name) for name in ("hits.h5", "images.h5"))
    assert one.p_value == other.p_value
    assert [m.value for m in one.metrics] == pytest.approx([m.value for m in other.metrics], rel=1e-4, abs=1e-5)
    assert one.sha256 != other.sha256
    assert len(one.sha256) == 64


# ---------------------------------------------------------------------- generation: refused samples


def test_every_order_of_the_conditions_is_accepted():
    task = _small("conditional-points")
    check_sample(task, _true_sample(task)[::-1])


@pytest.mark.parametrize("rounded", [np.float32, np.float64])
def test_copies_of_known_showers_are_found(rounded):
    """The order of the hits, their precision and the metadata do not hide a copy."""
    task = _small("standard-points")
    known, new = task.simulate("train", 20, skip=500), supa.simulate(280, task.config, seed=3)
    order = np.lexsort((known.energy, known.hits.group_of_row()))
    columns = {name: column[order] for name, column in known.hits.columns.items()}
    columns |= {name: columns[name].astype(rounded) for name in ("x", "y", "energy")}
    sample = supa.Showers.concatenate([_generated(new), _generated(known, **columns)])
    place, number = shared_showers(sample, task, task.train)
    distinct = known.num_hits >= 3
    assert (place, number) == (280 + distinct.argmax(), distinct.sum())
    with pytest.raises(ValueError, match=f"{number} of the 300 showers of the sample are in the training range"):
        check_sample(task, sample)


def test_single_hits_on_the_axis_are_not_copies():
    """A shower without splits has one hit on the axis, in every sample."""
    task = _small("standard-points")
    known = task.simulate("train", 1000)
    alone = known[known.num_hits == 1]
    sample = supa.Showers.concatenate([_generated(alone), _generated(supa.simulate(SMALL, task.config, seed=3))])
    assert len(alone) > 0
    assert shared_showers(sample, task, task.train) == (-1, 0)


def _with_energies(showers, energies):
    return dataclasses.replace(showers, incident_energy=np.asarray(energies, dtype=float))


def _mistakes():
    points, given = _small("standard-points"), _small("conditional-points")
    good = supa.simulate(SMALL, points.config, seed=5)
    some = _true_sample(given)
    other = supa.simulate(SMALL, given.config, seed=5)
    complete = supa.simulate(SMALL, points.config, seed=5, keep="complete")
    wrong = np.where(np.arange(SMALL) == 7, 50.0, 65.0)
    return {
        "few": (points, good[:50], "50 showers, but a score of standard-points needs 200 to 20,000"),
        "slices": (points, supa.simulate(SMALL, "reference"), r"another geometry .* num_slices = 24 instead of 28"),
        "layers": (points, supa.simulate(SMALL, "single-layer"), r"readout_layers = \(\(5, 27\),\) instead of"),
        "selected": (points, complete, "selected showers only"),
        "energy": (points, supa.simulate(SMALL, energy=50), r"65 GeV, but 300 of the 300 .*\(shower 0: 50 GeV\)"),
        "one energy": (points, _with_energies(good, wrong), r"but 1 of the 300 .*\(shower 7: 50 GeV\)"),
        "own energies": (given, other, r"not the conditions of conditional-points: 300 of 300 differ \(shower 0: "),
        "one condition": (
            given,
            _with_energies(some, np.where(np.arange(SMALL) == 7, 50.0, some.incident_energy)),
            r"1 of 300 differ \(shower 7: 50 GeV instead of",
        ),
        "test range": (points, points.simulate("test", SMALL), "indices of its test range, 1,000,000 to 1,019,999"),
        "training range": (points, points.simulate("train", SMALL), "indices of its training range, 0 to 999"),
        "noise floor": (points, points.simulate_range(points.floor, SMALL), "indices of its noise floor range"),
        "hidden test range": (points, _generated(points.simulate("test", SMALL)), "are in the test range of"),
        "prediction": (benchmark_task("energy-graphs"), good, "predicts; use score_predictions"),
    }


MISTAKES = _mistakes()


@pytest.mark.parametrize("name", MISTAKES)
def test_a_sample_that_does_not_fit_is_refused(name):
    task, sample, message = MISTAKES[name]
    with pytest.raises(ValueError, match=message):
        score_showers(task, sample)


def test_files_that_do_not_fit_are_refused(tmp_path):
    task, other = benchmark_task("standard-points"), benchmark_task("energy-graphs")
    with pytest.raises(FileNotFoundError, match="there is no such file"):
        score_file(task, tmp_path / "none.h5")
    (tmp_path / "text.h5").write_text("hello")
    with pytest.raises(ValueError, match="not an HDF5 file"):
        score_file(task, tmp_path / "text.h5")
    save_predictions(tmp_path / "predictions.h5", other, np.zeros(200, dtype=int), num=200)
    with pytest.raises(ValueError, match="it contains predictions, but the task standard-points needs generated"):
        score_file(task, tmp_path / "predictions.h5")
    supa_datasets.save(supa.simulate(100), tmp_path / "few.h5")
    with pytest.raises(ValueError, match=r"few\.h5: the sample has 100 showers, but"):
        score_file(task, tmp_path / "few.h5")
    with pytest.raises(ValueError, match="it is not a file of predictions but 'supa-showers'"):
        score_file(other, tmp_path / "few.h5")


# ---------------------------------------------------------------------- prediction


@functools.cache
def _optimal(name):
    """Return the showers of a task, their optimal predictions and the score of these."""
    task = benchmark_task(name)
    showers = task.simulate("test", task.num_showers)
    best = optimal_predictions(task, showers)
    return showers, best, score_predictions(task, best)


@pytest.mark.parametrize("name", PREDICTION)
def test_the_optimal_prediction_is_at_its_floor_and_faults_are_not(name):
    task, (_, best, score) = benchmark_task(name), _optimal(name)
    assert score.p_value > 0.01
    if task.kind == "regression":
        wrong = best * 1.01
    else:
        random = np.random.default_rng(0)
        changed = random.random(len(best)) < 0.01
        wrong = np.where(changed, (best + random.integers(1, len(task.classes), len(best))) % len(task.classes), best)
    assert score_predictions(task, wrong).p_value < 0.001


@pytest.mark.parametrize("name", ["energy-regression", "energy-graphs"])
def test_the_floor_of_predictions_is_calibrated(name):
    """Over many seeds, the optimal prediction scatters about its expected value with the stated spread."""
    p_values, pulls = [], []
    for number in range(40):
        task = dataclasses.replace(benchmark_task(name), seed=3000 + number)
        best = optimal_predictions(task, task.simulate("test", 200))
        score = score_predictions(task, best, num=200)
        p_values.append(score.p_value)
        pulls.append([metric.pull for metric in score.metrics])
    pulls = np.array(pulls)
    assert np.sum(np.array(p_values) <= 0.05) <= 7  # 0.4 % of the cases have more
    assert pulls.mean(axis=0) == pytest.approx(0, abs=4 / np.sqrt(40))
    assert pulls.std(axis=0) == pytest.approx(1, abs=4 / np.sqrt(80))


def test_labels_are_compared_up_to_an_exchange_in_each_shower():
    task = benchmark_task("primary-labels")
    showers = task.simulate("test", 50)
    truth = task.targets(showers)
    exchanged = np.where(showers.hits.group_of_row() % 2, 1 - truth, truth)
    assert score_predictions(task, exchanged, num=50)["accuracy"].value == 1
    guess = np.zeros(len(truth), dtype=int)
    first = np.bincount(showers.hits.group_of_row(), truth == 0)
    expected = np.maximum(first, showers.num_hits - first).sum() / showers.hits.num_rows
    assert score_predictions(task, guess, num=50)["accuracy"].value == pytest.approx(expected)


def test_the_fourth_moment_agrees_with_samples_of_the_posterior():
    """The squared error of the posterior mean has the stated mean and variance."""
    showers = supa.simulate(10_000, "critical", seed=6, record="particles")
    mean, variance, fourth = energy_moments(showers)
    squared = (np.log(showers.incident_energy) - mean) ** 2
    expected = fourth - variance**2
    assert (squared - variance).sum() / np.sqrt(expected.sum()) == pytest.approx(0, abs=3)
    assert ((squared - variance) ** 2).mean() / expected.mean() == pytest.approx(1, abs=0.3)


def test_the_spread_of_the_error_is_the_scatter_for_given_trees():
    """The floor is that of the trees of the sample, so the spread does not include the scatter of the variance."""
    showers, best, score = _optimal("energy-regression")
    _, variance, _ = energy_moments(showers)
    excess = np.square(np.log(best / showers.incident_energy)) - variance
    metric = score["error of ln E"]
    expected = np.sqrt(np.square(excess).mean() / len(showers)) / (2 * metric.floor)
    assert metric.spread == pytest.approx(expected, rel=0.1)


def test_predictions_are_written_and_read(tmp_path):
    task = benchmark_task("energy-regression")
    path = tmp_path / "model.h5"
    save_predictions(path, task, np.full(100, 10, dtype=np.float32), num=100)
    score = score_file(task, path)
    assert (score.label, score.num_showers) == ("model", 100)
    assert score.metrics == score_predictions(task, np.full(100, 10.0), num=100).metrics
    with pytest.raises(FileExistsError, match=r"model\.h5 exists"):
        save_predictions(path, task, np.full(100, 10.0), num=100)
    save_predictions(path, task, np.full(200, 10.0), num=200, overwrite=True)
    assert score_file(task, path).num_showers == 200
    assert [p.name for p in tmp_path.iterdir()] == ["model.h5"]


PREDICTION_MISTAKES = {
    "count": (
        "energy-regression",
        np.ones(99),
        r"shape \(99,\) .* one number for each of the 100 showers in its first",
    ),
    "hits": ("primary-labels", np.zeros(100, int), r"shape \(100,\) .* for each of the 1\d,\d+ hits"),
    "NaN": ("energy-regression", np.where(np.arange(100) == 3, np.nan, 1), "nan was given, .* 1 prediction of 100 is"),
    "infinite": ("energy-regression", np.full(100, np.inf), "inf was given, .* 100 predictions of 100 are not"),
    "negative": ("energy-regression", np.full(100, -1.0), "-1.0 was given, .* 100 predictions of 100 are not"),
    "range": ("energy-graphs", np.full(100, 3), r"3 was given, but .* from 0 to 2 \(20 GeV, 25 GeV, 30 GeV\)"),
    "energies": ("energy-graphs", np.full(100, 20.0), "numbers of type float64 were given, but classes are whole"),
    "scores": ("energy-graphs", np.ones((100, 3)), r"shape \(100, 3\)"),
    "text": ("energy-regression", np.full(100, "x"), "but energies are numbers"),
    "generation": ("standard-points", np.ones(100), "generates showers; write them with supa_datasets.save"),
}


@pytest.mark.parametrize(("name", "values", "message"), PREDICTION_MISTAKES.values(), ids=PREDICTION_MISTAKES)
def test_wrong_predictions_are_refused(name, values, message, tmp_path):
    task = benchmark_task(name)
    with pytest.raises(ValueError, match=message):
        score_predictions(task, values, num=100)
    with pytest.raises(ValueError, match=message):
        save_predictions(tmp_path / "a.h5", task, values, num=100)
    assert list(tmp_path.iterdir()) == []


FILE_MISTAKES = {
    "task": ({"task": "energy-regression"}, "for the task 'energy-regression', not for energy-graphs"),
    "task version": ({"task_version": 7}, "for version 7 of the task, but this is version 1"),
    "version": ({"version": 2}, "its version must be 1, got 2"),
    "number": ({"num_showers": 50}, r"shape \(100,\) was given, .* the 50 showers"),
    "many": ({"num_showers": 10**6}, "num: 1000000 was given, but it must be a whole number from 1 to 40000"),
    "text": ({"num_showers": "all"}, "num_showers must be a whole number, got 'all'"),
}


@pytest.mark.parametrize(("attributes", "message"), FILE_MISTAKES.values(), ids=FILE_MISTAKES)
def test_files_of_other_predictions_are_refused(attributes, message, tmp_path):
    task = benchmark_task("energy-graphs")
    save_predictions(tmp_path / "a.h5", task, np.zeros(100, dtype=int), num=100)
    with h5py.File(tmp_path / "a.h5", "r+") as file:
        for name, value in attributes.items():
            file.attrs[name] = value
    with pytest.raises(ValueError, match=rf"a\.h5: .*{message}"):
        score_file(task, tmp_path / "a.h5")


def test_a_file_without_predictions_is_refused(tmp_path):
    task = benchmark_task("energy-graphs")
    save_predictions(tmp_path / "a.h5", task, np.zeros(100, dtype=int), num=100)
    with h5py.File(tmp_path / "a.h5", "r+") as file:
        del file["predictions"]
    with pytest.raises(ValueError, match=r"a\.h5: the dataset 'predictions' is missing"):
        score_file(task, tmp_path / "a.h5")


# ---------------------------------------------------------------------- files of scores


def _score(label, value, **changes):
    metric = ScoreMetric("Frechet distance", value, 0.0, 0.1, 1.0)
    values = {"task": "standard-points", "task_version": 1, "num_showers": 300, "label": label, "p_value": 0.5}
    values |= {"metrics": (metric,), "largest_differences": (), "num_observables": 0, "sha256": ""}
    values |= {"supa_version": "1", "date": "2026-11-29"}
    return Score(**{**values, **changes})


def test_scores_are_appended_and_merged(tmp_path):
    one, other = tmp_path / "a.json", tmp_path / "b.json"
    first, second, third = _score("x", 0.3), _score("y", 0.1), _score("z", None)
    for path, score in ((one, first), (one, second), (other, second), (other, third)):
        add_score(path, score)
    assert [json.loads(line)["label"] for line in one.read_text().splitlines()] == ["x", "y"]
    scores = read_scores([one, other])
    assert scores == [first, second, third]  # the repeated score once
    assert [score.label for score in rank_scores(scores)["standard-points", 1, 300]] == ["y", "x", "z"]


def test_different_versions_and_sizes_are_not_mixed():
    scores = [
        _score("a", 0.1), _score("b", 0.2, task_version=2), _score("c", 0.3, num_showers=500),
        _score("d", 0.1, task="unknown"), _score("e", 0.1, task="dense-points"),
    ]  # fmt: skip
    assert list(rank_scores(scores)) == [
        ("standard-points", 2, 300), ("standard-points", 1, 500), ("standard-points", 1, 300), ("dense-points", 1, 300),
        ("unknown", 1, 300),
    ]  # fmt: skip


def test_samples_that_differ_from_true_showers_come_last():
    """The Frechet distance alone may be small by chance, or blind for a fault."""
    scores = [_score("wrong", 0.1, p_value=0.001), _score("right", 0.2), _score("worse", 0.3, p_value=0.001)]
    assert [score.label for score in rank_scores(scores)["standard-points", 1, 300]] == ["right", "wrong", "worse"]


def test_larger_accuracies_are_better():
    metrics = [(ScoreMetric("accuracy", value, 0.9, 0.1, 0.0),) for value in (0.7, 0.8)]
    scores = [_score(f"{m[0].value}", 0, task="energy-graphs", metrics=m) for m in metrics]
    assert [score.label for score in rank_scores(scores)["energy-graphs", 1, 300]] == ["0.8", "0.7"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", r"a\.json: line 2 is not a score of supa score --json \(Expecting"),
        ("3", r"line 2 .*\(it is not a JSON object\)"),
        ('{"task": "x"}', "line 2 is not a score"),
        ('{"tsak": "x"}', "Did you mean 'task'"),
    ],
)
def test_a_damaged_file_of_scores_is_refused_and_kept(tmp_path, text, message):
    path = tmp_path / "a.json"
    add_score(path, _score("x", 0.3))
    path.write_text(path.read_text() + text + "\n")
    before = path.read_text()
    for use in (lambda: read_scores([path]), lambda: add_score(path, _score("y", 0.1))):
        with pytest.raises(ValueError, match=message):
            use()
    assert path.read_text() == before
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]
