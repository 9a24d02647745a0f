"""Tests of graph sets and batches against PyTorch Geometric."""

import re
from dataclasses import replace

import pytest
import torch
from small_graphs import random_graph
from torch_geometric.data import Batch as PygBatch
from torch_geometric.data import Data
from torch_geometric.loader import DataLoader

from supa_gff import Batch, GraphSet
from supa_gff.training.data import TrainingData

SIZES = [(3, 5), (1, 0), (6, 20), (4, 0), (2, 3), (5, 9), (0, 0), (7, 30)]


EMPTY = SIZES.index((0, 0))


def some(level: str = "graph", *, values: bool = False) -> list[Data]:
    generator = torch.Generator().manual_seed(0)
    made = []
    for nodes, edges in SIZES:
        data = random_graph(nodes, edges, 3, generator)
        count = nodes if level == "node" else 1
        data.y = torch.randn(count, generator=generator) if values else torch.randint(4, (count,), generator=generator)
        made.append(data)
    return made


def set_of(data: list[Data], **options: object) -> GraphSet:
    """Return the set of graphs of which one has no nodes, which `GraphSet.of` refuses but showers may have."""
    graphs = GraphSet.of([graph for graph in data if graph.num_nodes], **options)

    def with_empty(offset: torch.Tensor) -> torch.Tensor:
        return torch.cat([offset[: EMPTY + 1], offset[EMPTY:]])

    target = graphs.target
    if graphs.level == "graph":
        target = torch.cat([target[:EMPTY], data[EMPTY].y.to(target.dtype), target[EMPTY:]])
    return replace(
        graphs,
        node_offset=with_empty(graphs.node_offset),
        edge_offset=with_empty(graphs.edge_offset),
        target=target,
    )


@pytest.mark.parametrize("members", [[0], [2, 0, 7], [6], [6, 1, 6], [7, 6, 5, 4, 3, 2, 1, 0], [3, 3]])
@pytest.mark.parametrize("level", ["graph", "node"])
def test_batch_equals_batch_of_pyg(members, level):
    data = some(level)
    graphs = set_of(data, level=level, num_outputs=4)
    batch = graphs.batch(torch.tensor(members))
    expected = PygBatch.from_data_list([data[k] for k in members])
    assert torch.equal(batch.x, expected.x)
    assert torch.equal(batch.edge_index, expected.edge_index)
    assert torch.equal(batch.graph, expected.batch)
    assert torch.equal(batch.target, expected.y)
    assert (batch.num_graphs, batch.num_nodes) == (len(members), len(expected.x))
    assert torch.equal(graphs.x[batch.node_indices], batch.x)
    assert batch.graph_indices.tolist() == members


def test_graph_set_equals_batch_of_all_graphs():
    graphs = set_of(some(), num_outputs=4)
    expected = PygBatch.from_data_list(some())
    assert torch.equal(graphs.edge_index, expected.edge_index)
    assert (len(graphs), graphs.num_features, graphs.num_items) == (8, 3, 8)
    in_degree = torch.bincount(expected.edge_index[1], minlength=len(expected.x))
    assert graphs.deg.tolist() == [int((in_degree == k).sum()) for k in range(int(in_degree.max()) + 1)]
    assert repr(graphs) == "<GraphSet: 8 graphs, 28 nodes, 67 edges, 3 features, 4 outputs per graph>"
    assert torch.equal(graphs.to("cpu").x, graphs.x)


def test_messages_use_the_singular_for_one():
    one = Data(x=torch.ones(1, 1), edge_index=torch.zeros(2, 1, dtype=torch.int64), y=torch.tensor([0]))
    assert (
        repr(GraphSet.of([one], num_outputs=1)) == "<GraphSet: 1 graph, 1 node, 1 edge, 1 feature, 1 output per graph>"
    )
    one.y = torch.tensor([0, 1])
    with pytest.raises(ValueError, match="Graph 0 must have 1 target at graph level, got 2"):
        GraphSet.of([one])
    one.y, one.edge_index = torch.tensor([0]), torch.ones(2, 1, dtype=torch.int64)
    with pytest.raises(ValueError, match="Graph 0 has 1 node, but its edges use other indices"):
        GraphSet.of([one])


def test_float_targets_are_regression_and_integer_targets_are_classes():
    values = set_of(some(values=True))
    assert (values.num_outputs, values.target.dtype) == (1, torch.float32)
    data = some()
    for graph in data:
        graph.y = graph.y.to(torch.int32)
    assert set_of(data, num_outputs=4).target.dtype == torch.int64


def test_items_of_a_single_graph_are_its_nodes():
    data = random_graph(6, 9, 3, torch.Generator().manual_seed(0))
    data.y = torch.tensor([0, 1, 2, 0, 1, 2])
    graphs = GraphSet.of([data], level="node")
    assert (graphs.num_items, graphs.transductive) == (6, True)
    (batch,) = graphs.batches(torch.tensor([5, 1]), 1, known=torch.tensor([0, 1]))
    assert batch.target.tolist() == [2, 1]
    assert batch.units.tolist() == [5, 1]
    assert batch.known_labels.tolist() == [0, 1, -1, -1, -1, -1]
    assert batch.x is graphs.x


@pytest.mark.parametrize(
    ("count", "size", "training", "in_order"),
    [(9, 4, [4, 5], [4, 4, 1]), (8, 4, [4, 4], [4, 4]), (10, 4, [4, 4, 2], [4, 4, 2]), (1, 4, [1], [1])],
)
def test_single_last_graph_is_joined_to_the_previous_training_batch(count, size, training, in_order):
    generator = torch.Generator().manual_seed(0)
    data = [random_graph(3, 2, 2, generator) for _ in range(count)]
    for k, graph in enumerate(data):
        graph.y = torch.tensor([k % 2])
    graphs, every = GraphSet.of(data, num_outputs=2), torch.arange(count)
    batches = list(TrainingData(graphs, every, every, size).batches(0, 1))
    assert torch.cat([batch.graph_indices for batch in batches]).sort().values.tolist() == list(range(count))
    assert [batch.num_graphs for batch in batches] == training
    batches = list(graphs.batches(every, size))
    assert torch.cat([batch.graph_indices for batch in batches]).tolist() == list(range(count))
    assert [batch.num_graphs for batch in batches] == in_order


@pytest.mark.parametrize("level", ["graph", "node"])
def test_batch_of_equals_batches_of_pyg_loader(level):
    data = [graph for graph in some(level) if graph.num_nodes]
    (loaded,) = DataLoader(data, batch_size=8)
    batch = Batch.of(loaded, level)
    assert (batch.num_graphs, batch.units, batch.known_labels) == (7, None, None)
    assert torch.equal(batch.target, loaded.y)
    assert Batch.of(batch, level) is batch
    del loaded.ptr
    assert Batch.of(loaded, level).num_graphs == 7
    single = Batch.of(data[0], level)
    assert (single.num_graphs, single.graph.tolist()) == (1, [0] * 3)


def test_nodes_of_train_mask_are_predicted_and_known():
    data = random_graph(4, 5, 3, torch.Generator().manual_seed(0))
    data.y, data.train_mask = torch.tensor([0, 1, 2, 0]), torch.tensor([True, False, True, False])
    batch = Batch.of(data, "node")
    assert (batch.units.tolist(), batch.target.tolist(), batch.known_labels.tolist()) == (
        [0, 2],
        [0, 2],
        [0, -1, 2, -1],
    )


X, EDGES, Y = torch.ones(2, 3), torch.tensor([[0], [1]]), torch.tensor([1])
GOOD = Data(x=X, edge_index=EDGES, y=Y)

BAD = {
    "no graphs": ([], {}, "There are no graphs; pass at least one."),
    "no x": ([GOOD, Data(edge_index=EDGES, y=Y)], {}, "Graph 1 has no node features x. Add some"),
    "no edges": (
        [Data(x=X, y=Y)],
        {},
        "Graph 0 has no int64 edge_index of shape (2, edges). Use shape (2, 0) if it has no edges.",
    ),
    "flat edges": ([Data(x=X, edge_index=torch.tensor([0, 1]), y=Y)], {}, "Graph 0 has no int64 edge_index of shape"),
    "float edges": ([Data(x=X, edge_index=EDGES.float(), y=Y)], {}, "Graph 0 has no int64 edge_index of shape"),
    "flat x": (
        [Data(x=torch.ones(2), edge_index=EDGES, y=Y)],
        {},
        "Graph 0 must have features of shape (nodes, features), got (2,).",
    ),
    "other features": (
        [GOOD, Data(x=torch.ones(2, 4), edge_index=EDGES, y=Y)],
        {},
        "Graph 1 must have features of shape (nodes, 3), got (2, 4).",
    ),
    "edges to nowhere": (
        [Data(x=X, edge_index=torch.tensor([[0], [2]]), y=Y)],
        {},
        "Graph 0 has 2 nodes, but its edges use other indices. Indices start at 0.",
    ),
    "edges from below": (
        [Data(x=X, edge_index=torch.tensor([[0], [-1]]), y=Y)],
        {},
        "Graph 0 has 2 nodes, but its edges use other indices",
    ),
    "no y": ([Data(x=X, edge_index=EDGES)], {}, "Graph 0 has no target y."),
    "many y": (
        [Data(x=X, edge_index=EDGES, y=torch.tensor([0, 1, 1]))],
        {},
        "Graph 0 must have 1 target at graph level, got 3.",
    ),
    "few y": ([GOOD], {"level": "node"}, "Graph 0 must have 2 targets at node level, got 1."),
    "infinite x": (
        [Data(x=X * torch.inf, edge_index=EDGES, y=Y)],
        {},
        "Graph 0 has features that are not finite",
    ),
    "huge x": (
        [Data(x=X.double() * 1e300, edge_index=EDGES, y=Y)],
        {},
        "Graph 0 has features that exceed the range of float32: x[0, 0] is 1e+300. Correct them or remove the graph.",
    ),
    "y not a number": (
        [Data(x=X, edge_index=EDGES, y=torch.tensor([torch.nan]))],
        {},
        "Graph 0 has targets that are not finite",
    ),
    "labels above": (
        [GOOD],
        {"num_outputs": 1},
        "Labels must be between 0 and 0 for 1 class, but they range from 1 to 1; renumber them.",
    ),
    "labels below": (
        [Data(x=X, edge_index=EDGES, y=torch.tensor([-1])), GOOD],
        {},
        "Labels must be between 0 and 1 for 2 classes, but they range from -1 to 1; renumber them.",
    ),
    "level": ([GOOD], {"level": "edge"}, "level must be one of 'graph', 'node', 'link', got 'edge'."),
}


@pytest.mark.parametrize("name", BAD)
def test_invalid_graphs_raise(name):
    graphs, options, message = BAD[name]
    with pytest.raises(ValueError, match=re.escape(message)):
        GraphSet.of(graphs, **options)


@pytest.mark.parametrize(
    ("data", "level", "message"),
    [
        (Data(edge_index=EDGES, y=Y), "graph", "A batch at graph level requires x, edge_index, y, but x is missing."),
        (Data(x=X), "node", "but edge_index, y are missing. Join a list of graphs"),
        (Data(x=X, edge_index=EDGES), "link", "but edge_label_index, edge_label are missing."),
        (GOOD, "node", "The batch must have 2 targets at node level, got 1."),
        (
            Data(x=X, edge_index=EDGES, y=torch.tensor([0, 1])),
            "graph",
            "The batch must have 1 target at graph level, got 2.",
        ),
    ],
)
def test_invalid_batches_raise(data, level, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        Batch.of(data, level)
