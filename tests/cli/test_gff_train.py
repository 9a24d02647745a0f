"""``supa gff train`` and ``evaluate``: output, checkpoints, exact resuming and errors."""

import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
pytest.importorskip("torch_geometric", reason="PyTorch Geometric is not installed")

from benchmark_files import write_citation_full, write_planetoid, write_tu, write_webkb  # noqa: E402

from supa_cli import main  # noqa: E402
from supa_datasets import load_benchmark  # noqa: E402
from supa_gff.checkpoint import Checkpoint  # noqa: E402
from supa_gff.training.graph_task import GraphTask  # noqa: E402
from supa_gff.updates.rule import UpdateRule  # noqa: E402

SHORT = ["--epochs", "3", "--layers", "2", "--hidden-channels", "8", "--batch-size", "16", "--device", "cpu"]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Raw files of small artificial benchmarks."""
    folder = tmp_path_factory.mktemp("raw")
    write_tu(folder, "MUTAG")
    write_tu(folder, "IMDB-MULTI", classes=3, labels=False)
    write_tu(folder, "PROTEINS", classes=1)
    write_tu(folder, "BZR", graphs=10)
    write_planetoid(folder)
    write_citation_full(folder)
    write_citation_full(folder, "citeseer", labels=np.arange(60) % 3 - 1)
    write_webkb(folder)
    return folder


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch, tmp_path_factory):
    """The working folder. All tests share the cache of unpacked benchmarks."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "cache"))
    yield tmp_path
    torch.set_num_threads(threads)


@pytest.fixture
def supa(root, run_supa):
    """Run the command in this process on a folder of benchmarks."""

    def of(raw):
        def run(*arguments):
            return run_supa("gff", *arguments, "--root", raw)

        run.of = of
        return run

    return of(root)


def _weights(name="m.ckpt"):
    return {key: value.numpy().tobytes() for key, value in Checkpoint.load(name).model().state_dict().items()}


def _predictions(checkpoint, benchmark, members):
    """Predict graph by graph."""
    network = checkpoint.model()
    predicted = []
    for k in members.tolist():
        graph = benchmark.graphs[k]
        predicted.append(int(network.predict(graph)[0]))
    return predicted


def _most_frequent(benchmark, checkpoint):
    target = [int(benchmark.graphs[k].y) for k in checkpoint.split.train.tolist()]
    return max(sorted(set(target)), key=target.count)


@pytest.mark.parametrize("method", ["best", "gff"])
def test_training_is_reported_saved_and_evaluated(supa, root, method):
    code, out, err = supa("train", "--dataset", "MUTAG", "--method", method, *SHORT, "-o", "m.ckpt")
    assert code == 0
    assert "MUTAG: 40 graphs" in err
    assert re.search(r"fold 0 of 10: 3\d for training, \d for validation, 4 for testing; " + method, err)
    assert re.search(r"layer1 +epoch 2 +loss [\d.]+ +positive [-\d.]+ +negative [-\d.]+ +accuracy [\d.]+ %", err)
    checkpoint = Checkpoint.load("m.ckpt")
    assert checkpoint.finished
    assert (checkpoint.method.layers, checkpoint.method.hidden_channels, checkpoint.method.epochs) == (2, 8, 3)
    benchmark = load_benchmark("MUTAG", root=root)
    code, text, _ = supa("evaluate", "m.ckpt", "--json")
    facts = json.loads(text)
    assert (code, facts["dataset"], facts["split"], facts["finished"]) == (0, "MUTAG", "fold 0 of 10", True)
    for part, members in (("train", checkpoint.split.train), ("test", checkpoint.split.test)):
        target = [int(benchmark.graphs[k].y) for k in members.tolist()]
        predicted = _predictions(checkpoint, benchmark, members)
        right = sum(a == b for a, b in zip(target, predicted, strict=True))
        assert facts["network"][part] == pytest.approx(right / len(target))
        counts = [[0, 0], [0, 0]]
        for true, made in zip(target, predicted, strict=True):
            counts[true][made] += 1
        assert facts["confusion"][part] == counts
        assert facts["majority"][part] == pytest.approx(
            target.count(_most_frequent(benchmark, checkpoint)) / len(target)
        )
    shown = " ".join(out.split())
    for name, values in (("all layers together", facts["network"]), ("majority class", facts["majority"])):
        assert f"{name} " + " ".join(f"{100 * value:.2f} %" for value in values.values()) in shown
    for layer in range(2):
        assert (
            f"layer {layer} " + " ".join(f"{100 * facts['layers'][p][layer]:.2f} %" for p in facts["layers"]) in shown
        )
    code, text, _ = supa("evaluate", "m.ckpt")
    assert out.split("graphs/s\n")[1] in text
    assert "test: true class in rows, predicted class in columns" in text


def test_a_learnable_benchmark_is_learnt(supa):
    code, _, err = supa("train", "--dataset", "MUTAG", *SHORT, "--epochs", "40", "-o", "m.ckpt")
    assert code == 0, err
    assert json.loads(supa("evaluate", "m.ckpt", "--json")[1])["network"]["train"] > 0.9


@pytest.mark.parametrize("conv", ["gcn", "gat", "pna", "sage"])
def test_benchmarks_with_isolated_nodes_and_without_features_train(supa, conv):
    """Degrees replace missing features; an isolated node receives only its own message."""
    code, _, err = supa("train", "--dataset", "IMDB-MULTI", "--conv", conv, *SHORT, "-o", "m.ckpt")
    assert code == 0, err
    assert "64 features (degrees)" in err
    assert all(torch.isfinite(value).all() for value in Checkpoint.load("m.ckpt").model().state_dict().values())


def test_nodes_are_split_by_the_masks_of_the_benchmark(supa):
    code, _, err = supa("train", "--dataset", "Cora", "--method", "mono-forward", *SHORT, "-o", "m.ckpt")
    assert code == 0, err
    assert "the split of the dataset: 12 for training, 500 for validation, 20 for testing" in err
    split = Checkpoint.load("m.ckpt").split
    assert (split.train.tolist(), split.valid[[0, -1]].tolist()) == (list(range(12)), [12, 511])
    assert split.test.tolist() == list(range(552, 572))


def test_nodes_are_split_by_a_split_of_the_benchmark(supa):
    code, _, err = supa("train", "--dataset", "Texas", *SHORT, "--fold", "4", "-o", "m.ckpt")
    assert code == 0, err
    assert "split 4 of the dataset: 10 for training, 10 for validation, 10 for testing" in err
    assert Checkpoint.load("m.ckpt").split.train.tolist() == list(range(2, 30, 3))


def test_nodes_without_masks_are_split_by_the_seed(supa, root):
    splits = []
    for seed in (1, 2):
        code, _, err = supa("train", "--dataset", "CitationFull-Cora_ML", *SHORT, "--seed", seed, "-o", f"{seed}.ckpt")
        assert code == 0, err
        assert f"random 60/20/20 split with seed {seed}: 36 for training, 12 for validation, 12 for testing" in err
        splits.append(Checkpoint.load(f"{seed}.ckpt").split)
    assert splits[0].test.tolist() != splits[1].test.tolist()
    target = load_benchmark("CitationFull-Cora_ML", root=root).graphs[0].y
    for part in (splits[0].train, splits[0].valid, splits[0].test):
        assert torch.bincount(target[part]).tolist() == [len(part) // 3] * 3


def test_seed_and_fold_determine_the_training(supa):
    for name, options in {"a": [], "b": [], "c": ["--seed", 1], "d": ["--fold", 1]}.items():
        assert supa("train", "--dataset", "MUTAG", *SHORT, *options, "--quiet", "-o", f"{name}.ckpt") == (0, "", "")
    assert _weights("a.ckpt") == _weights("b.ckpt")
    assert len({_weights(f"{name}.ckpt")["layers.0.conv.nn.0.weight"] for name in "acd"}) == 3
    assert Checkpoint.load("a.ckpt").split.test.tolist() == Checkpoint.load("c.ckpt").split.test.tolist()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize(("method", "step"), [("gff", 9), ("best", 3)])
def test_an_interrupted_epoch_resumes_to_identical_weights(supa, monkeypatch, number, method, step):
    arguments = ["train", "--dataset", "MUTAG", "--method", method, *SHORT]
    assert supa(*arguments, "-o", "whole.ckpt")[0] == 0
    steps, update = 0, UpdateRule.update_layer

    def interrupted(*given, **named):
        nonlocal steps
        steps += 1
        if steps == step:
            os.kill(os.getpid(), number)
        return update(*given, **named)

    monkeypatch.setattr(UpdateRule, "update_layer", interrupted)
    code, out, err = supa(*arguments, "-o", "m.ckpt")
    assert (code, out) == (130, "")
    # An epoch has two batches; with `best` each updates two layers.
    epochs, extent = {"gff": (4, "4 epochs and 1 step"), "best": (0, "0 epochs and 2 steps")}[method]
    assert f"m.ckpt contains {extent}; resume with the same command and --resume." in err
    stored = Checkpoint.load("m.ckpt")
    assert (stored.finished, len(stored.training["state"]["history"])) == (False, epochs)
    assert "interrupted after" in supa("evaluate", "m.ckpt")[1]
    code, _, err = supa(*arguments, "-o", "m.ckpt", "--resume")
    assert code == 0
    assert f"m.ckpt: resuming after {extent}" in err
    assert _weights() == _weights("whole.ckpt")


@pytest.mark.slow
def test_killed_training_resumes_to_identical_weights(supa, root, folder):
    options = ["--dataset", "MUTAG", "--method", "best", *SHORT, "--epochs", "60"]
    assert supa("train", *options, "-o", "whole.ckpt")[0] == 0
    command = [sys.executable, "-m", "supa_cli.main", "gff", "train", *options, "--root", str(root), "-o", "m.ckpt"]
    with subprocess.Popen(
        command, env={**os.environ, "OMP_NUM_THREADS": "1"}, stderr=subprocess.PIPE, text=True
    ) as process:
        while "positive" not in process.stderr.readline():
            pass
        process.kill()
        assert process.wait() == -signal.SIGKILL
    assert not Checkpoint.load("m.ckpt").finished
    code, _, err = supa("train", *options, "-o", "m.ckpt", "--resume")
    assert code == 0, err
    assert _weights() == _weights("whole.ckpt")
    assert {path.name for path in folder.iterdir()} <= {"m.ckpt", "m.ckpt.new", "whole.ckpt"}


def test_resuming_finished_training_only_prints_its_result(supa, monkeypatch):
    arguments = ["train", "--dataset", "MUTAG", *SHORT, "-o", "m.ckpt"]
    first = supa(*arguments)[1]
    monkeypatch.setattr(GraphTask, "update", None)
    code, out, err = supa(*arguments, "--resume")
    assert code == 0
    assert "m.ckpt: finished after 3 epochs" in err
    assert out.split("graphs/s\n")[1] == first.split("graphs/s\n")[1]


def test_resume_without_a_file_starts_training(supa):
    assert supa("train", "--dataset", "MUTAG", *SHORT, "--resume", "--quiet", "-o", "m.ckpt") == (0, "", "")
    assert Checkpoint.load("m.ckpt").finished


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--seed", 1], "the seed is 0 in the file, but 1 in this command"),
        (["--fold", 1], "the split is fold 0 of 10 in the file, but fold 1 of 10 in this command"),
        (["--hidden-channels", 16], "hidden_channels is 8 in the file, but 16 in this command"),
        (["--method", "cafo"], "score is {'part': 'Head', 'kind': 'mlp'"),
        (["--dataset", "BZR", "--folds", 5], "the benchmark is MUTAG in the file, but BZR in this command"),
    ],
)
def test_another_training_run_is_not_resumed(supa, options, message):
    assert supa("train", "--dataset", "MUTAG", *SHORT, "--quiet", "-o", "m.ckpt")[0] == 0
    before = Path("m.ckpt").read_bytes()
    code, _, err = supa("train", "--dataset", "MUTAG", *SHORT, *options, "--resume", "-o", "m.ckpt")
    assert code == 2
    assert f"m.ckpt belongs to another training run: {message}" in err
    assert Path("m.ckpt").read_bytes() == before


def test_an_existing_checkpoint_is_not_overwritten(supa):
    Path("m.ckpt").write_text("precious")
    code, _, err = supa("train", "--dataset", "MUTAG", *SHORT, "-o", "m.ckpt")
    assert code == 2
    assert "m.ckpt exists; choose another name, resume it (--resume), or delete it" in err
    code, _, err = supa("train", "--dataset", "MUTAG", *SHORT, "-o", "m.ckpt", "--resume")
    assert (code, err) == (1, "Error: m.ckpt: it is damaged or not a checkpoint of `supa gff train`.\n")
    assert Path("m.ckpt").read_text() == "precious"


MISTAKES = {
    "path": (["--dataset", "."], 2, "'.' is a path, but it must be the name of a graph benchmark, such as MUTAG."),
    "set": (["--dataset", "MUTAGG"], 2, "'MUTAGG' was given, but a graph benchmark is one of AIDS"),
    "method": (["--dataset", "MUTAG", "--method", "magic"], 2, "'magic' was given, but a method is one of gff"),
    "level": (["--dataset", "MUTAG", "--method", "single-forward"], 2, "single-forward does not support graph level"),
    "link": (["--dataset", "Cora", "--method", "link-goodness"], 2, "link-goodness does not support node level"),
    "conv": (["--dataset", "MUTAG", "--conv", "magic"], 2, "'magic' was given, but a convolution is one of gcn"),
    "heads": (
        ["--dataset", "MUTAG", "--conv", "gat", "--hidden-channels", "6"],
        2,
        "must be a multiple of 4 for gat",
    ),
    "groups": (
        ["--dataset", "MUTAG", "--method", "deeper-forward", "--hidden-channels", "1"],
        2,
        "must be at least 2, the number of classes",
    ),
    "rate": (["--dataset", "MUTAG", "--learning-rate", "0"], 2, "learning_rate: 0.0 was given"),
    "layers": (["--dataset", "MUTAG", "--layers", "0"], 2, "'0' was given, but it must be a whole number"),
    "fold": (["--dataset", "MUTAG", "--fold", "10"], 2, "fold: 10 was given"),
    "folds": (["--dataset", "MUTAG", "--folds", "41"], 2, "folds must be at most the number of items, 40, got 41"),
    "empty": (["--dataset", "BZR", "--folds", "10", "--fold", "5"], 2, "leaves nothing to validate on"),
    "one class": (["--dataset", "PROTEINS"], 2, "would have a single class"),
    "nodes' fold": (["--dataset", "Cora", "--fold", "1"], 2, "has only one split of its nodes, got fold 1"),
    "own fold": (["--dataset", "Texas", "--fold", "10", "--folds", "12"], 2, "(10 splits, counted from 0)"),
    "labels": (["--dataset", "CitationFull-CiteSeer"], 1, "but they range from -1 to 1"),
    "files": (["--dataset", "NCI1"], 1, "holds neither NCI1.zip nor NCI1/raw/NCI1_A.txt"),
    "folder": (["--dataset", "MUTAG", "-o", "none/m.ckpt"], 2, "the folder none does not exist"),
}


@pytest.mark.parametrize(("options", "status", "message"), MISTAKES.values(), ids=MISTAKES.keys())
def test_a_mistake_is_one_clear_error(supa, folder, options, status, message):
    code, out, err = supa("train", "-o", "m.ckpt", *SHORT, *options)
    assert (code, out) == (status, "")
    assert message in " ".join(err.split())
    assert "Traceback" not in err
    assert not list(folder.iterdir())


def test_without_a_network_the_error_suggests_root(monkeypatch, capsys):
    def no_network(*_arguments, **_options):
        raise OSError("no route to host")

    monkeypatch.setattr("torch_geometric.datasets.tu_dataset.fs.cp", no_network)
    monkeypatch.setattr(sys, "argv", ["supa", "gff", "train", "--dataset", "ENZYMES", "-o", "m.ckpt"])
    with pytest.raises(SystemExit) as stop:
        main.main()
    err = capsys.readouterr().err
    assert stop.value.code == 1
    assert "ENZYMES: the set cannot be downloaded or read (no route to host)" in err
    assert "--root" in err


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_missing_device_is_a_clear_error(supa):
    code, _, err = supa("train", "--dataset", "MUTAG", *SHORT, "--device", "cuda", "-o", "m.ckpt")
    assert code == 2
    assert "PyTorch finds no CUDA device; use cpu" in err


def test_evaluate_reports_unsuitable_files(supa, tmp_path_factory, monkeypatch):
    assert "there is no such file" in supa("evaluate", "none.ckpt")[2]
    assert supa("train", "--dataset", "MUTAG", *SHORT, "--quiet", "-o", "m.ckpt")[0] == 0
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("other")))
    write_tu(tmp_path_factory.getbasetemp() / "other raw", "MUTAG", graphs=20, classes=3)
    supa = supa.of(tmp_path_factory.getbasetemp() / "other raw")
    code, _, err = supa("evaluate", "m.ckpt")
    assert code == 1
    assert "m.ckpt: the network was trained on other data, with 3 features and 2 classes" in err
    code, _, err = supa("train", "--dataset", "MUTAG", *SHORT, "--resume", "-o", "m.ckpt")
    assert code == 2
    assert (
        "m.ckpt belongs to another training run: the number of classes is 2 in the file, but 3 in this command" in err
    )
    checkpoint = Checkpoint.load("m.ckpt")
    Checkpoint(**{**vars(checkpoint), "benchmark": None}).save("own.ckpt")
    code, _, err = supa("evaluate", "own.ckpt")
    assert code == 2
    assert "it was trained on custom graphs" in err


class _Writer:
    """Records what is written for TensorBoard."""

    made = ()

    def __init__(self, folder, purge_step=None):
        self.folder, self.purge_step, self.scalars, self.closed = folder, purge_step, [], False
        _Writer.made = (*_Writer.made, self)

    def add_scalar(self, name, value, step):
        self.scalars.append((name, value, step))

    def close(self):
        self.closed = True


@pytest.mark.parametrize("method", ["gff", "best", "backprop"])
def test_tensorboard_receives_every_epoch_once(supa, monkeypatch, method):
    module = types.ModuleType("torch.utils.tensorboard")
    module.SummaryWriter = _Writer
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", module)
    monkeypatch.setattr(_Writer, "made", ())
    arguments = ["train", "--dataset", "MUTAG", "--method", method, *SHORT, "--tensorboard", "board", "-o", "m.ckpt"]
    assert supa(*arguments, "--quiet") == (0, "", "")
    (writer,) = _Writer.made
    assert (writer.folder, writer.purge_step, writer.closed) == ("board", None, True)
    history = Checkpoint.load("m.ckpt").training["state"]["history"]
    for step, epoch in enumerate(history):
        for kind in ("train", "valid"):
            for part, figures in epoch[kind].items():
                for name, value in figures.items():
                    assert writer.scalars.count((f"{part}/{kind}/{name}", value, step)) == 1
        part = f"layer{epoch['stage']}" if method == "gff" else "network"
        assert (f"{part}/valid/accuracy", epoch["score"], step) in writer.scalars
    assert {step for _, _, step in writer.scalars} == set(range(len(history)))
    assert supa(*arguments, "--resume", "--quiet") == (0, "", "")
    assert (_Writer.made[1].purge_step, _Writer.made[1].scalars, _Writer.made[1].closed) == (len(history), [], True)


def test_a_missing_tensorboard_is_a_clear_error(supa, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    code, _, err = supa("train", "--dataset", "MUTAG", *SHORT, "--tensorboard", "board", "-o", "m.ckpt")
    assert code == 2
    assert "--tensorboard: TensorBoard files need the package tensorboard: pip install tensorboard" in " ".join(
        err.split()
    )
    assert not Path("m.ckpt").exists()


@pytest.mark.skipif(importlib.util.find_spec("tensorboard") is None, reason="TensorBoard is not installed")
def test_tensorboard_itself_reads_the_events(supa):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    assert supa("train", "--dataset", "MUTAG", *SHORT, "--tensorboard", "board", "--quiet", "-o", "m.ckpt")[0] == 0
    events = EventAccumulator("board")
    events.Reload()
    assert [event.step for event in events.Scalars("layer1/train/loss")] == [0, 1, 2]


def test_a_terminal_shows_a_table_of_layers(supa, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    code, _, err = supa("train", "--dataset", "MUTAG", *SHORT, "-o", "m.ckpt")
    assert code == 0
    last = [line for line in re.sub(r"\x1b\[[\d;?]*[A-Za-z]", "", err).splitlines() if "layer1" in line][-1]
    assert re.fullmatch(r" *layer1 +2 +[\d.]+ +[-\d.]+ +[-\d.]+ +[\d.]+ % +[\d.]+ % *", last)


def test_help_loads_nothing_heavy():
    code = (
        "import supa_cli.main, supa_cli.gff, supa_cli.gff.train, supa_cli.gff.evaluate, sys\n"
        "print(*[m for m in ('torch', 'numpy', 'rich', 'h5py') if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == ""
