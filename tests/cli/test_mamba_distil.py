"""``supa mamba distil``: the student, its settings, exact resuming and errors."""

import re
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

import supa  # noqa: E402
import supa_datasets  # noqa: E402
from supa_datasets import ShowerStream  # noqa: E402
from supa_mamba import (  # noqa: E402
    GeneratorCheckpoint,
    GeneratorConfig,
    GeneratorTrainingConfig,
    train_generator,
)
from supa_mamba.generator.distillation import least_needed_layers  # noqa: E402
from supa_mamba.generator.training_showers import split_showers  # noqa: E402

SHALLOW = supa.ShowerConfig(num_slices=10, readout_layers=((6, 9),), incident_energy="log:1:20", split_early=0.3)
SHORT = ["--d-model", 32, "--d-state", 4, "--batch-size", 16, "--device", "cpu", "--quiet"]
STREAM = ["--stream", "shallow.toml", "--batches-per-epoch", 3, "--validation-showers", 40]
DISTIL = ["--epochs", 1, "--device", "cpu"]


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    """Checkpoint of a Transformer."""
    showers, path = supa.simulate(80, SHALLOW, seed=1), tmp_path_factory.mktemp("teacher") / "t.ckpt"
    sizes = GeneratorConfig(model="transformer", d_model=32, n_layer=2, d_state=4)
    config = GeneratorTrainingConfig(generator=sizes, epochs=1, batch_size=16)
    GeneratorCheckpoint.of(train_generator(showers, config)).save(path)
    return path


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch, teacher):
    """The working folder with showers, a config and a teacher."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    supa_datasets.save(supa.simulate(80, SHALLOW, seed=1), "g.h5")
    Path("shallow.toml").write_text(SHALLOW.to_toml())
    Path("t.ckpt").symlink_to(teacher)
    yield tmp_path
    torch.set_num_threads(threads)


@pytest.mark.parametrize("source", [["g.h5"], STREAM], ids=["files", "stream"])
def test_a_student_is_stored_resumed_and_sampled(run_supa, source):
    given = [
        "mamba",
        "distil",
        "t.ckpt",
        *source,
        "--attention",
        "1/2",
        "--divergence",
        "reverse",
        "--on-policy",
        *DISTIL,
    ]
    code, _, err = run_supa(*given, "-o", "s.ckpt")
    assert code == 0, err
    assert re.search(r"^1 layer of Mamba-2, attention in layer 1: \d+ showers to train on", err, re.M)
    assert re.search(r"^layer 0  epoch 0  relative error [\d.]+  validation relative error [\d.]+$", err, re.M)
    assert len(re.findall(r"^teacher  epoch 0  divergence per hit -?[\d.]+$", err, re.M)) == 2
    student, teacher = GeneratorCheckpoint.load("s.ckpt"), GeneratorCheckpoint.load("t.ckpt")
    assert student.config.generator == teacher.config.generator.replace(mamba_layers=(0,))
    assert student.config.batch_size == 16
    assert student.finished
    code, _, err = run_supa(*given, "-o", "s.ckpt", "--resume")
    assert code == 0, err
    assert "s.ckpt: finished after" in err
    code, _, err = run_supa(*[word for word in given if word != "--on-policy"], "-o", "s.ckpt", "--resume")
    assert code == 2
    assert "s.ckpt belongs to another training run: on_policy is True" in " ".join(err.split())
    code, _, err = run_supa(*given, "--divergence", "forward", "-o", "s.ckpt", "--resume")
    assert code == 2
    assert "s.ckpt belongs to another training run: divergence is reverse" in " ".join(err.split())
    code, _, err = run_supa("mamba", "sample", "s.ckpt", "sample.h5", "-n", 20, "--device", "cpu")
    assert code == 0, err
    assert len(supa_datasets.load("sample.h5")) == 20


@pytest.mark.parametrize("source", [["g.h5"], STREAM], ids=["files", "stream"])
def test_attention_remains_where_the_likelihood_needs_it(run_supa, source):
    given = ["mamba", "distil", "t.ckpt", *source, "--attention", "1/2", "--attention-by", "loss", *DISTIL]
    code, _, err = run_supa(*given, "-o", "s.ckpt")
    assert code == 0, err
    model = GeneratorCheckpoint.load("t.ckpt").model()
    parts = split_showers("g.h5", "validation") if source == ["g.h5"] else ShowerStream(SHALLOW, 1, seed=0).showers(40)
    layers = GeneratorCheckpoint.load("s.ckpt").config.generator.mamba_layers
    assert layers == least_needed_layers(model, parts, 1 / 2)
    code, _, err = run_supa(*given, "-o", "s.ckpt", "--resume")
    assert code == 0, err
    assert "s.ckpt: finished after" in err


def test_attention_is_replaced_by_mamba(run_supa):
    given = ["mamba", "distil", "t.ckpt", "g.h5", "--attention", "1/2", "--mixer", "mamba", *DISTIL, "-o", "s.ckpt"]
    code, _, err = run_supa(*given)
    assert code == 0, err
    assert "1 layer of Mamba, attention in layer 1" in err
    model = GeneratorCheckpoint.load("s.ckpt").model()
    assert [type(block.mixer).__name__ for block in model.stack.blocks()] == ["Mamba", "CausalAttention"]
    further = ["mamba", "distil", "s.ckpt", "g.h5", "--attention", "0", *DISTIL, "-o"]
    code, _, err = run_supa(*further, "pure.ckpt")
    assert code == 0, err
    code, _, err = run_supa(*further, "other.ckpt", "--mixer", "mamba2")
    assert code == 2, err
    assert "mamba_mixer: 'mamba2' was given, but the teacher has layers of 'mamba' already" in " ".join(err.split())


def test_errors(run_supa):
    train = ["mamba", "train-generator", "g.h5", *SHORT, "--n-layer", 1, "--epochs", 1]
    assert run_supa(*train, "-o", "mamba2.ckpt")[0] == 0
    Path("a.toml").write_text("fields = ['preset']\n")
    supa_datasets.save(supa.simulate(60, "critical", seed=1), "other.h5")
    supa_datasets.save(supa.simulate(60, SHALLOW.replace(incident_energy=500), seed=1), "strong.h5")
    assert run_supa("mamba", "distil", "t.ckpt", "g.h5", "--attention", "0", *DISTIL, "-o", "s.ckpt", "--quiet")[0] == 0
    for given, message in [
        (["mamba2.ckpt", "g.h5", "--attention", "0"], "TEACHER is a generator of the model mamba2"),
        (["t.ckpt", "g.h5"], "--attention: 1/4 was given, but the teacher has only 2 layers"),
        (["t.ckpt", "g.h5", "--attention", "x"], "--attention: x was given"),
        (["t.ckpt", "g.h5", "--attention", "0", "--attention-layer", 1], "cannot be used together"),
        (["t.ckpt", "g.h5", "--attention-by", "loss", "--attention-layer", 1], "--attention-by and --attention-layer"),
        (["t.ckpt", "g.h5", "--attention-layer", 2], "2 was given, but the layers are 0 to 1"),
        (
            ["t.ckpt", "g.h5", "--attention-layer", 0, "--attention-layer", 1],
            "--attention-layer: all layers with attention",
        ),
        (["t.ckpt", "strong.h5", "--attention", "0"], "incident_energy: 500 GeV was given, but the training showers"),
        (
            ["t.ckpt", *STREAM, "--energy", 500, "--attention", "0"],
            "incident_energy: 500 GeV was given, but the training showers have 1 to 20 GeV",
        ),
        (["t.ckpt", "g.h5", "--attention", "0", "--config", "a.toml"], "a.toml: fields is that of the teacher"),
        (["t.ckpt", "other.h5", "--attention", "0"], "the preset 'critical' was given"),
        (["t.ckpt", "--attention", "0"], "Give the showers to train on"),
        (["s.ckpt", "g.h5", "--attention", "1/2"], "mamba_layers: [0] was given, but the teacher has [0, 1]"),
    ]:
        code, _, err = run_supa("mamba", "distil", *given, *DISTIL, "-o", "new.ckpt")
        assert code == 2, err
        assert message in " ".join(err.split())
    code, _, err = run_supa(
        "mamba", "distil", "t.ckpt", "g.h5", "--attention", "1/2", *DISTIL, "-o", "s.ckpt", "--resume"
    )
    assert code == 2
    assert "s.ckpt belongs to another training run: mamba_layers is" in " ".join(err.split())
    # A checkpoint of an ordinary training has no stages.
    code, _, err = run_supa(
        "mamba", "distil", "t.ckpt", "g.h5", "--attention", "0", *DISTIL, "-o", "mamba2.ckpt", "--resume"
    )
    assert code == 2
    assert "mamba2.ckpt belongs to another training run" in " ".join(err.split())
