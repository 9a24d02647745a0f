"""Tests of scorers against explicit computations."""

import pytest
import torch

from supa_gff import Batch
from supa_gff.goodness import MeanOfSquares
from supa_gff.heads import ClassGroups, Goodness, Head, PairProduct, make_scorer
from supa_gff.topology import Topology

EDGES = torch.tensor([[0, 1, 2], [1, 0, 1]])
TOPOLOGY = Topology(EDGES, torch.tensor([0, 0, 1]), 2, 3)
GRAPHS = Batch(torch.zeros(3, 4), EDGES, TOPOLOGY.graph, 2, torch.tensor([0, 1]))
BUILD = {"level": "graph", "conv": "gcn", "norm": None, "deg": None}


@pytest.mark.parametrize("learned", [False, True])
def test_scale_multiplies_goodness(learned):
    h = torch.randn(2, 3, 4)
    scorer = make_scorer(Goodness(MeanOfSquares(), scale=3.0, learned_scale=learned), 4, 2, **BUILD)
    squares = h.square().mean(2)
    expected = torch.stack([3 * squares[:, :2].mean(1), 3 * squares[:, 2]])
    assert torch.allclose(scorer(h, TOPOLOGY, GRAPHS), expected, atol=1e-5)
    assert any(weight.requires_grad for weight in scorer.parameters()) == learned


@pytest.mark.parametrize("squared", [False, True])
def test_pair_score_is_product_of_activations(squared):
    h = torch.randn(1, 3, 4)
    batch = Batch(h[0], EDGES, TOPOLOGY.graph, 1, torch.ones(2), torch.tensor([[0, 1], [1, 2]]))
    scorer = make_scorer(PairProduct(squared=squared), 4, 1, **{**BUILD, "level": "link"})
    products = [[float(a * b) for a, b in zip(h[0, i], h[0, j], strict=True)] for i, j in ((0, 1), (1, 2))]
    expected = [[sum(v * v if squared else v for v in row)] for row in products]
    assert torch.allclose(scorer(h, TOPOLOGY, batch), torch.tensor(expected), atol=1e-5)


@pytest.mark.parametrize("kind", ["linear", "mlp", "conv"])
def test_dropout_of_heads_is_active_in_training_only(kind):
    torch.manual_seed(0)
    h = torch.randn(1, 3, 64)
    dropped, whole = (make_scorer(Head(kind, dropout=p), 64, 2, **BUILD) for p in (0.5, 0.0))
    expected = dropped.eval()(h, TOPOLOGY, GRAPHS)
    assert not torch.allclose(dropped.train()(h, TOPOLOGY, GRAPHS), expected)
    assert torch.equal(dropped.eval()(h, TOPOLOGY, GRAPHS), expected)
    assert torch.equal(whole.train()(h, TOPOLOGY, GRAPHS), whole.eval()(h, TOPOLOGY, GRAPHS))


@pytest.mark.parametrize("kind", ["linear", "mlp"])
def test_head_on_moments_sees_sum_mean_and_maximum(kind):
    h = torch.randn(1, 3, 4, requires_grad=True)
    scorer = make_scorer(Head(kind, pool="moments"), 4, 2, **BUILD)
    pooled = [torch.cat([nodes.sum(0), nodes.mean(0), nodes.amax(0)]) for nodes in (h[0, :2], h[0, 2:])]
    torch.testing.assert_close(scorer(h, TOPOLOGY, GRAPHS), scorer.head(torch.stack(pooled)))
    empty = Topology(EDGES, TOPOLOGY.graph, 3, 3)
    assert torch.equal(empty.pool(-h.abs(), "max")[0, 2], torch.zeros(4))
    assert not make_scorer(Head(kind, pool="moments"), 4, 2, **{**BUILD, "level": "node"}).head[0].in_features > 4


def test_class_groups_score_one_group_per_class():
    topology = Topology(torch.zeros(2, 0, dtype=torch.int64), torch.tensor([0, 0, 1]), 2, 3)
    h = torch.randn(1, 3, 7)
    batch = Batch(h[0], topology.edge_index, topology.graph, 2, torch.tensor([0, 1]))
    scorer = make_scorer(ClassGroups(), 7, 3, level="graph", conv="gcn", norm=None, deg=None)
    per_node = torch.stack([h[0, :, 0:2].mean(1), h[0, :, 2:4].mean(1), h[0, :, 4:6].mean(1)], 1)
    expected = torch.stack([per_node[:2].mean(0), per_node[2]])
    assert torch.allclose(scorer(h, topology, batch), expected, atol=1e-6)
    with pytest.raises(ValueError, match='hidden_channels must be at least 2 for pool="sum\\+mean", got 1'):
        make_scorer(Goodness(pool="sum+mean"), 1, 3, **BUILD)
    with pytest.raises(ValueError, match="hidden_channels must be at least 3, the number of classes, got 2"):
        make_scorer(ClassGroups(), 2, 3, level="graph", conv="gcn", norm=None, deg=None)
