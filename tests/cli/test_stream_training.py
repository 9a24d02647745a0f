"""``supa mamba train --stream`` and ``supa gff train --stream``: exact resume, processes and mistakes."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
pytest.importorskip("torch_geometric", reason="PyTorch Geometric is not installed")

import supa  # noqa: E402
from supa_gff import Checkpoint as GraphCheckpoint  # noqa: E402
from supa_gff import encoded_showers  # noqa: E402
from supa_mamba import Checkpoint as EncoderCheckpoint  # noqa: E402
from supa_mamba import TrainingConfig, stream_training_task  # noqa: E402
from supa_mamba.stream_training import StreamEncoderTask  # noqa: E402

SIZES = [
    "--batches-per-epoch", "4", "--validation-showers", "40", "--batch-size", "16", "--device", "cpu",
]  # fmt: skip
ENCODER = [
    "mamba", "train", "--stream", "critical", "--target", "incident_energy", "--d-model", "8", "--n-layer", "1",
    "--d-state", "4", *SIZES,
]  # fmt: skip
GRAPHS = ["gff", "train", "--stream", "two-primaries", "--target", "primary", "--layers", "2", *SIZES]
GREEDY = [*GRAPHS, "--method", "cafo"]
PROGRAM = """
import supa_cli.training.epoch_table, supa_cli.training.session, supa_gff.shower_stream, supa_mamba.stream_training
supa_gff.shower_stream.FITTED_SHOWERS = supa_mamba.stream_training.FITTED_SHOWERS = 200
supa_cli.training.session.SECONDS_BETWEEN_FILES = supa_cli.training.epoch_table._SECONDS_BETWEEN_LINES = 0.0
from supa_cli.main import main
main()
"""
LOAD = {"mamba": EncoderCheckpoint.load, "gff": GraphCheckpoint.load}


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """The working folder, with a program that runs a command with small samples and frequent checkpoints."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    monkeypatch.chdir(tmp_path)
    for module in ("supa_mamba.stream_training", "supa_gff.shower_stream"):
        monkeypatch.setattr(f"{module}.FITTED_SHOWERS", 200)
    Path("train.py").write_text(PROGRAM)
    yield tmp_path
    torch.set_num_threads(threads)


@pytest.fixture
def run(run_supa):
    return run_supa


def _weights(command, name):
    return {key: value.numpy().tobytes() for key, value in LOAD[command[0]](name).training["model"].items()}


@pytest.mark.slow
@pytest.mark.parametrize("command", [ENCODER, GREEDY], ids=["encoder", "graph network"])
def test_killed_training_resumes_to_identical_weights(run, command):
    options = [*command, "--epochs", "8", "--patience", "8"]
    assert run(*options, "--quiet", "-o", "whole.ckpt") == (0, "", "")
    with subprocess.Popen(
        [sys.executable, "train.py", *options, "-o", "m.ckpt"],
        env={**os.environ, "OMP_NUM_THREADS": "1"}, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        while "epoch 2" not in process.stderr.readline():
            pass
        process.kill()
        assert process.wait() == -signal.SIGKILL
    stored = LOAD[command[0]]("m.ckpt")
    assert not stored.finished
    state = stored.training["state"]
    assert stored.training["task"]["stream"]["batch"] >= 4 * state["epoch"] + state["step"] > 8
    assert run(*options, "--quiet", "-o", "m.ckpt", "--resume") == (0, "", "")
    assert _weights(command, "m.ckpt") == _weights(command, "whole.ckpt")


@pytest.mark.slow
def test_two_processes_resume_what_one_process_began(run, monkeypatch):
    """They share the batches of one process, so the losses differ by rounding only."""
    command = ["mamba", "train", "--stream", "two-primaries", "--target", "primary", *ENCODER[6:], "--epochs", "2"]
    assert run(*command, "--quiet", "-o", "one.ckpt") == (0, "", "")
    steps, update = 0, StreamEncoderTask.update

    def interrupted(*arguments):
        nonlocal steps
        steps += 1
        if steps == 2:
            os.kill(os.getpid(), signal.SIGINT)
        return update(*arguments)

    monkeypatch.setattr(StreamEncoderTask, "update", interrupted)
    code, _, err = run(*command, "--quiet", "-o", "two.ckpt")
    assert (code, "two.ckpt contains 0 epochs and 2 steps" in err) == (130, True)
    together = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "train.py"]
    result = subprocess.run(
        [*together, *command, "--resume", "-o", "two.ckpt"],
        env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    losses = [
        [epoch["train"]["encoder"]["loss"] for epoch in EncoderCheckpoint.load(name).training["state"]["history"]]
        for name in ("one.ckpt", "two.ckpt")
    ]
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)


def test_training_and_validation_have_no_shower_in_common():
    config = TrainingConfig(target="incident_energy", d_model=8, n_layer=1, epochs=2, batch_size=16)
    task = stream_training_task("critical", config, batches_per_epoch=3, validation_showers=40)
    valid = supa.simulate(40, "critical", seed=0)
    assert torch.equal(task.valid._counts, torch.from_numpy(valid.num_hits))
    train = supa.simulate(96, "critical", seed=0, first=40)
    batches = [batch for epoch in (0, 1) for batch in task.batches(0, epoch, 0)]
    assert torch.equal(torch.cat([batch.offset.diff() for batch in batches]), torch.from_numpy(train.num_hits))
    expected = (torch.from_numpy(train.incident_energy).log() - task.encoding.mean) / task.encoding.std
    torch.testing.assert_close(torch.cat([batch.target for batch in batches]).double(), expected, rtol=1e-6, atol=1e-6)
    assert {batch.units for batch in batches} == {16}
    task._batches.close()


def test_a_graph_network_of_a_stream_predicts_other_showers(run):
    assert run(*GRAPHS, "--epochs", 1, "--quiet", "-o", "g.ckpt") == (0, "", "")
    checkpoint = GraphCheckpoint.load("g.ckpt")
    graphs = encoded_showers(supa.simulate(10, "two-primaries", seed=5), checkpoint.encoding)
    assert checkpoint.encoding.classes == ("lower u", "higher u")
    batch = graphs.batch(torch.arange(10))
    assert checkpoint.model().predict(batch).shape == batch.target.shape


def test_configs_from_files_are_mixed(run):
    Path("low.toml").write_text(supa.preset("standard").replace(incident_energy=20).to_toml())
    code, _, err = run(*ENCODER, "--stream", "low.toml", "--energy", "log:1:50", "--epochs", 1, "-o", "m.ckpt")
    assert code == 0, err
    assert "incident_energy: 64 showers to train on per epoch, simulated from critical, low, 40 to validate on" in err
    stored = EncoderCheckpoint.load("m.ckpt").training["task"]["stream"]["stream"]["configs"]
    assert [config["incident_energy"] for config in stored] == ["log:1.0:50.0"] * 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--stream", "standard"], "the number of configs (1 in the state, 2 here)"),
        (["--energy", "log:1:9"], "configs[0].incident_energy ('log:1.0:100.0' in the state, 'log:1.0:9.0' here)"),
        (["--batches-per-epoch", "5"], "the number of showers is 64 for training and 40 for validation in the file"),
        (["--seed", "1"], "seed is 0 in the file, but 1 in this command"),
    ],
)
def test_a_checkpoint_of_another_stream_is_refused(run, options, message):
    assert run(*ENCODER, "--epochs", 1, "--quiet", "-o", "m.ckpt") == (0, "", "")
    before = Path("m.ckpt").read_bytes()
    code, _, err = run(*ENCODER, "--epochs", 1, *options, "--resume", "-o", "m.ckpt")
    assert (code, message in err) == (2, True), err
    assert Path("m.ckpt").read_bytes() == before


MISTAKES = {
    "both": (["mamba", "train", "e.h5", *ENCODER[2:]], "the files DATA and --stream cannot be used together"),
    "neither": (["mamba", "train", *ENCODER[4:6]], "Give the showers to train on: the files DATA, or --stream"),
    "typo": (["mamba", "train", "--stream", "standart"], "Did you mean 'standard'?"),
    "no stream": (["mamba", "train", "e.h5", "--energy", "5"], "--energy needs --stream."),
    "energy": ([*ENCODER, "--energy", "low"], "low"),
    "one energy": ([*ENCODER, "--energy", "65"], "All training showers have the same incident_energy"),
    "one preset": ([*GRAPHS, "--target", "preset"], "All showers have the preset two-primaries"),
    "dataset": ([*GRAPHS, "--dataset", "MUTAG"], "--dataset and --stream cannot be used together"),
    "target": (["gff", "train", "--stream", "standard"], "--stream needs --target."),
    "loss": ([*GRAPHS, "--target", "incident_energy", "--method", "gff"], "gff does not support regression targets"),
    "negatives": ([*GRAPHS, "--method", "label-appending"], "a stream has no set of training graphs"),
    "class nodes": ([*GRAPHS, "--method", "single-forward"], "the hits of a shower have none; use another method"),
}


@pytest.mark.parametrize(("command", "message"), MISTAKES.values(), ids=MISTAKES.keys())
def test_a_mistake_is_one_clear_error(run, command, message):
    Path("e.h5").write_bytes(b"")
    code, out, err = run(*command, "-o", "m.ckpt")
    assert (code, out, message in err, "Traceback" in err) == (2, "", True, False), err
    assert not Path("m.ckpt").exists()
