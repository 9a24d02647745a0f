"""``supa mamba refine``: files, the table and errors."""

import dataclasses
from pathlib import Path

import h5py
import numpy as np
import pytest
from click.testing import CliRunner

pytest.importorskip("sklearn", reason="scikit-learn is not installed")

import supa
import supa_datasets
from supa.distances import DensityRatio, Estimate, density_ratio
from supa_cli.mamba.refine import command as refine


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """True showers of seed 1, and the sample of a toy model that has too few showers with few hits."""
    folder = tmp_path_factory.mktemp("refine")
    supa_datasets.save(supa.simulate(1500, "standard", seed=1), folder / "true.h5")
    sample = supa.simulate(2000, "standard", seed=2)
    sample = sample[(sample.num_hits > 50) | (sample.index % 3 == 0)]
    run = dataclasses.replace(sample.run, engine="imported", model="toy sha256:0")
    supa_datasets.save(dataclasses.replace(sample, run=run), folder / "sample.h5")
    return folder


@pytest.fixture
def run(files, tmp_path, monkeypatch):
    """Run the command in a folder with the files; return the result."""
    for file in files.iterdir():
        (tmp_path / file.name).symlink_to(file)
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: CliRunner().invoke(refine, ["sample.h5", *map(str, arguments), "--against", "true.h5"])


@pytest.fixture
def quick(monkeypatch):
    """Use few features, because the training takes most of the time of a test."""
    small = lambda true, generated, seed: density_ratio(true[:, :2], generated[:, :2], seed=seed)  # noqa: E731
    monkeypatch.setattr("supa.comparison.refine.density_ratio", small)


def test_all_features_correct_the_number_of_hits(run):
    result = run("w.h5", "--by", "weights", "--keep", 500)
    assert result.exit_code == 0, result.output
    for text in ("effective sample size", "mean weight", "acceptance", "worst calibration bin", "Means with the"):
        assert text in result.output
    with supa_datasets.ShowerFile("w.h5") as file:
        assert (len(file), file.run.model, file.run.refinement.true_last) == (
            file.run.refinement.sampled,
            "toy sha256:0",
            1499,
        )
        weight = file.column("showers", "weight")
        assert file.faults() == []
        hits = file.num_hits
    assert weight.mean() == pytest.approx(1)
    true = supa_datasets.load("true.h5").num_hits
    error = true.std() * (2 / 1500) ** 0.5
    assert hits.mean() - true.mean() > 4 * error
    assert abs(np.average(hits, weights=weight) - true.mean()) < 3 * error


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("by", ["rejection", "resampling"])
def test_showers_are_chosen_and_the_file_is_reproducible(run, by, tmp_path):
    for name in ("a.h5", "b.h5") if by == "rejection" else ("a.h5",):
        result = run(name, "--by", by, "--keep", 150, "--seed", 5)
        assert result.exit_code == 0, result.output
    if by == "rejection":
        assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "b.h5").read_bytes()
    found, sample = supa_datasets.load("a.h5"), supa_datasets.load("sample.h5")
    assert len(found) == 150
    assert found == sample[np.isin(sample.index, found.index)]
    assert found.run.refinement.by == by
    assert found.run.refinement.seed == 5
    assert ("cap of the weights" in result.output, "showers of a choice" in result.output) == (
        by == "rejection",
        by == "resampling",
    )


def test_errors(run, tmp_path, monkeypatch):
    (tmp_path / "there.h5").touch()
    assert "there.h5 exists; choose another name" in run("there.h5", "--by", "weights").output
    assert "the folder nowhere does not exist" in run("nowhere/a.h5", "--by", "weights").output
    assert "resampling chooses one of at least 2 showers" in str(run("a.h5", "--by", "resampling").exception)
    assert "does not follow the distribution of true showers" in run("a.h5", "--by", "best-of-k").output
    few = len(supa_datasets.load("sample.h5"))
    flat = DensityRatio(np.r_[np.full(20, few / 20), np.zeros(few - 20)], Estimate(1, 0.1), ())
    monkeypatch.setattr("supa.comparison.refine.density_ratio", lambda *_features, seed: flat)
    result = run("a.h5", "--by", "weights", "--keep", 21)
    assert "the effective size of the sample is 20 of" in str(result.exception)
    assert not list(tmp_path.glob("a.h5*"))


@pytest.mark.parametrize("out", ["sample.h5", "true.h5"])
def test_files_that_are_read_are_not_replaced(run, out):
    before = Path(out).read_bytes()
    result = run(out, "--by", "weights", "--overwrite")
    assert result.exit_code == 2
    assert f"this command reads {out}, and would replace it; choose another name" in " ".join(result.output.split())
    assert Path(out).read_bytes() == before


def test_a_file_of_a_folder_that_is_read_is_not_replaced(files, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "shards").mkdir()
    (tmp_path / "shards" / "0.h5").touch()
    given = [str(files / "sample.h5"), "shards/0.h5", "--by", "weights", "--overwrite", "--against", "shards"]
    result = CliRunner().invoke(refine, given)
    assert result.exit_code == 2
    assert "this command reads shards, and would replace it" in " ".join(result.output.split())


@pytest.mark.parametrize("empty", ["true", "generated"])
def test_empty_samples_are_named(empty):
    some = supa.simulate(60, "standard", seed=1)
    counts = "0 true and 60 generated" if empty == "true" else "60 true and 0 generated"
    with pytest.raises(ValueError, match=f"needs true and generated showers, but there are {counts} ones"):
        supa.comparison.refine_sample(*((some[:0], some) if empty == "true" else (some, some[:0])), by="weights")


def test_a_score_refuses_showers_that_its_test_showers_refined():
    task = supa_datasets.benchmark_task("standard-points")
    test = task.test
    sample = supa.simulate(200, task.config, seed=99)

    def refined(by, first, last):
        refinement = supa.Refinement(by=by, seed=0, sampled=900, true_seed=task.seed, true_first=first, true_last=last)
        run = dataclasses.replace(sample.run, engine="imported", model="toy", refinement=refinement)
        return dataclasses.replace(sample, run=run)

    with pytest.raises(ValueError, match="refined with test showers of standard-points: by rejection"):
        supa_datasets.score_showers(task, refined("rejection", test.start, test.start))
    with pytest.raises(ValueError, match="have weights, which a score does not use"):
        supa_datasets.score_showers(task, refined("weights", 0, 1))


def test_files_store_the_refinement_and_the_weights(tmp_path):
    showers = supa.simulate(30, seed=1)
    refinement = supa.Refinement(by="weights", seed=2, sampled=30, true_seed=None, true_first=0, true_last=4)
    showers = dataclasses.replace(showers, run=dataclasses.replace(showers.run, refinement=refinement))
    path = tmp_path / "w.h5"
    weight = np.linspace(0, 2, 30)
    supa_datasets.save(showers, path, weight=weight)
    with supa_datasets.ShowerFile(path) as file:
        np.testing.assert_array_equal(file.column("showers", "weight"), weight)
        assert file.run == showers.run
        assert "another program" in str(file.run.refinement)
    supa_datasets.convert(path, tmp_path / "w.npz")
    with pytest.raises(ValueError, match="29 weights were given for 30 showers"):
        supa_datasets.save(showers, tmp_path / "x.h5", weight=weight[1:])
    assert not (tmp_path / "x.h5").exists()
    with h5py.File(path, "r+") as file:
        file["showers"].move("weight", "old")
        file["showers/weight"] = weight[1:]
    with pytest.raises(ValueError, match="'showers/weight' has 29 rows for 30 showers"):
        supa_datasets.load(path)
    with h5py.File(path, "r+") as file:
        del file["showers/weight"]
        file.attrs["refinement"] = '{"by": "luck"}'
    with pytest.raises(ValueError, match="refinement has invalid values"):
        supa_datasets.load(path)
