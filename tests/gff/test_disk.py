"""Tests of graphs on disk: their files, kept inputs, training, interruptions, and layers in a pipeline."""

import errno
import json
import multiprocessing
import os
import signal
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from forked import run_forked
from pipeline_process import train_in_pipeline
from small_graphs import OnEpoch, small, two_communities

from supa_gff import DiskGraph, GraphSet, Network, node_scores, preset, train, update_rule, write_disk_graph
from supa_gff.disk import kept_inputs, writing
from supa_gff.disk.kept_inputs import KeptInputs
from supa_gff.disk.rows import RowStore
from supa_gff.heads import Head
from supa_gff.negatives import Hard
from supa_gff.training import disk_data, pipeline
from supa_gff.training.disk_data import DiskData
from supa_learning.processes import Processes

NODES = 300
TRAIN, VALID, TEST = (torch.arange(k, NODES, 3) for k in range(3))


def data():
    """Return two communities with self-loops and repeated edges."""
    made = two_communities(NODES)
    loops = torch.arange(20).expand(2, -1)
    made.edge_index = torch.cat([made.edge_index, loops, made.edge_index[:, :30]], 1)
    return made


def on_disk(folder, made=None) -> DiskGraph:
    made = data() if made is None else made
    nodes = list(zip(made.x.split(70), made.y.split(70), strict=True))
    return write_disk_graph(folder, nodes, made.edge_index.split(1000, 1))


def method(**changes):
    settings = {
        "schedule": "greedy", "normalisation": "layer", "dropout": 0.0, "score": Head("linear"), "epochs": 4,
        "batch_size": 32, "layers_used": "chosen",
    }  # fmt: skip
    return small("best", "node", **settings | changes)


@pytest.fixture
def small_blocks(monkeypatch):
    """Use blocks of 37 rows and stripes of 50 sources, for 16 channels."""
    monkeypatch.setattr(kept_inputs, "_BLOCK_BYTES", 4 * 16 * 37)
    monkeypatch.setattr(kept_inputs, "_STRIPE_BYTES", 4 * 16 * 50)
    monkeypatch.setattr(kept_inputs, "_PASS_ROWS", 20)


def assert_close(a: Network, b: Network, **tolerance: float) -> None:
    for (name, x), (_, y) in zip(a.state_dict().items(), b.state_dict().items(), strict=True):
        assert torch.allclose(x.double(), y.double(), **tolerance), name


def assert_same(a: Network, b: Network) -> None:
    assert_close(a, b, rtol=0, atol=0)


def test_graph_has_the_edges_in_order_of_target_and_source(tmp_path, monkeypatch):
    monkeypatch.setattr(writing, "_PARTS", 3)
    monkeypatch.setattr(writing, "_SORTED_EDGES", 40)  # files are distributed again, down to single nodes
    made = data()
    graph = on_disk(tmp_path / "graph", made)
    target = np.repeat(np.arange(NODES), np.diff(graph.offset))
    source, goal = made.edge_index.numpy()
    order = np.lexsort([source, goal])
    assert np.array_equal(np.stack([graph.sources, target]), made.edge_index.numpy()[:, order])
    assert np.array_equal(graph.features, made.x.numpy())
    assert torch.equal(graph.targets_of(TEST), made.y[TEST])
    assert torch.equal(graph.deg, GraphSet.of([made], level="node").deg)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["graph"]
    assert (
        graph.checksum == DiskGraph(tmp_path / "graph").checksum != on_disk(tmp_path / "b", two_communities()).checksum
    )


X, Y, EDGES = torch.ones(4, 2), torch.tensor([0, 1, 0, 1]), torch.tensor([[0, 1], [1, 2]])


@pytest.mark.parametrize(
    ("nodes", "edges", "message"),
    [
        ([(X, Y)], [EDGES, EDGES + 2], "Block 1 of the edges has nodes from 2 to 4, but there are 4 nodes"),
        ([(X, Y)], [EDGES - 1], "nodes from -1 to 1"),
        ([(X, Y)], [EDGES.float()], r"must have integers of shape \(2, edges\), got float32"),
        ([(X, Y)], [EDGES.t()[:1]], r"of shape \(1, 2\)"),
        ([(X, Y), (X * float("nan"), Y)], [], "Block 1 of the nodes: the features of row 0 contain NaN"),
        ([(X.numpy().astype(str), Y)], [], "features must be numbers"),
        ([(X, Y[:3])], [], "features of 4 nodes, but targets of 3"),
        ([(X, Y), (X[:, :1], Y)], [], "Block 1 of the nodes has 1 feature"),
        ([(X, Y.numpy().astype(str))], [], "targets must be"),
        ([(X, Y - 1)], [], "classes must be at least 0, but one is -1"),
        ([], [], "There are no nodes"),
        ((X, Y), [], r"Block 0 of the nodes is float32 of shape \(4, 2\), but it must be a pair"),
        ([([[1.0], [1.0, 2.0]], Y)], [], "features must be an array or tensor, got a list that cannot be converted"),
        ([(X.to_sparse(), Y)], [], "got sparse float32 .*; use to_dense"),
        ([(X[:, :0], Y)], [], "with at least one feature, got float32"),
        ([(X.double() * 1e300, Y)], [], "the features of row 0 exceed the range of float32"),
        ([(X, Y.double() + 1e300)], [], "the targets of row 0 exceed the range of float32"),
        ([(X, Y[:, None])], [], "Convert one class per node to .*, and several labels"),
        ([(X, X[:, :0])], [], "targets must be"),
        ([(X, Y * 0)], [], "All classes are 0, but a classifier needs at least two"),
        ([(X, Y)], EDGES, "Pass a list of blocks"),
        ([(X, Y)], [EDGES.t().repeat(2, 1)], "Use edge_index.T"),
        ([(X, Y)], None, "edges must be a list or another iterable of blocks, got None"),
    ],
)
def test_bad_blocks_raise_and_leave_no_files(nodes, edges, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        write_disk_graph(tmp_path / "graph", nodes, edges)
    assert list(tmp_path.iterdir()) == []


def test_number_of_classes_belongs_to_classes(tmp_path):
    with pytest.raises(ValueError, match="num_outputs is the number of classes, got 7, but the targets are float32"):
        write_disk_graph(tmp_path / "graph", [(X, Y.float())], [], num_outputs=7)
    graph = write_disk_graph(tmp_path / "graph", [(X, Y * 0)], [], num_outputs=2)  # a class may have no members
    assert graph.num_outputs == 2


def test_features_in_bfloat16_are_converted(tmp_path):
    graph = write_disk_graph(tmp_path / "graph", [(X.bfloat16(), Y), (X[:0], Y[:0])], [EDGES])
    assert np.array_equal(graph.features, X.bfloat16().float().numpy())


def test_bad_folders_raise(tmp_path):
    graph = on_disk(tmp_path / "graph")
    with pytest.raises(FileExistsError, match="it exists; choose another folder"):
        on_disk(tmp_path / "graph")
    with pytest.raises(FileNotFoundError, match="there is no such file; write_disk_graph writes"):
        DiskGraph(tmp_path)
    sources = graph.path / "sources.bin"
    sources.write_bytes(sources.read_bytes()[:-4])
    with pytest.raises(ValueError, match=r"sources.bin: it has [\d,]+ bytes, but the manifest requires"):
        DiskGraph(graph.path)
    manifest = json.loads((graph.path / "manifest.json").read_text())
    for damage in ({"nodes": "many"}, {"target_dtype": "int7"}, {"target_columns": [1]}):
        (graph.path / "manifest.json").write_text(json.dumps(manifest | damage))
        with pytest.raises(ValueError, match=r"manifest.json: it is damaged"):
            DiskGraph(graph.path)
    (graph.path / "manifest.json").write_text(json.dumps(manifest | {"version": 2}))
    with pytest.raises(ValueError, match="its version is 2, but this program reads version 1"):
        DiskGraph(graph.path)


@pytest.mark.parametrize("conv", ["gcn", "gin", "sage", "graph"])
@pytest.mark.parametrize("normalisation", ["layer", "length"])
def test_kept_inputs_equal_those_in_memory(conv, normalisation, tmp_path, small_blocks):
    made = data()
    graph, in_memory = on_disk(tmp_path / "graph", made), GraphSet.of([made], level="node")
    network = Network.for_graphs(method(conv=conv, normalisation=normalisation), graph).eval()
    kept, inputs = KeptInputs(network, graph, "disk"), network.inputs(in_memory.batch(TRAIN), None)
    for index in range(3):
        layer = network.layer(index)
        wanted = layer.prepare(inputs.x, inputs.topology, None)[0]
        assert torch.allclose(torch.from_numpy(kept.prepared(index)), wanted, rtol=1e-5, atol=1e-5)
        inputs = network.detach_to_next(inputs, layer(inputs.x, inputs.topology))


def test_kept_inputs_do_not_depend_on_blocks_and_threads(tmp_path, monkeypatch):
    graph = on_disk(tmp_path / "graph")
    network = Network.for_graphs(method(), graph)
    whole = KeptInputs(network, graph, "memory").prepared(2).copy()
    for bytes_, threads in ((4 * 16 * 7, 1), (4 * 16 * 100, 3)):
        monkeypatch.setattr(kept_inputs, "_BLOCK_BYTES", bytes_)
        monkeypatch.setattr(kept_inputs, "_STRIPE_BYTES", bytes_)
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        assert np.array_equal(KeptInputs(network, graph, "memory").prepared(2), whole)


@pytest.mark.parametrize(
    "changes", [{}, {"conv": "sage", "score": Head("mlp")}, {"conv": "gin", "normalisation": "length"}]
)
def test_training_on_all_rows_equals_training_in_memory(changes, tmp_path, small_blocks):
    made = data()
    graph, in_memory = on_disk(tmp_path / "graph", made), GraphSet.of([made], level="node")
    settings = method(**{"batch_size": NODES, "layers_used": "all", **changes})
    one, other = Network.for_graphs(settings, in_memory), Network.for_graphs(settings, graph)
    a = train(one, in_memory, TRAIN, VALID)
    b = train(other, graph, TRAIN, VALID, cache="disk")
    assert [x.score for x in a.state.history] == pytest.approx([x.score for x in b.state.history], abs=1e-6)
    assert_close(one, other, rtol=1e-4, atol=1e-5)
    wanted = one.layer_scores(in_memory.batch(TEST.flip(0)))
    assert torch.allclose(node_scores(other, graph, TEST.flip(0)), wanted, rtol=1e-3, atol=1e-3)


def test_training_equals_the_same_batches_in_memory(tmp_path, small_blocks):
    made = data()
    graph, in_memory = on_disk(tmp_path / "graph", made), GraphSet.of([made], level="node")
    settings = method(epochs=3, validate_every=3, layers_used="all")  # the last weights are the best ones
    network, other = Network.for_graphs(settings, graph), Network.for_graphs(settings, graph)
    train(network, graph, TRAIN, VALID, seed=5, cache="disk")
    rule, order = update_rule(other), DiskData(graph, TRAIN, VALID, 32, torch.device("cpu"))
    order.inputs = np.zeros((NODES, 1), np.float32)
    inputs = other.inputs(in_memory.batch(TRAIN), None)
    for index in range(3):
        layer = other.layer(index)
        prepared = layer.prepare(inputs.x, inputs.topology, None)
        for epoch in range(3):
            for batch in order.batches(0, 5, 0, index, epoch):
                whole = in_memory.batch(batch.node_indices)
                rule.update_layer(index, inputs, whole, None, prepared=prepared)
        inputs = other.detach_to_next(inputs, layer(inputs.x, inputs.topology))
    assert_close(network, other, rtol=1e-4, atol=1e-5)


def test_rows_of_an_epoch_are_read_in_shuffled_runs(tmp_path, monkeypatch):
    monkeypatch.setattr(disk_data, "_RUN", 5)
    monkeypatch.setattr(disk_data, "_RUNS", 4)
    order = DiskData(on_disk(tmp_path / "graph"), TRAIN, VALID, 16, torch.device("cpu"))
    order.inputs = np.zeros((NODES, 1), np.float32)
    rows = [batch.node_indices for batch in order.batches(0, 1, 2)]
    assert [len(part) for part in rows] == [16] * 6 + [4]
    assert order.num_batches == 7
    assert torch.equal(torch.cat(rows).sort().values, TRAIN)
    assert len({int(row) // 15 for row in torch.cat(rows)[:20]}) == 4  # four runs of five training rows
    later = [batch.node_indices for batch in order.batches(3, 1, 2)]
    assert torch.equal(torch.cat(rows[3:]), torch.cat(later))
    assert not torch.equal(rows[0], next(order.batches(0, 1, 3)).node_indices)


def test_kept_location_does_not_change_the_result(tmp_path):
    graph = on_disk(tmp_path / "graph")
    settings = method(score=Head("mlp", dropout=0.5), negatives=Hard())
    networks = [Network.for_graphs(settings, graph) for _ in range(3)]
    for network, cache in zip(networks, ("memory", "disk", tmp_path / "work"), strict=True):
        train(network, graph, TRAIN, VALID, cache=cache)
    assert_same(networks[0], networks[1])
    assert_same(networks[0], networks[2])
    assert [path.name for path in (tmp_path / "work").iterdir()] == ["training-0.pt"]


class KilledError(Exception):
    pass


def test_killed_training_continues_with_finished_blocks(tmp_path, monkeypatch, small_blocks):
    graph = on_disk(tmp_path / "graph")
    settings = method(score=Head("mlp", dropout=0.5))
    whole = Network.for_graphs(settings, graph)
    train(whole, graph, TRAIN, VALID, cache="disk")
    blocks, write = [], RowStore.write
    limit = 0

    def watched(self, start, values):
        if len(blocks) == limit:
            raise KilledError
        blocks.append((self.content, start))
        write(self, start, values)

    def after_epoch(_, epoch):
        if (epoch.stage, epoch.epoch) == (1, 2):
            raise KilledError

    monkeypatch.setattr(RowStore, "write", watched)
    # The inputs of the first layer have 5 blocks, and those of others 9 blocks of activations and 9 more.
    for limit in (3, 9, 17):  # noqa: B007  # the limit is read by `watched`
        with pytest.raises(KilledError):
            train(Network.for_graphs(settings, graph), graph, TRAIN, VALID, cache=tmp_path / "work")
    limit = 10**9
    network = Network.for_graphs(settings, graph)
    with pytest.raises(KilledError):
        train(network, graph, TRAIN, VALID, cache=tmp_path / "work", callbacks=[OnEpoch(after_epoch)])
    network = Network.for_graphs(settings, graph)
    trainer = train(network, graph, TRAIN, VALID, cache=tmp_path / "work")
    assert len(blocks) == len(set(blocks))
    assert len(blocks) == 5 + 4 * 9
    assert_same(network, whole)
    assert len(trainer.state.history) == 12
    again = Network.for_graphs(settings, graph)
    assert train(again, graph, TRAIN, VALID, cache=tmp_path / "work").state.finished
    assert_same(again, whole)
    with pytest.raises(ValueError, match=r"training-0.pt: it belongs to another training"):
        train(Network.for_graphs(settings, graph), graph, TRAIN, VALID, seed=1, cache=tmp_path / "work")


def kill_within_block(folder, number):
    """Train until a block is half written, and kill the process with SIGKILL."""
    write, written = RowStore.write, 0

    def killing(self, start, values):
        nonlocal written
        if written == number:
            self.values[start : start + len(values) // 2] = values[: len(values) // 2]
            os.kill(os.getpid(), signal.SIGKILL)
        written += 1
        write(self, start, values)

    RowStore.write = killing
    graph = DiskGraph(folder / "graph")
    train(Network.for_graphs(method(), graph), graph, TRAIN, VALID, cache=folder / "work")


@pytest.mark.skipif(
    torch.cuda.is_available(), reason="a forked process cannot compute gradients after a use of the GPU"
)
@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("number", [2, 11])
def test_a_process_killed_within_a_block_continues(tmp_path, monkeypatch, number):
    graph = on_disk(tmp_path / "graph")
    whole = Network.for_graphs(method(), graph)
    train(whole, graph, TRAIN, VALID)
    assert run_forked(kill_within_block, tmp_path, number) == -signal.SIGKILL
    blocks, write = [], RowStore.write
    monkeypatch.setattr(RowStore, "write", lambda self, *block: blocks.append(block[0]) or write(self, *block))
    network = Network.for_graphs(method(), graph)
    train(network, graph, TRAIN, VALID, cache=tmp_path / "work")
    assert_same(network, whole)
    assert len(blocks) == 5 + 4 * 9 - number


def test_damaged_and_other_rows_are_computed_again(tmp_path):
    rows = np.arange(20, dtype=np.float32).reshape(10, 2)
    store = RowStore(tmp_path, "rows", (10, 2), "a", 4)
    for start, end in list(store.missing())[:2]:
        store.write(start, rows[start:end])
    assert list(RowStore(tmp_path, "rows", (10, 2), "a", 4).missing()) == [(8, 10)]
    with (tmp_path / "rows.journal").open("a") as file:
        file.write("[8, 12")  # an incomplete line
    store.values[5] = 0
    damaged = RowStore(tmp_path, "rows", (10, 2), "a", 4)
    assert list(damaged.missing()) == [(4, 8), (8, 10)]
    damaged.write(8, rows[8:])
    damaged.write(4, rows[4:8])
    again = RowStore(tmp_path, "rows", (10, 2), "a", 4)
    assert again.complete
    assert np.array_equal(again.values, rows)
    lines = (tmp_path / "rows.journal").read_text().split("\n")
    (tmp_path / "rows.journal").write_text("\n".join([lines[0], "\0" * 20, "[1, 2]", *lines[1:]]))
    assert RowStore(tmp_path, "rows", (10, 2), "a", 4).complete  # damaged lines are ignored
    assert len(list(RowStore(tmp_path, "rows", (10, 2), "b", 4).missing())) == 3


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="this system cannot reserve space on a disk")
def test_a_full_disk_is_one_error_and_space_is_reserved_again(tmp_path, monkeypatch):
    reserve, calls = os.posix_fallocate, []

    def full(descriptor: int, start: int, size: int) -> None:
        reserve(descriptor, start, size // 2)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(OSError, match=r"rows.rows: 80 bytes cannot be reserved .*; free some space, or keep"):
        RowStore(tmp_path, "rows", (10, 2), "a", 4)
    assert (tmp_path / "rows.rows").stat().st_size == 0
    monkeypatch.setattr(os, "posix_fallocate", lambda *arguments: (calls.append(arguments), reserve(*arguments)))
    RowStore(tmp_path, "rows", (10, 2), "a", 4)
    assert [call[1:] for call in calls] == [(0, 80)]  # not a file with holes, where a write ends the process


def test_other_files_in_the_folder_are_left_alone(tmp_path):
    graph, kept = on_disk(tmp_path / "graph"), tmp_path / "kept"
    kept.mkdir()
    names = ["mine.journal", "rows-a-b.journal", "rows-0-0-old.journal"]
    for name in names:
        (kept / name).write_text("mine")
    train(Network.for_graphs(method(), graph), graph, TRAIN, VALID, cache=kept)
    assert sorted(path.name for path in kept.iterdir()) == sorted([*names, "training-0.pt"])


def test_locations_of_kept_inputs_are_checked_before_anything_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    graph = on_disk(tmp_path / "graph")
    network = Network.for_graphs(method(), graph)
    (tmp_path / "file").write_text("")
    (tmp_path / "kept").mkdir()
    for cache, error, message in (
        ("kept", ValueError, r"cache must be 'memory', 'disk', or Path\(...\) of a folder, got 'kept'"),
        (Path("file"), FileExistsError, "file: it is a file, but cache must be a folder"),
        (Path("no/kept"), FileNotFoundError, "no/kept: the folder no does not exist; make it first"),
    ):
        with pytest.raises(error, match=message):
            train(network, graph, TRAIN, VALID, cache=cache)
        with pytest.raises(error, match=message):
            node_scores(network, graph, TEST, cache=cache)
    assert list((tmp_path / "kept").iterdir()) == []


def test_scores_need_a_graph_on_disk(tmp_path):
    graphs = GraphSet.of([data()], level="node")
    with pytest.raises(ValueError, match="A GraphSet was given as graph, but it must be a DiskGraph"):
        node_scores(Network.for_graphs(method(), graphs), graphs, TEST)


@pytest.mark.parametrize("late", [False, True])
def test_two_processes_in_a_pipeline_equal_one_and_are_local(tmp_path, monkeypatch, late):
    """If the second process starts late, the first one has already passed on the layers of both turns."""
    graph = on_disk(tmp_path / "graph")
    own_method = method(layers=3, epochs=5, score=Head("mlp", dropout=0.5))
    one = Network.for_graphs(own_method, graph)
    train(one, graph, TRAIN, VALID, cache="memory", turns=2)
    arguments = (tmp_path, own_method, TRAIN, VALID)
    # A forked process needs no imports, which take seconds, but it cannot compute gradients after a use of the GPU.
    start = "spawn" if torch.cuda.is_available() else "fork"
    other = multiprocessing.get_context(start).Process(target=train_in_pipeline, args=(1, *arguments))
    if not late:
        other.start()

    def wait(_: float) -> None:
        if other.pid is None:
            other.start()
        other.join(0.02)
        assert other.exitcode in (None, 0), "the other process failed"

    monkeypatch.setattr(pipeline, "time", SimpleNamespace(sleep=wait))
    train_in_pipeline(0, *arguments)
    other.join()
    assert other.exitcode == 0
    for rank, own in enumerate([[0], [1, 2]]):
        result = torch.load(tmp_path / f"{rank}.pt")
        assert result["spans"] == [(layer,) for layer in own]  # each gradient is of one layer of this process
        assert result["inputs"] == own  # inputs of the layers below are not computed again
        again = Network.for_graphs(own_method, graph)
        again.load_state_dict(result["weights"])
        assert_same(one, again)
    assert {path.suffix for path in (tmp_path / "work").iterdir()} == {".pt"}  # the kept inputs are removed


@pytest.mark.parametrize(
    ("changes", "options", "message"),
    [
        ({"conv": "gat"}, {}, "requires layers that can be trained on single rows"),
        ({"normalisation": "batch"}, {}, "requires layers that can be trained on single rows"),
        ({"schedule": "joint"}, {}, "requires layers that can be trained on single rows"),
        ({}, {"cache": "dsk"}, r"cache must be 'memory', 'disk', or Path\(...\) of a folder, got 'dsk'. Did you mean"),
        ({}, {"turns": 9}, "turns: 9 was given, but it must be a whole number from 1 to 4"),
        ({}, {"processes": Processes(0, 2)}, "Several processes need a folder"),
        ({}, {"processes": Processes(0, 4)}, "4 processes cannot share 3 layers"),
        ({}, {"train": torch.tensor([0, NODES])}, "train must have indices between 0 and 299"),
        ({}, {"train": torch.tensor([1, 0, 1])}, "train has 1 repeated index"),
        ({}, {"valid": None}, "valid must be a .* tensor of int64 indices, got None"),
        ({}, {"valid": TRAIN[:0]}, "valid must have at least one index"),
        ({}, {"train": [0, 1]}, "train must be a .* tensor of int64 indices, got a list. Convert others"),
    ],
)
def test_unsuitable_trainings_raise(changes, options, message, tmp_path):
    graph = on_disk(tmp_path / "graph")
    network = Network.for_graphs(method(**changes), graph)
    with pytest.raises(ValueError, match=message):
        train(network, graph, **{"train": TRAIN, "valid": VALID, **options})


def test_options_of_graphs_on_disk_need_one(tmp_path):
    graphs = GraphSet.of([data()], level="node")
    network = Network.for_graphs(method(), graphs)
    for options in ({"cache": tmp_path}, {"turns": 2}, {"processes": Processes()}):
        with pytest.raises(ValueError, match="require a DiskGraph"):
            train(network, graphs, TRAIN, VALID, **options)


@pytest.mark.parametrize("kind", ["regression", "multi-label"])
def test_values_and_labels_can_be_trained(kind, tmp_path):
    made = data()
    made.y = made.x[:, :2] if kind == "regression" else made.x[:, :2] > 0
    graph = on_disk(tmp_path / "graph", made)
    loss = preset("best", "node", kind).loss
    network = Network.for_graphs(method(loss=loss, layers_used="all"), graph, train=TRAIN)
    trainer = train(network, graph, TRAIN, VALID, cache="disk")
    assert trainer.state.history[3].score > trainer.state.history[0].score
    assert network.aggregate(node_scores(network, graph, TEST)).shape == (len(TEST), 2)
