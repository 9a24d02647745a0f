"""Tests of features of edges: convolutions against PyTorch Geometric, hypotheses, training, files and mistakes."""

import re

import pytest
import torch
from small_graphs import make_trainer, small
from torch_geometric import nn as pyg
from torch_geometric.data import Batch as PygBatch
from torch_geometric.data import Data

from supa_datasets import GraphBenchmark
from supa_gff import Batch, Checkpoint, GraphSet, Network, Split, evaluate, preset, train, update_rule
from supa_gff.convolutions import EDGE_CONVOLUTIONS, convolve, make_convolution
from supa_gff.export import export
from supa_gff.label_injection import join_class_nodes
from supa_gff.negatives import AllNegatives
from supa_gff.topology import Topology
from supa_gff.training.tasks import GreedyTask

DEG = torch.tensor([1, 2, 3])


def graphs_of(count: int = 60) -> list[Data]:
    """Return rings whose class depends on the features of the edges only: many or few bonds of the second kind."""
    generator = torch.Generator().manual_seed(0)
    graphs = []
    for k in range(count):
        nodes = torch.arange(5 + k % 4)
        kind = (torch.rand(len(nodes), generator=generator) < (0.2, 0.8)[k % 2]).long()
        edges = torch.stack([nodes, (nodes + 1) % len(nodes)])
        features = torch.nn.functional.one_hot(kind, 2).float()
        graphs.append(
            Data(
                x=torch.ones(len(nodes), 3),
                edge_index=torch.cat([edges, edges.flip(0)], 1),
                edge_attr=torch.cat([features, features]),
                y=torch.tensor([k % 2]),
            )
        )
    return graphs


def set_of(count: int = 60, **options: object) -> GraphSet:
    return GraphSet.of(graphs_of(count), edge_features=True, **options)


@pytest.mark.parametrize("conv", EDGE_CONVOLUTIONS)
def test_convolutions_are_those_of_pyg(conv):
    wanted = {"gin": pyg.GINEConv, "gatv2": pyg.GATv2Conv, "pna": pyg.PNAConv, "transformer": pyg.TransformerConv}
    module = make_convolution(conv, 5, 8, deg=DEG, edge_channels=2)
    assert type(module) is wanted[conv]
    edges, features = torch.tensor([[0, 1, 2], [1, 2, 0]]), torch.randn(3, 2)
    topology = Topology(edges, torch.zeros(4, dtype=torch.int64), 1, 4, edge_attr=features)
    x = torch.randn(4, 5)
    assert torch.equal(convolve(module, x, topology, 1), module(x, edges, features))
    other = Topology(edges, topology.graph, 1, 4, edge_attr=features + 1)
    assert not torch.allclose(convolve(module, x, other, 1), convolve(module, x, topology, 1))
    # Two hypotheses are disjoint copies with the same edges.
    both = convolve(module, torch.cat([x, 2 * x]), topology, 2)
    alone = torch.cat([convolve(module, part, topology, 1) for part in (x, 2 * x)])
    torch.testing.assert_close(both, alone)


def test_batches_equal_those_of_pyg():
    data = graphs_of(8)
    graphs = GraphSet.of(data, edge_features=True)
    members = [5, 0, 3]
    expected = PygBatch.from_data_list([data[k] for k in members])
    batch = graphs.batch(torch.tensor(members))
    assert torch.equal(batch.edge_attr, expected.edge_attr)
    assert torch.equal(batch.edge_index, expected.edge_index)
    assert torch.equal(Batch.of(expected).edge_attr, expected.edge_attr)
    assert repr(graphs).endswith("3 features, 2 edge features, 2 outputs per graph>")
    assert (graphs.num_edge_features, graphs.to("cpu").num_edge_features) == (2, 2)
    assert GraphSet.of(data).num_edge_features == 0
    assert graphs.checksum != GraphSet.of(data).checksum


# GATv2 weighs the neighbours of a node by the edges, so equal neighbours hide the edges from it.
@pytest.mark.parametrize(
    ("name", "conv"),
    [("best", "gin"), ("best", "pna"), ("best", "transformer"), ("cafo", "gin"), ("backprop", "gin")],
)
def test_classes_that_only_edges_show_are_learnt(name, conv):
    graphs = set_of()
    split = Split("by hand", torch.arange(40), torch.arange(40, 50), torch.arange(50, 60))
    method = small(name, "graph", conv=conv, layers=2, epochs=15, learning_rate=0.01)
    network = Network.for_graphs(method, graphs, seed=0)
    train(network, graphs, split.train, split.valid)
    result = evaluate(network, graphs, split)["train"]
    assert result.network > 0.8 > result.majority


def test_edges_of_virtual_nodes_have_features_of_zero():
    edges, features = torch.tensor([[0, 1], [1, 0]]), torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    topology = Topology(edges, torch.zeros(2, dtype=torch.int64), 1, 2, edge_attr=features)
    labels = torch.tensor([[0, 0], [1, 1]])
    _, joined = join_class_nodes(torch.ones(1, 2, 3), topology, labels, torch.randn(2, 3), "graph")
    assert joined.edge_attr.shape == (joined.edge_index.shape[1], 2)
    assert torch.equal(joined.edge_attr[:4], torch.cat([features, features]))
    assert not joined.edge_attr[4:].any()
    assert joined.edge_features(2) is joined.edge_attr


@pytest.mark.parametrize("negatives", [None, AllNegatives(redraw=False)])
def test_cached_inputs_equal_recomputed_ones(negatives, monkeypatch):
    graphs = set_of(24)
    method = small("cafo", "graph", epochs=3, layers=2)
    if negatives is not None:
        method = small("gff", "graph", conv="gin", epochs=3, layers=2, negatives=negatives)
    networks = []
    for recompute in (False, True):
        with monkeypatch.context() as patch:
            if recompute:
                patch.setattr(GreedyTask, "_make_cache", lambda self: None)
            network = Network.for_graphs(method, graphs, seed=1)
            make_trainer(network, graphs, torch.arange(16), torch.arange(16, 24)).run()
            networks.append(network)
    batch = graphs.batch(torch.arange(24))
    torch.testing.assert_close(networks[0](batch), networks[1](batch), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("conv", EDGE_CONVOLUTIONS)
def test_checkpoints_and_exported_modules_use_the_edges(conv, tmp_path):
    graphs = set_of(12)
    network = Network.for_graphs(small("best", "graph", conv=conv), graphs)
    Checkpoint.of(make_trainer(network, graphs, torch.arange(8), torch.arange(8, 12))).save(tmp_path / "a.ckpt")
    checkpoint = Checkpoint.load(tmp_path / "a.ckpt")
    data = PygBatch.from_data_list(graphs_of(12))
    assert checkpoint.edge_channels == 2
    network.eval()
    assert torch.equal(checkpoint.model()(data), network(data))
    module = export(network)
    torch.testing.assert_close(module(data.x, data.edge_index, data.batch, data.edge_attr), network(data))
    with pytest.raises(ValueError, match=r"edge_attr must have the shape \(edges, 2\)"):
        module(data.x, data.edge_index, data.batch)


def test_nodes_of_one_graph():
    (data,) = graphs_of(1)
    data.y = (data.edge_attr[:5, 0]).long()
    graphs = GraphSet.of([data], level="node", edge_features=True)
    network = Network.for_graphs(small("best", "node", conv="gatv2"), graphs)
    batch = graphs.batch(torch.arange(5), known=torch.arange(5))
    update_rule(network).step(batch)
    assert network.predict(batch).shape == (5,)


def benchmark(graphs: list[Data]) -> GraphBenchmark:
    return GraphBenchmark("MUTAG", "graph", tuple(graphs), num_features=3, num_classes=2, from_degrees=False)


def test_benchmarks_have_their_edge_labels():
    assert GraphSet.of_benchmark(benchmark(graphs_of(4)), edge_features=True).num_edge_features == 2
    plain = graphs_of(4)
    del plain[2].edge_attr
    assert GraphSet.of_benchmark(benchmark(plain)).num_edge_features == 0
    with pytest.raises(
        ValueError, match=r"MUTAG has no features of edges; omit edge_features=True \(--edge-features\)"
    ):
        GraphSet.of_benchmark(benchmark(plain), edge_features=True)


def mistaken(edge_attr: object) -> list[Data]:
    first, second = graphs_of(2)
    second.edge_attr = edge_attr
    return [first, second]


BAD = {
    "missing": (None, "Graph 1 has no features of edges, edge_attr; add them, or omit edge_features=True"),
    "flat": (torch.ones(12), "so edge_attr must have the shape (12, 2), got (12,). Use edge_attr.view(-1, 1) for one"),
    "count": (torch.ones(6, 2), "Graph 1 has 12 edges, so edge_attr must have the shape (12, 2), got (6, 2)."),
    "columns": (torch.ones(12, 3), "so edge_attr must have the shape (12, 2), got (12, 3)."),
    "NaN": (torch.full((12, 2), torch.nan), "not finite: edge_attr[0, 0] is nan. Correct them or remove the graph."),
    "list": ([1.0] * 12, "Graph 1 has features of edges that are a list, but edge_attr must be a dense tensor"),
}


@pytest.mark.parametrize("name", BAD)
def test_mistaken_features_raise_one_error(name):
    edge_attr, message = BAD[name]
    with pytest.raises(ValueError, match=re.escape(message)):
        GraphSet.of(mistaken(edge_attr), edge_features=True)
    assert len(GraphSet.of(mistaken(edge_attr))) == 2  # they are not used, so nothing is wrong


def test_unsuitable_convolutions_batches_and_levels_raise():
    graphs = set_of(4)
    for conv in ("gcn", lambda a, b: None):
        with pytest.raises(ValueError, match=r"cannot use them; choose from gin, gatv2, pna, transformer, or omit"):
            Network.for_graphs(preset("best").replace(conv=conv), graphs)
    network = Network.for_graphs(small("best", "graph"), graphs)
    plain = GraphSet.of(graphs_of(4))
    with pytest.raises(
        ValueError, match=r"The network needs features of edges, edge_attr, of shape \(52, 2\), got None"
    ):
        network.predict(plain.batch(torch.arange(4)))
    with pytest.raises(ValueError, match="The network has 2 features per edge, but the graphs have 0"):
        train(network, plain, torch.arange(2), torch.arange(2, 4))
    with pytest.raises(ValueError, match="Edge features are not supported at link level"):
        GraphSet.of(graphs_of(4), level="link", edge_features=True)
