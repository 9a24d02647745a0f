"""``supa gff train --data`` and ``supa gff evaluate --data``: own graphs, kinds of targets, resuming and mistakes."""

import json
import os
import re
import signal
import sys
from functools import partial
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
pytest.importorskip("torch_geometric", reason="PyTorch Geometric is not installed")

from small_graphs import two_communities  # noqa: E402

from supa_gff import Checkpoint, GraphSet, load_graphs  # noqa: E402
from supa_gff.updates.rule import UpdateRule  # noqa: E402

SHORT = ["--epochs", "3", "--layers", "2", "--hidden-channels", "8", "--batch-size", "16", "--device", "cpu"]
MODULE = """
import torch
from torch_geometric.data import Data


def graphs(kind, count, seed=0):
    generator = torch.Generator().manual_seed(seed)
    made = []
    for k in range(count):
        nodes = torch.arange(5 + k % 4)
        x = torch.rand(len(nodes), 3, generator=generator)
        total = x.sum(0, keepdim=True)
        y = {"values": 100 * total[0, :1], "pair": total[:, :2], "labels": (total > 2.5).long(),
             "classes": (total[0, :1] > 3.5).long(), "indicators": (total > 2.5).float()}[kind]
        edges = torch.stack([nodes, (nodes + 1) % len(nodes)])
        made.append(Data(x=x, edge_index=edges, y=y))
    return made


def values():
    return graphs("values", 40)


def new_values():
    return graphs("values", 12, seed=1)


def pair():
    return graphs("pair", 40)


def labels():
    return graphs("labels", 40)


def classes():
    return graphs("classes", 40)


def one_new_class():
    return [graph for graph in graphs("classes", 30, seed=1) if int(graph.y) == 1]


def indicators():
    return graphs("indicators", 40)


def bonds():
    made = graphs("classes", 40)
    for graph in made:
        graph.edge_attr = torch.rand(graph.num_edges, 2)
    return made


def three():
    return graphs("values", 3)
"""


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """The working folder, with a module of graphs."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "mine", raising=False)
    Path("mine.py").write_text(MODULE)
    yield tmp_path
    torch.set_num_threads(threads)
    sys.modules.pop("mine", None)


@pytest.fixture
def supa(run_supa):
    return partial(run_supa, "gff")


@pytest.mark.parametrize(
    ("name", "kind", "metric", "title", "constant"),
    [
        ("values", "regression", "rms_error", "RMS error", "mean of the targets"),
        ("pair", "regression", "rms_error", "RMS error", "mean of the targets"),
        ("labels", "multi-label", "auc", "AUC", "equal scores"),
        ("classes", "classification", "accuracy", "accuracy", "majority class"),
    ],
)
@pytest.mark.parametrize("method", ["best", "cafo"])
def test_mine_are_trained_on_and_evaluated(supa, name, kind, metric, title, constant, method):
    data = f"mine:{name}"
    code, out, err = supa("train", "--data", data, "--method", method, *SHORT, "-o", "m.ckpt")
    assert code == 0, err
    assert f"{data}: <GraphSet: 40 graphs, " in err
    assert f"for {kind}\nfold 0 of 10: 3" in err
    checkpoint = Checkpoint.load("m.ckpt")
    assert (checkpoint.source, checkpoint.method.target_kind) == (data, kind)
    code, printed, err = supa("evaluate", "m.ckpt", "--data", data)
    assert (code, err) == (0, "")
    assert f"{data}, fold 0 of 10; gin, 2 layers of 8, seed 0" in printed
    table = printed[printed.index(title) :].splitlines()
    assert re.fullmatch(rf"{title} +train +valid +test", table[0])
    assert [re.split("  +", line)[0] for line in table[2:6]] == ["layer 0", "layer 1", "all layers together", constant]
    assert "\n".join(table[:6]) in out
    facts = json.loads(supa("evaluate", "m.ckpt", "--data", data, "--json")[1])
    assert (facts["target_kind"], facts["metric"], facts["dataset"]) == (kind, metric, data)
    assert facts["sizes"] == {"train": len(checkpoint.split.train), "valid": len(checkpoint.split.valid), "test": 4}
    network, graphs = checkpoint.model(), GraphSet.of(load_graphs(data))
    batch = graphs.batch(checkpoint.split.test)
    if kind == "regression":
        errors = (network(batch) - batch.target.view(4, -1)).double()
        assert facts["outputs"]["test"]["mae"] == pytest.approx(errors.abs().mean(0).tolist())
        assert facts["network"]["test"] == pytest.approx(float(errors.square().mean(0).sqrt().mean()))
    elif kind == "classification":
        assert facts["network"]["test"] == float((network.predict(batch) == batch.target).double().mean())
    assert (facts["confusion"]["test"] is None) == (kind != "classification")


def test_files_and_new_graphs(supa):
    sys.path.insert(0, str(Path.cwd()))
    try:
        import mine
    finally:
        sys.path.pop(0)
    torch.save(mine.values(), "a.pt")
    torch.save(mine.new_values(), "b.pt")
    assert supa("train", "--data", "a.pt", *SHORT, "--quiet", "-o", "m.ckpt") == (0, "", "")
    Path("a.pt").rename("moved.pt")
    assert "moved.pt, fold 0 of 10; gin" in supa("evaluate", "m.ckpt", "--data", "moved.pt")[1]
    code, out, _ = supa("evaluate", "m.ckpt", "--data", "b.pt")
    assert code == 0
    assert "b.pt, not the graphs of the training: <GraphSet: 12 graphs, " in out
    assert re.search(r"^RMS error +data$", out, re.MULTILINE)
    facts = json.loads(supa("evaluate", "m.ckpt", "--data", "b.pt", "--json")[1])
    assert (facts["split"], facts["sizes"]) == (None, {"data": 12})
    batch = GraphSet.of(mine.new_values()).batch(torch.arange(12))
    error = Checkpoint.load("m.ckpt").model().predict(batch) - batch.target
    assert facts["network"]["data"] == pytest.approx(float(error.square().mean().sqrt()))


def test_new_graphs_may_lack_classes(supa):
    assert supa("train", "--data", "mine:classes", *SHORT, "--quiet", "-o", "m.ckpt")[0] == 0
    code, out, err = supa("evaluate", "m.ckpt", "--data", "mine:one_new_class")
    assert code == 0, err
    assert "data: true class in rows, predicted class in columns" in out


@pytest.mark.parametrize("method", ["best", "single-forward", "gff"])
def test_nodes_of_one_graph(supa, method):
    data = two_communities()
    masks = {name: torch.arange(80) // 2 % 4 == k for k, name in enumerate(("train_mask", "val_mask", "test_mask"))}
    torch.save(data.update(masks), "nodes.pt")
    arguments = ["train", "--data", "nodes.pt", "--level", "node", "--method", method, *SHORT]
    code, _, err = supa(*arguments, "-o", "m.ckpt")
    assert code == 0, err
    assert "the split of the dataset: 20 for training, 20 for validation, 20 for testing" in err
    assert supa("evaluate", "m.ckpt", "--data", "nodes.pt")[0] == 0
    torch.save(two_communities(seed=1), "other.pt")
    code, out, err = supa("evaluate", "m.ckpt", "--data", "other.pt")
    if method == "single-forward":
        assert (code, out) == (1, "")
        assert "it predicts nodes from the known labels of other nodes in the graph of the training" in err
    else:
        assert code == 0
    torch.save(data.update({"y": data.x[:, 0], "train_mask": None}), "values.pt")
    code, _, err = supa("train", "--data", "values.pt", "--level", "node", *SHORT, "-o", "v.ckpt")
    assert code == 0, err
    assert "random 60/20/20 split with seed 0: 48 for training, 16 for validation, 16 for testing" in err


@pytest.mark.parametrize("name", ["values", "labels"])
def test_interrupted_training_resumes_to_identical_weights(supa, monkeypatch, name):
    arguments = ["train", "--data", f"mine:{name}", *SHORT]
    assert supa(*arguments, "-o", "whole.ckpt")[0] == 0
    steps, update = 0, UpdateRule.update_layer

    def interrupted(*given, **named):
        nonlocal steps
        steps += 1
        if steps == 5:
            os.kill(os.getpid(), signal.SIGINT)
        return update(*given, **named)

    monkeypatch.setattr(UpdateRule, "update_layer", interrupted)
    assert supa(*arguments, "-o", "m.ckpt")[0] == 130
    assert supa(*arguments, "--resume", "--quiet", "-o", "m.ckpt") == (0, "", "")
    whole, resumed = (Checkpoint.load(f"{part}.ckpt").model().state_dict() for part in ("whole", "m"))
    assert all(torch.equal(value, resumed[key]) for key, value in whole.items())
    Path("mine.py").write_text(MODULE.replace("2.5).long()", "2.4).long()").replace("100 *", "101 *"))
    sys.modules.pop("mine")
    code, _, err = supa(*arguments, "--resume", "-o", "m.ckpt")
    assert code == 2
    assert "m.ckpt belongs to another training run: the checksum of the data is " in err


def test_edge_features_are_used_if_asked_for(supa):
    torch.manual_seed(0)
    torch.save(load_graphs("mine:bonds"), "bonds.pt")
    arguments = ["train", "--data", "bonds.pt", *SHORT]
    code, _, err = supa(*arguments, "--edge-features", "-o", "m.ckpt")
    assert code == 0, err
    assert "3 features, 2 edge features, 2 outputs per graph" in err
    checkpoint = Checkpoint.load("m.ckpt")
    assert (checkpoint.edge_channels, type(checkpoint.model().layer(0).conv).__name__) == (2, "GINEConv")
    code, out, err = supa("evaluate", "m.ckpt", "--data", "bonds.pt")
    assert code == 0, err
    assert "bonds.pt, fold 0 of 10; gin with edge features, 2 layers of 8" in out
    assert "no features of edges, edge_attr; add them" in supa("evaluate", "m.ckpt", "--data", "mine:classes")[2]
    code, _, err = supa(*arguments, "--resume", "-o", "m.ckpt")
    assert code == 2
    assert "m.ckpt belongs to another training run: the checksum of the data is " in err
    assert supa(*arguments, "--quiet", "-o", "plain.ckpt") == (0, "", "")
    assert Checkpoint.load("plain.ckpt").edge_channels == 0


def test_class_weights_are_stored_and_printed(supa):
    data = GraphSet.of(load_graphs("mine:classes"))
    for name, given in {"a": "balanced", "b": "1,5"}.items():
        arguments = ["--data", "mine:classes", "--class-weights", given, *SHORT, "-o", f"{name}.ckpt"]
        code, _, err = supa("train", *arguments)
        assert code == 0, err
        assert "\nclass weights " in err
    balanced, given = (Checkpoint.load(f"{name}.ckpt") for name in "ab")
    assert balanced.method.class_weights == data.balanced_weights(balanced.split.train)
    assert given.method.class_weights == (1.0, 5.0)


MISTAKES = {
    "no data": ([], 2, "Give the graphs to train on: --dataset, --data or --stream."),
    "two data": (["--data", "mine:values", "--dataset", "MUTAG"], 2, "--dataset and --data cannot be used together"),
    "stream": (["--data", "mine:values", "--stream", "critical"], 2, "--data and --stream cannot be used together"),
    "root": (["--data", "mine:values", "--root", "."], 2, "--root needs --dataset."),
    "level": (["--dataset", "MUTAG", "--level", "node"], 2, "--level needs --data."),
    "kind": (["--dataset", "MUTAG", "--target-kind", "regression"], 2, "--target-kind needs --data."),
    "empty": (["--data", ""], 2, "an empty name was given"),
    "no file": (["--data", "a.pt"], 1, "Error: a.pt: there is no such file."),
    "program": (["--data", "mine.py"], 1, "mine.py: it is a Python program. Name a function in it"),
    "function": (["--data", "mine:fitted"], 1, "has no function fitted; it has graphs, values"),
    "module": (["--data", "mime:values"], 1, "there is no module mime in the current folder"),
    "arguments": (["--data", "mine:graphs"], 1, "graphs must be callable without arguments, but missing a required"),
    "0 or 1": (["--data", "mine:indicators"], 1, "mine:indicators: The 3 targets of each unit are floats, but"),
    "nodes": (["--data", "mine:values", "--level", "node"], 1, "mine:values: Graph 0 must have 5 targets at"),
    "few": (["--data", "mine:three"], 2, "folds must be at most the number of items, 3, got 10."),
    "method": (["--data", "mine:values", "--method", "gff"], 2, "gff does not support regression targets; choose"),
    "floats": (["--data", "mine:values", "--target-kind", "classification"], 1, "Classes must be whole numbers"),
    "weights": (["--data", "mine:classes", "--class-weights", "1,2,3"], 2, "one weight for each of the 2 classes"),
    "no weights": (["--data", "mine:classes", "--class-weights", "x"], 2, "'x' was given, but it must be balanced"),
    "weighted values": (["--data", "mine:values", "--class-weights", "balanced"], 2, "weights need classes or labels"),
    "no edges": (["--data", "mine:classes", "--edge-features"], 1, "mine:classes: Graph 0 has no features of edges"),
    "edges of gcn": (["--data", "mine:bonds", "--edge-features", "--conv", "gcn"], 2, "'gcn' cannot use them"),
    "edges of a stream": (
        ["--stream", "critical", "--target", "num_primaries", "--edge-features"],
        2,
        "--edge-features needs --dataset or --data.",
    ),
    "weighted stream": (
        ["--stream", "critical", "--target", "num_primaries", "--class-weights", "balanced"],
        2,
        "--class-weights balanced needs --dataset or --data",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("options", "status", "message"), MISTAKES.values(), ids=MISTAKES.keys())
def test_a_mistake_is_one_clear_error(supa, folder, options, status, message):
    code, out, err = supa("train", "-o", "m.ckpt", *SHORT, *options)
    assert (code, out) == (status, "")
    assert message in " ".join(err.split())
    assert "Traceback" not in err
    assert [path.name for path in folder.glob("*.ckpt")] == []


def test_evaluate_refuses_unsuitable_graphs(supa):
    assert supa("train", "--data", "mine:labels", *SHORT, "--quiet", "-o", "m.ckpt")[0] == 0
    code, _, err = supa("evaluate", "m.ckpt")
    assert code == 2
    assert "trained on custom graphs (mine:labels), which a checkpoint does not store; give graphs by --data" in err
    assert "There must be 3 labels per unit, got 1." in supa("evaluate", "m.ckpt", "--data", "mine:classes")[2]
    assert "--root and --data cannot be used together" in supa("evaluate", "m.ckpt", "--data", "a.pt", "--root", ".")[2]
    torch.save([graph.update({"x": graph.x[:, :2]}) for graph in load_graphs("mine:labels")], "narrow.pt")
    assert "narrow.pt: its nodes have 2 features, but m.ckpt was trained with 3." in " ".join(
        supa("evaluate", "m.ckpt", "--data", "narrow.pt")[2].split()
    )
