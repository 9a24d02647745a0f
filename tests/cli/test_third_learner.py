"""A learner from outside the package uses the options, progress, resuming and TensorBoard of supa_learning."""

import os
import signal
import sys
import types
from pathlib import Path

import pytest
from click.testing import CliRunner

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

from point_classifier import ClassifierCheckpoint, ClassifierTask, command  # noqa: E402

import supa  # noqa: E402
import supa_datasets  # noqa: E402
from supa_cli import signals  # noqa: E402

DATA = ["a.h5", "b.h5"]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """A folder with two shower files."""
    monkeypatch.chdir(tmp_path)
    supa_datasets.save(supa.simulate(120, "symmetric", seed=1), "a.h5")
    supa_datasets.save(supa.simulate(120, "critical", seed=1), "b.h5")
    before = [signal.getsignal(number) for number in signals.SIGNALS]
    signals.install()
    yield tmp_path
    for number, handler in zip(signals.SIGNALS, before, strict=True):
        signal.signal(number, handler)


def _run(*arguments):
    return CliRunner().invoke(command, [*DATA, "--device", "cpu", *map(str, arguments)])


def _weights(name):
    return {key: value.numpy().tobytes() for key, value in ClassifierCheckpoint.load(name).model().state_dict().items()}


def test_it_has_the_options_the_progress_and_the_table():
    Path("settings.toml").write_text("width = 8\nepochs = 5\n")
    result = _run("--config", "settings.toml", "--epochs", 2, "-o", "m.ckpt")
    assert result.exit_code == 0, result.output
    assert "classifier  epoch 1  loss " in result.stderr
    assert "validation accuracy" in result.stderr
    assert "m.ckpt: 2 epochs" in result.stdout
    stored = ClassifierCheckpoint.load("m.ckpt")
    assert (stored.settings.width, stored.settings.epochs, stored.finished) == (8, 2, True)
    assert "Maximum learning rate. [default: 0.01]" in " ".join(CliRunner().invoke(command, ["--help"]).output.split())
    again = _run("-o", "m.ckpt")
    assert (again.exit_code, "m.ckpt exists" in again.stderr) == (2, True)


def test_it_resumes_within_an_epoch_to_identical_weights(monkeypatch):
    assert _run("--quiet", "-o", "whole.ckpt").exit_code == 0
    steps, update = 0, ClassifierTask.update

    def interrupted(*arguments):
        nonlocal steps
        steps += 1
        if steps == 9:  # in the second epoch
            os.kill(os.getpid(), signal.SIGINT)
        return update(*arguments)

    monkeypatch.setattr(ClassifierTask, "update", interrupted)
    signals.install()
    result = _run("-o", "m.ckpt")
    assert result.exit_code == 1
    assert "m.ckpt contains 1 epoch and 3 steps; resume with the same command and --resume." in result.stderr
    signals.install()
    torch.rand(3)
    different = _run("-o", "m.ckpt", "--resume", "--seed", 1)
    assert (different.exit_code, "m.ckpt belongs to another training run" in different.stderr) == (2, True)
    result = _run("-o", "m.ckpt", "--resume")
    assert result.exit_code == 0, result.output
    assert "m.ckpt: resuming after 1 epoch and 3 steps" in result.stderr
    assert _weights("m.ckpt") == _weights("whole.ckpt")


class _Writer:
    """Records what is written for TensorBoard."""

    scalars: tuple = ()

    def __init__(self, folder, purge_step=None):
        _Writer.folder = folder

    def add_scalar(self, name, value, step):
        _Writer.scalars = (*_Writer.scalars, (name, value, step))

    def close(self):
        _Writer.closed = True


def test_tensorboard_receives_every_metric_of_every_epoch_once(monkeypatch):
    module = types.ModuleType("torch.utils.tensorboard")
    module.SummaryWriter = _Writer
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", module)
    assert _run("--quiet", "--tensorboard", "board", "-o", "m.ckpt").exit_code == 0
    assert (_Writer.folder, _Writer.closed) == ("board", True)
    history = ClassifierCheckpoint.load("m.ckpt").training["state"]["history"]
    assert len(_Writer.scalars) == 4 * len(history)
    for number, epoch in enumerate(history):
        for name, value in (
            ("classifier/train/loss", epoch["train"]["classifier"]["loss"]),
            ("classifier/valid/accuracy", epoch["valid"]["classifier"]["accuracy"]),
            ("learning_rate", epoch["learning_rate"]),
            ("seconds", epoch["seconds"]),
        ):
            assert _Writer.scalars.count((name, value, number)) == 1


def test_a_missing_tensorboard_is_a_clear_error(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    result = _run("--tensorboard", "board", "-o", "m.ckpt")
    assert (result.exit_code, "pip install tensorboard" in result.stderr) == (2, True)
