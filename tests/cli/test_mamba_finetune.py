"""``supa mamba finetune``: the tuned generator, exact resuming and errors."""

import re
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

import supa  # noqa: E402
import supa_datasets  # noqa: E402
from supa_mamba import GeneratorCheckpoint  # noqa: E402

SHALLOW = supa.ShowerConfig(num_slices=10, readout_layers=((6, 9),), split_early=0.3)
TUNE = ["--device", "cpu", "--batch-size", 16, "--group-size", 16, "--measured", 200, "--steps", 2, "--interval", 2]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch, run_supa):
    """The working folder with a generator."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    supa_datasets.save(supa.simulate(80, SHALLOW, seed=1), "g.h5")
    train = ["--d-model", 32, "--d-state", 4, "--n-layer", 1, "--epochs", 1, "--batch-size", 16, "--device", "cpu"]
    assert run_supa("mamba", "train-generator", "g.h5", *train, "--quiet", "-o", "g.ckpt")[0] == 0
    yield tmp_path
    torch.set_num_threads(threads)


def test_a_tuned_generator_is_stored_resumed_and_sampled(run_supa):
    given = ["mamba", "finetune", "g.ckpt", "--reward", "profiles", *TUNE, "-o", "t.ckpt"]
    code, out, err = run_supa(*given)
    assert code == 0, err
    assert re.search(r"^profiles: [\d,]+ parameters to train, 2 steps of 16 showers, 200 true showers", err, re.M)
    assert re.search(r"^policy: kl per shower +0 +[\d.e-]+$", out, re.M)
    assert re.search(r"^width ratio: num hits +[\d.]+ +[\d.]+$", out, re.M)
    tuned = GeneratorCheckpoint.load("t.ckpt")
    assert tuned.finished
    assert tuned.training["task"]["before"]["policy"]["kl_per_shower"] == 0
    code, _, err = run_supa(*given, "--resume")
    assert code == 0, err
    assert "t.ckpt: finished after" in err
    code, _, err = run_supa(*given, "--kl", 1, "--resume")
    assert code == 2
    assert "t.ckpt belongs to another training run: kl is 0.1 in the file" in " ".join(err.split())
    code, _, err = run_supa("mamba", "sample", "t.ckpt", "sample.h5", "-n", 20, "--device", "cpu")
    assert code == 0, err
    assert len(supa_datasets.load("sample.h5")) == 20


def test_errors(run_supa):
    supa_datasets.save(supa.simulate(60, "critical", seed=1), "other.h5")
    for given, message in [
        (["--reward", "density-ratio"], "needs true showers: --against TRAIN"),
        (["--reward", "profiles", "--against", "g.h5"], "leave it out"),
        (["--reward", "density-ratio", "--against", "other.h5", "--measured", 1000], "the preset 'critical' was given"),
        (["--reward", "density-ratio", "--against", "g.h5"], "measured: 200 was given"),
        (["--reward", "profiles", "--kl", -1], "kl: -1"),
        (["--reward", "profiles", "--group-size", 32], "batch_size: 16 was given, but it must be a multiple of 32"),
    ]:
        code, _, err = run_supa("mamba", "finetune", "g.ckpt", *TUNE, *given, "-o", "new.ckpt")
        assert code == 2, err
        assert message in " ".join(err.split())
    assert not Path("new.ckpt").exists()
