"""``supa mamba train-generator``: settings, output, checkpoints, exact resuming and errors."""

import os
import re
import signal
import subprocess
import sys
import types
from functools import partial
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

import supa  # noqa: E402
import supa_datasets  # noqa: E402
from supa_cli import choices  # noqa: E402
from supa_cli.mamba import train_generator as command  # noqa: E402
from supa_datasets import benchmark_task  # noqa: E402
from supa_mamba import GENERATOR_PRESETS, GeneratorCheckpoint, GeneratorConfig  # noqa: E402
from supa_mamba.generator.task import GeneratorTask  # noqa: E402

SHALLOW = supa.ShowerConfig(num_slices=10, readout_layers=((6, 9),), incident_energy="log:1:20", split_early=0.3)
SHORT = [
    "--d-model", 32, "--n-layer", 1, "--d-state", 4, "--epochs", 2, "--batch-size", 16, "--device", "cpu",
]  # fmt: skip
FILES = ["g.h5", *SHORT]
STREAM = ["--stream", "shallow.toml", "--batches-per-epoch", 3, "--validation-showers", 40, *SHORT]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """The working folder with a file of showers and a config."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    monkeypatch.chdir(tmp_path)
    supa_datasets.save(supa.simulate(80, SHALLOW, seed=1), "g.h5")
    Path("shallow.toml").write_text(SHALLOW.to_toml())
    yield tmp_path
    torch.set_num_threads(threads)


@pytest.fixture
def train(run_supa, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")  # rows of tables in one piece, whatever the terminal
    return partial(run_supa, "mamba", "train-generator")


def _weights(name):
    return {key: value.numpy().tobytes() for key, value in GeneratorCheckpoint.load(name).model().state_dict().items()}


def test_a_generator_of_a_file_is_trained_and_stored(train):
    code, out, err = train(*FILES, "-o", "g.ckpt")
    assert code == 0, err
    assert re.search(r"mamba2: \d\d showers to train on, \d+ to validate on; [\d,]+ parameters in 1 layer of 32", err)
    assert re.search(r"generator  epoch 1  nats per hit [\d.]+  nats per shower [\d.]+  validation nats per hit", err)
    for part in ("leak", "profile", "energy", "position"):
        assert re.search(rf"^{part}  epoch 1  nats per hit -?[\d.]+  validation nats per hit -?[\d.]+$", err, re.M)
    assert re.search(r"^best epoch: generator  epoch 1  nats per hit ", out, re.M)
    assert re.search(r"^g.ckpt: 2 epochs, [\d.]+ s, .* showers/s\n$", out.splitlines(keepends=True)[-1])
    stored = GeneratorCheckpoint.load("g.ckpt")
    assert stored.finished
    assert stored.shower_configs == [SHALLOW]
    assert (stored.config.generator.d_model, stored.config.batch_size) == (32, 16)
    assert stored.config.ema == GENERATOR_PRESETS["small"].ema


def test_settings_come_from_the_preset_then_the_file_then_the_options(train):
    Path("a.toml").write_text("epochs = 1\nema = 0.5\n[generator]\nn_layer = 2\nenergy_components = 3\n")
    options = ["--preset", "base", "--config", "a.toml", "--d-model", 32, "--d-state", 4, "--precision", "float32"]
    code, out, err = train("g.h5", *options, "--field", "split_early", "--quiet", "--device", "cpu", "-o", "g.ckpt")
    assert (code, out, err) == (0, "", "")
    config, base = GeneratorCheckpoint.load("g.ckpt").config, GENERATOR_PRESETS["base"]
    assert config.generator == GeneratorConfig(d_model=32, n_layer=2, d_state=4, energy_components=3)
    assert (config.epochs, config.ema, config.precision, config.fields) == (1, 0.5, "float32", ("split_early",))
    assert (config.batch_size, config.patience) == (base.batch_size, base.patience)


@pytest.mark.parametrize("source", [FILES, STREAM], ids=["files", "stream"])
def test_an_interrupted_step_resumes_to_identical_weights(train, monkeypatch, source):
    assert train(*source, "--quiet", "-o", "whole.ckpt") == (0, "", "")
    steps, update = 0, GeneratorTask.update

    def interrupted(*arguments):
        nonlocal steps
        steps += 1
        if steps == 2:
            os.kill(os.getpid(), signal.SIGINT)
        return update(*arguments)

    monkeypatch.setattr(GeneratorTask, "update", interrupted)
    code, out, err = train(*source, "-o", "g.ckpt")
    assert (code, out) == (130, "")
    assert "g.ckpt contains 0 epochs and 2 steps; resume with the same command and --resume." in err
    monkeypatch.setattr(GeneratorTask, "update", update)
    code, _, err = train(*source, "-o", "g.ckpt", "--resume")
    assert (code, "g.ckpt: resuming after 0 epochs and 2 steps" in err) == (0, True)
    assert _weights("g.ckpt") == _weights("whole.ckpt")


def test_a_stream_is_named_and_its_configs_are_stored(train):
    code, _, err = train(*STREAM, "--stream", "standard", "--field", "preset", "--epochs", 1, "-o", "g.ckpt")
    assert code == 0, err
    assert "48 showers to train on per epoch, simulated from shallow, standard, 40 to validate on" in err
    stored = GeneratorCheckpoint.load("g.ckpt")
    assert stored.streamed
    assert stored.shower_configs == [SHALLOW, supa.preset("standard")]


def test_sampled_showers_are_compared(train):
    options = ["--validation-showers", 60, "--compare-every", 1, "--epochs", 1]
    code, out, err = train(*STREAM, *options, "-o", "g.ckpt")
    assert code == 0, err
    shown = r"sample  epoch 0  validation largest pull [\d.]+  validation classifier auc [\d.]+$"
    assert re.search(f"^{shown}", err, re.M)
    assert re.search(f"^best epoch: {shown}", out, re.M)


def test_activations_are_written_for_tensorboard(train, monkeypatch):
    scalars = []

    class Writer:
        def __init__(self, folder, purge_step=None):
            self.close = lambda: None

        def add_scalar(self, *scalar):
            scalars.append(scalar)

    module = types.ModuleType("torch.utils.tensorboard")
    module.SummaryWriter = Writer
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", module)
    code, _, err = train(*FILES, "-o", "plain.ckpt", "--tensorboard", "board")
    assert code == 0, err
    assert not any(name.startswith("layer") for name, *_ in scalars)
    code, _, err = train(*FILES, "-o", "g.ckpt", "--tensorboard", "board", "--activations")
    assert code == 0, err
    found = {number: value for name, value, number in scalars if name == "layer 0/kurtosis"}
    assert sorted(found) == [0, 1]
    assert all(1 < value < 32 for value in found.values())
    assert _weights("g.ckpt") == _weights("plain.ckpt")


def test_a_benchmark_task_trains_on_its_training_showers(train, monkeypatch):
    import supa_datasets.benchmark_tasks.task as module

    small = dict(module.definitions()["standard-points"])
    small["ranges"] = {**small["ranges"], "train": [0, 20], "validation": [50, 60]}
    monkeypatch.setattr(module, "definitions", lambda: {"standard-points": small})
    code, _, err = train("--task", "standard-points", *SHORT, "--epochs", 1, "-o", "g.ckpt")
    assert code == 0, err
    assert "mamba2: 20 showers to train on of standard-points, 10 to validate on" in err
    stored = GeneratorCheckpoint.load("g.ckpt")
    assert stored.shower_configs == [supa.preset("standard")]
    assert stored.coding.most_hits == supa.simulate(20, seed=small["seed"]).num_hits.max()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--seed", 1], "seed is 0 in the file, but 1 in this command"),
        (["--n-layer", 2], "n_layer is 1 in the file, but 2 in this command"),
        (["more.h5"], "the number of showers is"),
    ],
)
def test_another_training_run_is_not_resumed(train, options, message):
    supa_datasets.save(supa.simulate(40, SHALLOW, seed=2), "more.h5")
    assert train(*FILES, "--epochs", 1, "--quiet", "-o", "g.ckpt") == (0, "", "")
    before = Path("g.ckpt").read_bytes()
    code, _, err = train(*FILES, "--epochs", 1, *options, "--resume", "-o", "g.ckpt")
    assert code == 2
    assert f"g.ckpt belongs to another training run: {message}" in err
    assert Path("g.ckpt").read_bytes() == before


MISTAKES = {
    "nothing": ([], "Give the showers to train on: the files DATA, --task, or --stream with a preset or a config"),
    "both": (["g.h5", "--stream", "standard"], "the files DATA and --stream cannot be used together"),
    "task and file": (["g.h5", "--task", "standard-points"], "the files DATA and --task cannot be used together"),
    "task and stream": (["--stream", "standard", "--task", "standard-points"], "--task and --stream cannot be used"),
    "preset": (["g.h5", "--preset", "smoll"], "Did you mean 'small'?"),
    "task": (["--task", "standard-point"], "Did you mean 'standard-points'?"),
    "prediction": (
        ["--task", "energy-regression"],
        "energy-regression is a task of regression, but a generator needs a task of generation: standard-points",
    ),
    "model": (["g.h5", "--model", "mamba3"], "model: 'mamba3' was given, but it must be 'mamba', 'mamba2'"),
    "block": (["g.h5", "--block", "post-norm"], "block: 'post-norm' was given, but it must be 'pre-norm' or"),
    "width": (["g.h5", "--d-model", "40"], "d_model: 40 was given, but it must be a multiple of 32"),
    "ema": (["g.h5", "--ema", "1"], "ema: 1.0 was given, but it must be a number from 0 to below 1"),
    "setting": (["g.h5", "--config", "wide.toml"], "wide.toml: 'width' is not a setting of GeneratorTrainingConfig"),
    "sizes": (["g.h5", "--config", "sizes.toml"], "generator: 'many' was given, but it must be GeneratorConfig(...)"),
    "size": (["g.h5", "--config", "size.toml"], "generator: 'wide' is not a setting of GeneratorConfig"),
    "condition": (["g.h5", "--field", "split"], "fields: 'split' was given, but it must be 'preset', or a"),
    "no leak": (["foreign.h5"], "The leaked energy is unknown, but a generator needs it"),
    "no hits": (["empty.h5"], "The showers have no hits, so nothing can be learned from them"),
    "other layers": (["g.h5", "other.h5"], "have different readout layers, which a generator must distinguish"),
    "few to compare": (["g.h5", "--compare-every", "1"], "needs at least 50 validation showers of each config"),
    "activations": (["g.h5", "--activations"], "--activations needs --tensorboard"),
    "folder": (["g.h5", "-o", "none/g.ckpt"], "the folder none does not exist"),
}


@pytest.mark.parametrize(("options", "message"), MISTAKES.values(), ids=MISTAKES.keys())
def test_a_mistake_is_one_clear_error(train, options, message):
    Path("wide.toml").write_text("width = 3\n")
    Path("sizes.toml").write_text('generator = "many"\n')
    Path("size.toml").write_text("[generator]\nwide = 3\n")
    files = {"foreign.h5": 1, "empty.h5": 0, "other.h5": None}
    for name in files.keys() & set(options):
        supa_datasets.save(_unusual(files[name]), name)
    code, out, err = train("-o", "g.ckpt", "--device", "cpu", *options)
    assert (code, out) == (2, ""), err
    assert message in " ".join(err.split())
    assert "Traceback" not in err
    assert not Path("g.ckpt").exists()


def _unusual(hits):
    """Return showers of another config, without a known leak, or without hits."""
    if hits is None:
        return supa.simulate(40, "standard", seed=1)
    number = 40
    leak = {} if hits else {"leaked_energy": [2.0] * number}
    return supa.from_hits(
        SHALLOW,
        offset=[hits * k for k in range(number + 1)],
        incident_energy=[2.0] * number,
        **{name: [1.0] * hits * number for name in ("x", "y", "energy")},
        slice=[7] * hits * number,
        **leak,
    )


def test_a_checkpoint_of_an_encoder_is_not_resumed(train, monkeypatch):
    Path("g.ckpt").write_bytes(b"precious")
    code, _, err = train(*FILES, "-o", "g.ckpt")
    assert (code, "g.ckpt exists; choose another name" in err) == (2, True)
    code, _, err = train(*FILES, "-o", "g.ckpt", "--resume")
    assert (code, "damaged or not a checkpoint of `supa mamba train-generator`" in err) == (1, True)
    assert Path("g.ckpt").read_bytes() == b"precious"


def test_names_of_options_are_those_of_the_settings():
    options = {option.name: option for option in command.command.params}
    assert options["preset"].type.choices == tuple(GENERATOR_PRESETS)
    assert options["preset"].default == "small"
    assert set(options) >= {
        "model",
        "d_model",
        "n_layer",
        "d_state",
        "block",
        "ema",
        "warmup",
        "clip",
        "precision",
        "fields",
    }
    assert [benchmark_task(name).kind for name in choices.generation_tasks()] == ["generation"] * 5
    for name in choices.sequence_models():
        assert GeneratorConfig(model=name, n_layer=4).model == name


def test_help_loads_nothing_heavy():
    code = (
        "import supa_cli.main, supa_cli.mamba.train_generator, sys\n"
        "print(*[m for m in ('torch', 'numpy', 'rich', 'h5py') if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == ""
