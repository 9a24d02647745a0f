"""Tests of a user's own graphs: files, functions, conversions from other packages, and mistakes."""

import importlib
import pickle
import re
import sys
import types

import pytest
import torch
from torch_geometric.data import Batch, Data, HeteroData, InMemoryDataset

from supa_gff import GraphSet, load_graphs, split_items

EDGES = torch.tensor([[0, 1], [1, 0]])


def graph(**changes: object) -> Data:
    return Data(**{"x": torch.ones(2, 3), "edge_index": EDGES, "y": torch.tensor([0]), **changes})


def graphs(count: int = 4) -> list[Data]:
    return [graph(x=torch.full((2, 3), float(k)), y=torch.tensor([k % 2])) for k in range(count)]


class Own(InMemoryDataset):
    def __init__(self, data_list):
        super().__init__()
        self.data, self.slices = self.collate(data_list)


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """The working folder, in which modules of the tests are searched anew."""
    monkeypatch.chdir(tmp_path)
    before = set(sys.modules)
    importlib.invalidate_caches()
    yield tmp_path
    for name in set(sys.modules) - before:
        if getattr(sys.modules[name], "__file__", None) and str(tmp_path) in str(sys.modules[name].__file__):
            del sys.modules[name]


def same(found: GraphSet, wanted: GraphSet) -> bool:
    return found.checksum == wanted.checksum and found.level == wanted.level


FORMS = {
    "list": lambda path: torch.save(graphs(), path),
    "tuple": lambda path: torch.save(tuple(graphs()), path),
    "processed file of a dataset": lambda path: InMemoryDataset.save(graphs(), path),
    "data and slices": lambda path: torch.save(InMemoryDataset.collate(graphs()), path),
}


@pytest.mark.parametrize("form", FORMS)
def test_files_are_read(form, folder):
    FORMS[form](folder / "a.pt")
    loaded = load_graphs("a.pt")
    assert all(isinstance(one, Data) for one in loaded)
    assert same(GraphSet.of(loaded), GraphSet.of(graphs()))


def test_a_file_of_one_graph_is_a_list_of_one(folder):
    torch.save(graph(y=torch.tensor([0, 1])), folder / "a.pth")
    (one,) = load_graphs(folder / "a.pth")
    assert GraphSet.of([one], level="node").transductive


def test_reading_changes_no_global_list_of_allowed_classes(folder):
    torch.save(graphs(), folder / "a.pt")
    before = set(torch.serialization.get_safe_globals())
    load_graphs("a.pt")
    assert set(torch.serialization.get_safe_globals()) == before


class _Payload:
    def __reduce__(self):
        return exec, ("import pathlib; pathlib.Path('ran').touch()",)


@pytest.mark.parametrize("form", ["torch.save", "old torch.save", "pickle"])
def test_no_code_of_a_file_runs(form, folder):
    content = [graph(note=_Payload())]
    if form == "pickle":
        (folder / "a.pt").write_bytes(pickle.dumps(content, protocol=2))
    else:
        torch.save(content, folder / "a.pt", _use_new_zipfile_serialization=form == "torch.save")
    with pytest.raises(
        ValueError, match=r"a\.pt: it (is not a PyTorch file|contains objects of .*(exec|_load_from_bytes))"
    ) as caught:
        load_graphs("a.pt")
    assert "module:function" in str(caught.value)
    assert not (folder / "ran").exists()


def write(path, content):
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save(content, path)


def truncated():
    import io

    file = io.BytesIO()
    torch.save(graphs(), file)
    return file.getvalue()[:-200]


UNREADABLE = {
    "text": (b"x,y\n1,2\n", "not a PyTorch file. Write a list of torch_geometric.data.Data"),
    "nothing": (b"", "it is damaged or not a PyTorch file."),
    "cut off": (truncated(), "it is damaged or not a PyTorch file."),
    "dataset": (Own(graphs()), "contains objects of test_own_data.Own, and reading them would run code from the file"),
    "batch": (Batch.from_data_list(graphs()), "DynamicInheritanceGetter, and reading them would run code"),
    "weights": (
        {"layer.weight": torch.ones(2)},
        "a dict with the keys 'layer.weight' was given, but it must be a list",
    ),
    "checkpoint": ({"format": "supa-gff-checkpoint"}, "it is a checkpoint (supa-gff-checkpoint), but a file of graphs"),
    "tensor": (torch.ones(3), "a torch.Tensor was given, but it must be a list of torch_geometric.data.Data"),
    "dicts": ([{"x": 1}], "Item 0 is a dict with the keys 'x', but it must be a graph"),
    "number": (3, "3 was given, but it must be a list"),
    "slices": ((Data(x=torch.ones(2, 3)), {"x": 3}), "the slices of its graphs do not fit its data"),
    "no data": (({"x": 1}, {"x": torch.tensor([0, 1])}, dict), "it contains a dict with the keys 'x' and its slices"),
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_unreadable_files_raise(name, folder):
    content, message = UNREADABLE[name]
    write(folder / "a.pt", content)
    with pytest.raises(
        ValueError, match=r"^a\.pt: .*" + re.escape(message).replace("test_own_data", r"[\w.]*test_own_data")
    ):
        load_graphs("a.pt")


def test_names_of_neither_files_nor_functions_raise(folder):
    with pytest.raises(FileNotFoundError, match=r"^b\.pt: there is no such file\.$"):
        load_graphs("b.pt")
    (folder / "c.py").write_text("")
    for name, message in {
        "graphs": "'graphs' was given, but graphs are a file of torch.save (.pt), or a function as module:function",
        "a/b:load": "'a/b:load' was given, but graphs are a file",
        ".": ".: it is a folder, but a file is needed.",
        "c.py": "c.py: it is a Python program. Name a function in it, as c:function.",
    }.items():
        with pytest.raises(ValueError, match="^" + re.escape(message)):
            load_graphs(name)


MODULE = """
import torch
from torch_geometric.data import Data

value = [1]


def load():
    edges = torch.tensor([[0, 1], [1, 0]])
    return [Data(x=torch.full((2, 3), float(k)), edge_index=edges, y=torch.tensor([k % 2])) for k in range(4)]


def generate():
    yield from load()


class Shelf(list):
    def __init__(self):
        super().__init__(load())


def with_path(path):
    return load()


def nothing():
    load()


def number():
    return 3


def fails():
    return [][1]


def stops():
    raise SystemExit(2)


def refuses():
    raise ValueError("no luck")
"""


@pytest.mark.parametrize("name", ["own:load", "own:generate", "own:Shelf", "pack.inner:load"])
def test_functions_are_called(name, folder):
    (folder / "own.py").write_text(MODULE)
    (folder / "pack").mkdir()
    (folder / "pack" / "inner.py").write_text("from own import load\n")
    path = list(sys.path)
    assert same(GraphSet.of(load_graphs(name)), GraphSet.of(graphs()))
    assert sys.path == path


MISTAKEN_FUNCTIONS = {
    "on:load": "there is no module on in the current folder, ",
    "pack.none:load": "there is no module pack.none in the current folder, ",
    "own:lode": "the module own has no function lode; it has load, generate, Shelf, with_path, nothing, number, fails, "
    "stops. Did you mean 'load'?",
    "own:value": "value is a list, but it must be a function that returns the graphs.",
    "own:with_path": "with_path must be callable without arguments, but missing a required argument: 'path'.",
    "own:nothing": "own:nothing returned None; does the function end with return graphs?",
    "own:number": "own:number returned: 3 was given, but it must be a list of torch_geometric.data.Data",
    "own:fails": "the function failed with IndexError: list index out of range (",
    "own:stops": "the function failed with SystemExit: 2 (",
    "own:refuses": "the function failed with ValueError: no luck (",
    "needs:load": "the module needs needs the package no_such_package, which is not installed; install it.",
    "broken:load": "importing broken failed with SyntaxError: ",
    "raises:load": "importing raises failed with ZeroDivisionError: division by zero (",
}


@pytest.mark.parametrize("name", MISTAKEN_FUNCTIONS)
def test_mistaken_functions_raise_one_error(name, folder):
    (folder / "own.py").write_text(MODULE)
    (folder / "pack").mkdir()
    (folder / "needs.py").write_text("import no_such_package\n")
    (folder / "broken.py").write_text("def load(:\n")
    (folder / "raises.py").write_text("\n\n1 / 0\n")
    path = list(sys.path)
    with pytest.raises(ValueError, match=re.escape(MISTAKEN_FUNCTIONS[name])) as caught:
        load_graphs(name)
    assert str(caught.value).startswith(name)
    if name in ("own:fails", "broken:load", "raises:load"):
        assert re.search(rf"{folder}/\w+\.py, line \d+\)\.$", str(caught.value))
    assert sys.path == path


# ---------------------------------------------------------------------- conversions


def test_datasets_batches_and_single_graphs_are_accepted():
    wanted = GraphSet.of(graphs())
    for form in (Own(graphs()), tuple(graphs()), iter(graphs()), Batch.from_data_list(graphs())):
        assert same(GraphSet.of(form), wanted)
    assert len(GraphSet.of(graph(y=torch.tensor([0, 1])), level="node")) == 1


def test_networkx_graphs_equal_data():
    nx = pytest.importorskip("networkx", reason="NetworkX is not installed")
    made, wanted = [], []
    for k in range(4):
        one = nx.path_graph(3) if k % 2 else nx.DiGraph([(0, 1), (2, 0)])
        nx.set_node_attributes(one, {node: [float(node), 1.0] for node in one}, "x")
        one.graph["y"] = k % 2
        made.append(one)
        order = list(one)
        edges = [(order.index(a), order.index(b)) for a, b in one.to_directed().edges]
        x = torch.tensor([[float(node), 1.0] for node in order])
        wanted.append(Data(x=x, edge_index=torch.tensor(edges).t(), y=torch.tensor([k % 2])))
    assert same(GraphSet.of(made), GraphSet.of(wanted))
    pairs = [(one, float(k)) for k, one in enumerate(made)]
    assert GraphSet.of(pairs).target.tolist() == [0, 1, 2, 3]
    nx.set_edge_attributes(made[1], [0.5, 2.0], "edge_attr")
    assert GraphSet.of([made[1]], num_outputs=2, edge_features=True).edge_attr.tolist() == [[0.5, 2.0]] * 4
    nodes = nx.path_graph(4)
    nx.set_node_attributes(nodes, {node: {"x": [1.0], "y": node % 2} for node in nodes})
    assert GraphSet.of([nodes], level="node").target.tolist() == [0, 1, 0, 1]
    del made[0].nodes[1]["x"]
    with pytest.raises(ValueError, match="Graph 0 is a graph of NetworkX that PyTorch Geometric cannot convert"):
        GraphSet.of(made)
    for node in made[0]:
        made[0].nodes[node]["x"] = 1.0
    with pytest.raises(ValueError, match=r"Graph 0 must have features .*\. Use x\.view\(-1, 1\)"):
        GraphSet.of(made)


def dgl_graph(x: torch.Tensor, edges: torch.Tensor) -> object:
    """Return an object like a graph of DGL."""
    kind = type("DGLGraph", (), {"__module__": "dgl.heterograph", "is_homogeneous": True})
    made = kind()
    made.edges, made.ndata, made.edata = (lambda: tuple(edges)), {"x": x}, {}
    return made


def test_dgl_graphs_equal_data(monkeypatch):
    made = [dgl_graph(one.x, one.edge_index) for one in graphs()]
    monkeypatch.setitem(sys.modules, "dgl", None)
    with pytest.raises(ValueError, match=r"Graph 0 is a graph of DGL, but the package dgl cannot be imported \("):
        GraphSet.of(made)
    monkeypatch.setitem(sys.modules, "dgl", types.SimpleNamespace(DGLGraph=object))
    assert same(GraphSet.of([(one, k % 2) for k, one in enumerate(made)]), GraphSet.of(graphs()))


# ---------------------------------------------------------------------- targets


@pytest.mark.parametrize(
    ("targets", "kind", "shape", "outputs"),
    [
        ([torch.tensor([0]), torch.tensor([1])], "classification", (2,), 2),
        ([torch.tensor(0), torch.tensor(1)], "classification", (2,), 2),
        ([0, 1], "classification", (2,), 2),
        ([True, False], "classification", (2,), 2),
        ([0.5, 1.5], "regression", (2,), 1),
        ([torch.tensor([[0.5]]), torch.tensor([[1.5]])], "regression", (2,), 1),
        ([torch.tensor([[0.5, 2.0]]), torch.tensor([[1.5, 2.0]])], "regression", (2, 2), 2),
        ([torch.tensor([[0, 1, 1]]), torch.tensor([[1, 1, 0]])], "multi-label", (2, 3), 3),
        ([torch.tensor([[True, False]]), torch.tensor([[True, True]])], "multi-label", (2, 2), 2),
    ],
)
def test_kind_of_targets_follows_from_their_type_and_shape(targets, kind, shape, outputs):
    made = GraphSet.of([graph(y=y) for y in targets])
    assert (made.target_kind, tuple(made.target.shape), made.num_outputs) == (kind, shape, outputs)


def test_kind_of_targets_can_be_stated():
    whole = [graph(y=torch.tensor([float(k)])) for k in range(2)]
    assert GraphSet.of(whole).target_kind == "regression"
    assert GraphSet.of(whole, target_kind="classification").target.tolist() == [0, 1]
    assert GraphSet.of(graphs(), target_kind="regression").target.dtype == torch.float32
    one = GraphSet.of(graphs(), target_kind="multi-label")
    assert (one.target.dtype, tuple(one.target.shape)) == (torch.bool, (4, 1))
    floats = [graph(y=torch.tensor([[0.0, 1.0]])), graph(y=torch.tensor([[1.0, 1.0]]))]
    assert GraphSet.of(floats, target_kind="multi-label").target.tolist() == [[False, True], [True, True]]


def targets(*values: object) -> list[Data]:
    return [graph(y=y) for y in values]


BAD = {
    "NaN": ([graph(), graph(x=torch.tensor([[1.0, 2.0, 3.0], [1.0, 2.0, torch.nan]]))], {}, "finite: x[1, 2] is nan."),
    "int32 edges": ([graph(edge_index=EDGES.int())], {}, "but int32 of shape (2, 2); convert it by edge_index.long()"),
    "transposed": ([graph(edge_index=torch.ones(5, 2, dtype=torch.int64))], {}, "but int64 of shape (5, 2)"),
    "range": ([graph(edge_index=EDGES + 1)], {}, "They range from 1 to 2, but must be below the number of nodes"),
    "no nodes": ([graph(), graph(x=torch.ones(0, 3))], {}, "Graph 1 has no nodes, so nothing can be predicted from it"),
    "no features": ([graph(x=None, deg=EDGES)], {}, "degree_features). It has deg, edge_index, y."),
    "no columns": ([graph(x=torch.ones(2, 0))], {}, "Graph 0 has features of shape (2, 0), without a column."),
    "array": ([graph(x=torch.ones(2, 3).numpy())], {}, "features that are a ndarray, but x must be a dense tensor"),
    "sparse": ([graph(x=torch.ones(2, 3).to_sparse())], {}, "sparse float32 of shape (2, 3), but x must be a dense"),
    "strings": (targets("toxic"), {}, "Graph 0 has the target 'toxic', but y must be numbers. Replace names"),
    "list of strings": (targets(["toxic"]), {}, "Graph 0 has the target ['toxic'], but y must be numbers."),
    "gaps": (targets(1, 3, 7), {}, "Labels must be 0, 1, ... without gaps, but they are 1, 3, 7. Renumber them"),
    "one class": (targets(0, 0), {}, "All labels are 0, but a classifier needs at least two classes."),
    "no target": ([graph(y=None)], {}, "Graph 0 has no target y. It has edge_index, x."),
    "nodes": (targets(torch.tensor([0, 1])), {}, "1 target at graph level, got 2. One target per node needs level"),
    "flat": (targets(torch.arange(3)), {}, "got 3. Several targets of a graph have the shape (1, 3)."),
    "graph": (targets(0, 1), {"level": "node"}, "2 targets at node level, got 1. One target per graph needs"),
    "no labels": (targets(torch.ones(1, 0)), {}, "Graph 0 has targets of shape (1, 0), without a column."),
    "infinite": (targets(float("inf")), {}, "Graph 0 has targets that are not finite: y is inf."),
    "too large": (targets(torch.tensor([1e300], dtype=torch.float64)), {}, "A target exceeds the range of float32."),
    "complex": (targets(1j), {}, "Graph 0 has the target 1j, but y must be real numbers."),
    "mixed": (targets(0, 1.5), {}, "Graph 1 has targets of type float32, but graph 0 has int64."),
    "columns": (targets(torch.ones(1, 2), 1.0), {}, "Graph 1 has 1 target per unit, but graph 0 has 2; all must"),
    "floats of 0 and 1": (targets(torch.ones(1, 2)), {}, "State which: target_kind='multi-label' or 'regression'"),
    "not labels": (targets(torch.tensor([[0, 2]])), {}, "Multi-label targets must be 0 or 1 for each label, but one"),
    "equal labels": (targets(*[torch.tensor([[0, 1]])] * 3), {}, "Every label is the same for all units"),
    "half classes": (targets(0.5, 1.0), {"target_kind": "classification"}, "from 0, but a target is 0.5."),
    "one-hot": (targets(torch.eye(2)[:1]), {"target_kind": "classification"}, "For one-hot classes use y.argmax(1)"),
    "outputs": (targets(1.0), {"num_outputs": 2}, "There must be 2 targets per unit, got 1."),
    "kind": (targets(1.0), {"target_kind": "classes"}, "target_kind must be one of None, 'classification'"),
    "types": ([HeteroData()], {}, "Graph 0 has several types of nodes or edges, but only one type is supported"),
    "text": ("graphs.pt", {}, "'graphs.pt' was given, but it must be a list of torch_geometric.data.Data"),
    "masks": ([graph(y=torch.tensor([0, 1]), **{f"{n}_mask": torch.ones(2) for n in ("train", "val", "test")})],
              {"level": "node"}, "train_mask must be a bool tensor of shape (nodes,) or (nodes, splits)"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_mistaken_graphs_raise_one_error(name):
    given, options, message = BAD[name]
    with pytest.raises(ValueError, match=re.escape(message)):
        GraphSet.of(given, **options)


# ---------------------------------------------------------------------- splits


def test_graphs_are_split_into_folds_that_cover_them():
    values = GraphSet.of([graph(y=torch.tensor([0.1 * k])) for k in range(30)])
    classes = GraphSet.of(graphs(30))
    for made in (values, classes):
        tests = [split_items(made, fold=k, folds=5) for k in range(5)]
        assert torch.cat([split.test for split in tests]).sort().values.tolist() == list(range(30))
        for split in tests:
            assert torch.cat([split.train, split.valid, split.test]).unique().tolist() == list(range(30))
    assert torch.bincount(classes.target[split_items(classes, folds=5).test]).tolist() == [3, 3]


def test_nodes_of_a_graph_are_split_by_its_masks():
    masks = {name: torch.arange(6) // 2 == k for k, name in enumerate(("train_mask", "val_mask", "test_mask"))}
    one = Data(x=torch.ones(6, 2), edge_index=EDGES, y=torch.rand(6), **masks)
    split = split_items(GraphSet.of([one], level="node"))
    assert [part.tolist() for part in (split.train, split.valid, split.test)] == [[0, 1], [2, 3], [4, 5]]
    del one.val_mask
    split = split_items(GraphSet.of([one] * 30, level="node"), folds=3)
    assert (len(split.train), len(split.valid), len(split.test)) == (18, 2, 10)
