"""``supa mamba train`` and ``evaluate``: output, checkpoints, exact resuming, processes and errors."""

import dataclasses
import json
import os
import re
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import click
import pytest
from forked import start_forked

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

import supa  # noqa: E402
import supa_datasets  # noqa: E402
from supa_cli import main  # noqa: E402
from supa_cli.mamba import train as command  # noqa: E402
from supa_mamba.checkpoint import Checkpoint  # noqa: E402
from supa_mamba.config import TrainingConfig  # noqa: E402
from supa_mamba.evaluation import evaluate  # noqa: E402
from supa_mamba.training import EncoderTask  # noqa: E402

SHORT = [
    "--d-model", "8", "--n-layer", "1", "--d-state", "4", "--epochs", "2", "--batch-size", "40", "--device", "cpu",
]  # fmt: skip
PAIRS = ["train", "p.h5", "--target", "primary", *SHORT]
ENERGY = ["train", "e.h5", "--target", "incident_energy", *SHORT]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Shower files: e.h5 with trees, s.h5, and p.h5 with two primaries."""
    folder = tmp_path_factory.mktemp("showers")
    supa_datasets.save(supa.simulate(200, "critical", seed=1, record="particles"), folder / "e.h5")
    supa_datasets.save(supa.simulate(100, "symmetric", seed=1), folder / "s.h5")
    supa_datasets.save(supa.simulate(100, "two-primaries", seed=1), folder / "p.h5")
    return folder


@pytest.fixture(autouse=True)
def folder(files, tmp_path, monkeypatch):
    """The working folder with the files."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    for file in files.iterdir():
        (tmp_path / file.name).symlink_to(file)
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    torch.set_num_threads(threads)


@pytest.fixture
def supa_mamba(run_supa, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")  # rows of tables in one piece, whatever the terminal
    return partial(run_supa, "mamba")


def _weights(name="m.ckpt"):
    return {key: value.numpy().tobytes() for key, value in Checkpoint.load(name).model().state_dict().items()}


def test_threads_of_pytorch_wait_without_a_busy_loop(supa_mamba, monkeypatch):
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    assert supa_mamba("train", "--help")[0] == 0
    assert os.environ["OMP_WAIT_POLICY"] == "ACTIVE", "the choice of the user"
    monkeypatch.delenv("OMP_WAIT_POLICY")
    supa_mamba("train", "--help")
    assert os.environ["OMP_WAIT_POLICY"] == "PASSIVE"


def test_energies_are_trained_and_evaluated(supa_mamba):
    code, out, err = supa_mamba(*ENERGY, "-o", "m.ckpt")
    assert code == 0, err
    assert re.search(
        r"incident_energy: 1\d\d showers to train on, \d+ to validate on; [\d,]+ parameters in 1 layer of 8", err
    )
    assert re.search(r"encoder  epoch 1  loss [\d.]+  validation loss [\d.]+  validation error of ln E [\d.]+", err)
    assert re.fullmatch(
        r"best epoch: encoder  epoch 1  loss [\d.]+  validation loss [\d.]+  validation error of ln E [\d.]+\n"
        r"m.ckpt: 2 epochs, [\d.]+ s, .* showers/s\n",
        out,
    )
    checkpoint = Checkpoint.load("m.ckpt")
    assert checkpoint.finished
    code, text, _ = supa_mamba("evaluate", "m.ckpt", "e.h5", "--json", "--device", "cpu")
    facts = json.loads(text)
    evaluation = evaluate(checkpoint.model(), checkpoint.encoding, checkpoint.baseline, supa_datasets.load("e.h5"))
    assert (code, facts["target"], facts["split"], facts["epochs"]) == (0, "incident_energy", "test", 2)
    assert facts["rms"] == pytest.approx(evaluation.figures()["rms"], rel=1e-5)
    code, text, _ = supa_mamba("evaluate", "m.ckpt", "e.h5", "--plot", "e.png", "--device", "cpu")
    assert code == 0
    assert Path("e.png").stat().st_size > 10_000
    code, _, err = supa_mamba("evaluate", "m.ckpt", "e.h5", "--plot", "e.png", "--device", "cpu")
    assert (code, "e.png exists; choose another name, or overwrite it (--overwrite)" in err) == (1, True)
    shown = " ".join(text.split())
    rows = [facts["rms"][name] for name in ("model", "hit_count", "bayes")]
    assert (
        f"all {facts['showers']} {facts['bias']['model']:+.3f} {facts['resolution']['model']:.3f} "
        + " ".join(f"{value:.3f}" for value in rows)
    ) in shown
    assert f"The Bayes-optimal rms is {facts['bayes_rms']:.3f}" in shown
    bins = facts["by_energy"]
    assert sum(each["showers"] for each in bins) == facts["showers"]
    assert (
        f"{bins[0]['GeV'][0]:.4g} to {bins[0]['GeV'][1]:.4g} {bins[0]['showers']} {bins[0]['bias']['model']:+.3f}"
        in shown
    )
    squares = sum(each["showers"] * each["rms"]["model"] ** 2 for each in bins)
    assert squares / facts["showers"] == pytest.approx(facts["rms"]["model"] ** 2)
    without = supa.simulate(200, "critical", seed=1)
    supa_datasets.save(without, "bare.h5")
    code, text, err = supa_mamba("evaluate", "m.ckpt", "bare.h5", "--device", "cpu")
    assert "requires a single file, generated with --record particles" in text
    assert "Note" not in err
    supa_datasets.save(supa.simulate(200, supa.preset("critical").replace(incident_energy="1:9"), seed=1), "low.h5")
    code, text, err = supa_mamba("evaluate", "m.ckpt", "low.h5", "--device", "cpu", "--json")
    assert (code, json.loads(text)["showers"]) == (0, facts["showers"])
    assert err.endswith("was not used in training: incident_energy 1.0:9.0, not log:1.0:100.0.\n")


def test_presets_of_several_files_are_classified(supa_mamba):
    code, _, err = supa_mamba("train", "e.h5", "s.h5", "--target", "preset", *SHORT, "-o", "m.ckpt")
    assert code == 0, err
    assert re.search(r"validation loss [\d.]+  validation accuracy [\d.]+ %", err)
    facts = json.loads(supa_mamba("evaluate", "m.ckpt", "e.h5", "s.h5", "--json")[1])
    assert facts["classes"] == ["symmetric", "critical"]
    assert sum(map(sum, facts["confusion"])) == facts["showers"]
    code, text, _ = supa_mamba("evaluate", "m.ckpt", "e.h5", "s.h5", "--split", "all", "--plot", "m.pdf")
    assert code == 0
    assert "300 showers (all)" in text
    assert "true class in rows, predicted class in columns" in text
    code, _, err = supa_mamba("evaluate", "m.ckpt", "p.h5")
    assert (code, "Some showers have the preset two-primaries" in err) == (1, True)
    code, _, err = supa_mamba("evaluate", "m.ckpt", "e.h5", "s.h5", "--plot", "m.doc")
    assert (code, "the name of a figure must end in one of" in err) == (2, True)
    code, _, err = supa_mamba("evaluate", "m.ckpt", "e.h5", "s.h5", "--plot", "none/m.png")
    assert (code, "the folder none does not exist; make it first" in " ".join(err.split())) == (2, True)


def test_hits_are_classified_up_to_exchange(supa_mamba):
    code, _, err = supa_mamba("train", "p.h5", "--target", "primary", *SHORT, "-o", "m.ckpt")
    assert code == 0, err
    assert re.search(r"validation accuracy up to exchange [\d.]+ %", err)
    text = supa_mamba("evaluate", "m.ckpt", "p.h5", "--split", "all")[1]
    assert "accuracy up to exchange" in text
    assert "side of the axis" in text
    assert "true class in rows" not in text


def test_options_override_the_config_file(supa_mamba):
    Path("a.toml").write_text('target = "incident_energy"\nd_model = 8\nn_layer = 1\nepochs = 5\nclip = 0.5\n')
    options = ["--epochs", 1, "--batch-size", 80, "--device", "cpu", "-o", "m.ckpt", "--quiet"]
    assert supa_mamba("train", "e.h5", "--config", "a.toml", *options) == (0, "", "")
    config = Checkpoint.load("m.ckpt").config
    assert (config.target, config.d_model, config.epochs, config.clip, config.batch_size) == (
        "incident_energy", 8, 1, 0.5, 80,
    )  # fmt: skip


MISTAKES = {
    "target": (["--target", "mass"], 2, "target: 'mass' was given, but it must be one of num_primaries, primary"),
    "unknown": (
        ["--config", "wide.toml"],
        2,
        "wide.toml: 'width' is not a setting of TrainingConfig; choose from target, d_model",
    ),
    "no toml": (["--config", "bad.toml"], 2, "bad.toml: The text is not valid TOML"),
    "no file": (["--config", "none.toml"], 2, "none.toml: the file cannot be read"),
    "no target": (["--config", "empty.toml"], 2, "target: nothing was given, but TrainingConfig needs it"),
    "precision": (["--target", "preset", "--precision", "fp8"], 2, "it must be 'float32' or 'bf16'"),
    "warmup": (["--target", "preset", "--warmup", "2"], 2, "warmup: 2.0 was given"),
    "task": (["--target", "primary"], 1, "simulate the preset two-primaries"),
    "one preset": (["--target", "preset"], 1, "needs showers of two or more presets"),
    "activations": (["--target", "preset", "--activations"], 2, "--activations needs --tensorboard"),
    "folder": (["--target", "preset", "-o", "none/m.ckpt"], 2, "the folder none does not exist"),
}


@pytest.mark.parametrize(("options", "status", "message"), MISTAKES.values(), ids=MISTAKES.keys())
def test_a_mistake_is_one_clear_error(supa_mamba, options, status, message):
    Path("wide.toml").write_text("width = 3\n")
    Path("bad.toml").write_text("width = \n")
    Path("empty.toml").write_text("")
    code, out, err = supa_mamba("train", "e.h5", "-o", "m.ckpt", *SHORT, *options)
    assert (code, out) == (status, "")
    assert message in " ".join(err.split())
    assert "Traceback" not in err
    assert not Path("m.ckpt").exists()


def test_missing_or_unsuitable_files_are_clear_errors(supa_mamba):
    code, _, err = supa_mamba("train", "none.h5", "--target", "preset", *SHORT, "-o", "m.ckpt")
    assert (code, "none.h5" in err, "Traceback" in err) == (1, True, False)
    code, _, err = supa_mamba("evaluate", "e.h5", "e.h5")
    assert (code, err) == (1, "Error: e.h5: it is damaged or not a checkpoint of `supa mamba train`.\n")
    Path("m.ckpt").write_text("precious")
    code, _, err = supa_mamba(*ENERGY, "-o", "m.ckpt")
    assert (code, "m.ckpt exists; choose another name" in err) == (2, True)
    assert Path("m.ckpt").read_text() == "precious"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_step_resumes_to_identical_weights(supa_mamba, monkeypatch, number):
    assert supa_mamba(*ENERGY, "-o", "whole.ckpt")[0] == 0
    steps, update = 0, EncoderTask.update

    def interrupted(*arguments):
        nonlocal steps
        steps += 1
        if steps == 6:  # the second step of the second epoch
            os.kill(os.getpid(), number)
        return update(*arguments)

    monkeypatch.setattr(EncoderTask, "update", interrupted)
    code, out, err = supa_mamba(*ENERGY, "-o", "m.ckpt")
    assert (code, out) == (130, "")
    assert "m.ckpt contains 1 epoch and 2 steps; resume with the same command and --resume." in err
    assert "interrupted after 1 epoch" in supa_mamba("evaluate", "m.ckpt", "e.h5")[1]
    code, _, err = supa_mamba(*ENERGY, "-o", "m.ckpt", "--resume")
    assert code == 0
    assert "m.ckpt: resuming after 1 epoch and 2 steps" in err
    assert _weights() == _weights("whole.ckpt")
    monkeypatch.setattr(EncoderTask, "update", None)
    code, _, err = supa_mamba(*ENERGY, "-o", "m.ckpt", "--resume")
    assert (code, "m.ckpt: finished after 2 epochs" in err) == (0, True)


def _train_and_tell_each_epoch(arguments, output):
    from supa_cli.training import epoch_table, session

    session.SECONDS_BETWEEN_FILES = epoch_table._SECONDS_BETWEEN_LINES = 0.0
    os.dup2(output, 2)
    sys.stderr = os.fdopen(2, "w", buffering=1, closefd=False)
    sys.argv = ["supa", "mamba", *map(str, arguments)]
    main.main()


def test_killed_training_resumes_to_identical_weights(supa_mamba, folder):
    options = [*ENERGY, "--epochs", "12"]
    assert supa_mamba(*options, "--quiet", "-o", "whole.ckpt") == (0, "", "")
    output, of_process = os.pipe()
    process = start_forked(_train_and_tell_each_epoch, [*options, "-o", "m.ckpt"], of_process)
    os.close(of_process)
    with os.fdopen(output) as lines:
        while not lines.readline().startswith("encoder  epoch 2"):
            pass
        process.kill()
        process.join()
    assert process.exitcode == -signal.SIGKILL
    stored = Checkpoint.load("m.ckpt")
    assert not stored.finished
    assert stored.epochs >= 2
    assert supa_mamba(*options, "--quiet", "-o", "m.ckpt", "--resume") == (0, "", "")
    assert _weights() == _weights("whole.ckpt")
    assert {path.name for path in folder.iterdir() if not path.is_symlink()} <= {"m.ckpt", "m.ckpt.new", "whole.ckpt"}


def _steps(name):
    """Return the losses of the epochs."""
    history = Checkpoint.load(name).training["state"]["history"]
    return [[epoch["train"]["encoder"]["loss"], epoch["valid"]["encoder"]["loss"]] for epoch in history]


@pytest.mark.slow
def test_two_processes_train_like_one_up_to_rounding(supa_mamba):
    assert supa_mamba(*PAIRS, "--quiet", "-o", "one.ckpt") == (0, "", "")
    result = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "supa_cli.main",
         "mamba", *PAIRS, "-o", "two.ckpt"],
        env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert "on cpu in each of 2 processes" in result.stderr
    assert result.stdout.count("best epoch") == 1
    assert torch.tensor(_steps("two.ckpt")).tolist() == [pytest.approx(row, rel=1e-4) for row in _steps("one.ckpt")]
    one, two = Checkpoint.load("one.ckpt"), Checkpoint.load("two.ckpt")
    assert (one.processes, two.processes, one.digest) == (1, 2, two.digest)
    for name, weights in two.model().state_dict().items():
        torch.testing.assert_close(weights, one.model().state_dict()[name], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--seed", 1], "seed is 0 in the file, but 1 in this command"),
        (["--d-model", 16], "d_model is 8 in the file, but 16 in this command"),
        (["s.h5"], "the number of showers is"),
    ],
)
def test_another_training_run_is_not_resumed(supa_mamba, options, message):
    assert supa_mamba(*ENERGY, "--epochs", 1, "--quiet", "-o", "m.ckpt") == (0, "", "")
    before = Path("m.ckpt").read_bytes()
    code, _, err = supa_mamba(*ENERGY, "--epochs", 1, *options, "--resume", "-o", "m.ckpt")
    assert code == 2
    assert f"m.ckpt belongs to another training run: {message}" in err
    assert Path("m.ckpt").read_bytes() == before


def test_more_processes_than_showers_of_a_batch_are_a_clear_error():
    from supa_learning import Processes
    from supa_mamba.training import training_task

    config = TrainingConfig(target="incident_energy", batch_size=2)
    with pytest.raises(ValueError, match=r"A batch has \d showers, but there are 3 processes"):
        training_task("e.h5", config, processes=Processes(0, 3))


def test_the_help_shows_the_defaults():
    options = {option.name: option.help for option in command.command.params if isinstance(option, click.Option)}
    for field in dataclasses.fields(TrainingConfig):
        if field.name != "target":
            default = field.default if isinstance(field.default, str) else f"{field.default:g}"
            assert options[field.name].endswith(f"[default: {default}]")


def test_help_loads_nothing_heavy():
    code = (
        "import supa_cli.main, supa_cli.mamba, supa_cli.mamba.train, supa_cli.mamba.evaluate, sys\n"
        "print(*[m for m in ('torch', 'numpy', 'rich', 'h5py') if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == ""
    assert command.command.name == "train"
