"""Tests of convolutions: aggregation and transformation equal PyTorch Geometric's convolutions."""

import pytest
import torch
from torch_geometric import nn as pyg

from supa_gff.convolutions import CONVOLUTIONS, aggregate, aggregates, make_convolution, transform

EDGES = {
    "plain": [[0, 1, 2, 1], [1, 0, 1, 2]],
    "self-loops": [[0, 0, 1, 2, 2], [0, 1, 0, 2, 1]],
    "duplicates": [[0, 0, 0, 1, 1], [1, 1, 2, 0, 0]],
    "duplicate self-loops": [[1, 1, 1, 0], [1, 1, 0, 1]],
    "one direction": [[0, 1, 2, 3], [1, 2, 3, 4]],
    "isolated": [[0, 1], [1, 0]],
    "none": [[], []],
}

CONVS = {
    "gcn": lambda: make_convolution("gcn", 3, 4),
    "gin": lambda: make_convolution("gin", 3, 4, norm=torch.nn.BatchNorm1d),
    "sage": lambda: make_convolution("sage", 3, 4),
    "graph": lambda: make_convolution("graph", 3, 4),
    "gcn without bias": lambda: pyg.GCNConv(3, 4, bias=False),
    "gcn improved": lambda: pyg.GCNConv(3, 4, improved=True),
    "gcn without loops": lambda: pyg.GCNConv(3, 4, add_self_loops=False),
    "gcn not normalised": lambda: pyg.GCNConv(3, 4, normalize=False),
    "gcn max": lambda: pyg.GCNConv(3, 4, aggr="max"),
    "gcn backwards": lambda: pyg.GCNConv(3, 4, flow="target_to_source"),
    "gin eps": lambda: pyg.GINConv(torch.nn.Linear(3, 4), eps=0.3),
    "gin learned eps": lambda: pyg.GINConv(torch.nn.Linear(3, 4), eps=0.3, train_eps=True),
    "gin max": lambda: pyg.GINConv(torch.nn.Linear(3, 4), aggr="max"),
    "gin backwards": lambda: pyg.GINConv(torch.nn.Linear(3, 4), flow="target_to_source"),
    "sage max": lambda: pyg.SAGEConv(3, 4, aggr="max"),
    "sage normalised": lambda: pyg.SAGEConv(3, 4, normalize=True),
    "sage projecting": lambda: pyg.SAGEConv(3, 4, project=True),
    "sage without root": lambda: pyg.SAGEConv(3, 4, root_weight=False),
    "sage backwards": lambda: pyg.SAGEConv(3, 4, flow="target_to_source"),
    "graph mean": lambda: pyg.GraphConv(3, 4, aggr="mean"),
    "graph without bias": lambda: pyg.GraphConv(3, 4, bias=False),
    "graph backwards": lambda: pyg.GraphConv(3, 4, flow="target_to_source"),
    "gat": lambda: pyg.GATConv(3, 4),
}
PARTED = {
    "gcn", "gin", "sage", "graph", "gcn without bias", "gin eps", "graph without bias",
}  # fmt: skip


@pytest.mark.parametrize("edges", EDGES)
@pytest.mark.parametrize("name", CONVS)
def test_aggregate_and_transform_equal_the_convolution(name, edges):
    torch.manual_seed(0)
    conv = CONVS[name]().double()
    assert aggregates(conv) == (name in PARTED)
    if name not in PARTED:
        return
    x = torch.randn(6, 3, dtype=torch.float64)
    edge_index = torch.tensor(EDGES[edges], dtype=torch.int64).view(2, -1)
    expected = conv(x, edge_index)
    assert torch.allclose(transform(conv, aggregate(conv, x, edge_index)), expected, rtol=1e-12, atol=1e-12)


def test_custom_class_with_a_known_name_is_not_split():
    class GCNConv(torch.nn.Linear):
        normalize, improved, add_self_loops, aggr, flow = True, False, True, "add", "source_to_target"

    assert not aggregates(GCNConv(3, 4))


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_each_name_returns_a_convolution(name):
    conv = make_convolution(name, 5, 8, norm=torch.nn.LayerNorm, deg=torch.tensor([1, 2, 3]))
    out = conv(torch.randn(4, 5), torch.tensor([[0, 1, 2], [1, 2, 0]]))
    assert out.shape == (4, 8)
    assert torch.isfinite(out).all()
    assert getattr(conv, "heads", 4) == 4


@pytest.mark.parametrize(
    ("conv", "out_channels", "message"),
    [
        ("gcm", 8, "conv must be one of gcn, gin, sage, gat, gatv2, graph, pna, transformer, or a function, got 'gcm'"),
        ("gat", 6, "hidden_channels must be a multiple of 4 for gat, got 6"),
        ("pna", 8, "PNA requires deg="),
    ],
)
def test_invalid_arguments_raise(conv, out_channels, message):
    with pytest.raises(ValueError, match=message):
        make_convolution(conv, 5, out_channels)
