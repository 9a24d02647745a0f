"""Tests of label injection: one-hot labels, embeddings, gates and virtual nodes."""

import pytest
import torch

from supa_gff import Batch
from supa_gff.goodness import SumOfSquares
from supa_gff.heads import Goodness, make_scorer
from supa_gff.label_injection import (
    Embedding,
    EveryLayer,
    Gate,
    LabelledInput,
    LabelledOutput,
    NodeFeatures,
    join_class_nodes,
    one_hot,
)
from supa_gff.topology import Topology

LABELS = torch.tensor([[0, 2, -1], [1, 1, -1]])


def test_unknown_labels_are_encoded_as_uniform():
    third = pytest.approx(1 / 3)
    assert one_hot(LABELS, 3).tolist() == [
        [[1, 0, 0], [0, 0, 1], [third] * 3],
        [[0, 1, 0], [0, 1, 0], [third] * 3],
    ]


def test_node_features_append_one_hot_labels():
    x = torch.randn(1, 3, 4)
    written = LabelledInput(NodeFeatures(), 3)(x, LABELS)
    assert torch.equal(written, torch.cat([x.expand(2, -1, -1), one_hot(LABELS, 3)], 2))


def test_embedding_appends_learned_vectors():
    x = torch.randn(1, 3, 4)
    module = LabelledInput(Embedding(5), 3)
    written = module(x, LABELS)
    assert written.shape == (2, 3, 4 + 5) == (2, 3, 4 + module.channels)
    vectors = module.embedding.weight.t()
    assert torch.allclose(written[0, 1, 4:], vectors[2])
    assert torch.allclose(written[1, 0, 4:], vectors[1])
    assert torch.allclose(written[0, 2, 4:], vectors.mean(0), atol=1e-6)


@pytest.mark.parametrize("hypotheses", [1, 2])
def test_every_layer_and_gate_change_the_output_of_each_layer(hypotheses):
    torch.manual_seed(0)
    z = torch.randn(hypotheses, 3, 6)
    for injection in (EveryLayer(), Gate()):
        module = LabelledOutput(injection, 3, 6)
        changed = module(z, LABELS)
        for s in range(2):
            for n in range(3):
                label = int(LABELS[s, n])
                weight = torch.eye(3)[label] if label >= 0 else torch.full((3,), 1 / 3)
                scale = 1 + module.scale.weight @ weight if module.scale is not None else 1
                expected = z[s % hypotheses, n] * scale + module.shift.weight @ weight
                assert torch.allclose(changed[s, n], expected, atol=1e-6)
        assert (module.scale is not None) == isinstance(injection, Gate)


def pairs_of(edge_index: torch.Tensor) -> list[tuple[int, int]]:
    return sorted(map(tuple, edge_index.t().tolist()))


def test_virtual_node_of_a_graph_represents_its_candidate_class():
    # Graph 0: nodes 0, 1; graph 1: node 2. Two hypotheses: (0, 1) and (2, 0).
    topology = Topology(torch.tensor([[0, 1], [1, 0]]), torch.tensor([0, 0, 1]), 2, 3)
    labels = torch.tensor([[0, 0, 1], [2, 2, 0]])
    x, vectors = torch.randn(1, 3, 4), torch.randn(3, 4)
    joined, found = join_class_nodes(x, topology, labels, vectors, "graph")
    assert torch.equal(joined[0], torch.cat([x[0], vectors[[0, 1]]]))
    assert torch.equal(joined[1], torch.cat([x[0], vectors[[2, 0]]]))
    one = [(0, 1), (1, 0), (0, 3), (3, 0), (1, 3), (3, 1), (2, 4), (4, 2)]
    assert pairs_of(found.edges(2)) == sorted(one + [(a + 5, b + 5) for a, b in one])
    assert (found.graph.tolist(), found.num_real, found.num_graphs) == ([0, 0, 1, 0, 1], 3, 2)


def test_virtual_nodes_are_connected_to_nodes_with_their_label():
    topology = Topology(torch.tensor([[0, 1], [1, 2]]), torch.zeros(3, dtype=torch.int64), 1, 3)
    x, vectors = torch.randn(1, 3, 4), torch.randn(2, 4)
    joined, found = join_class_nodes(x, topology, torch.tensor([[0, 1, -1], [1, 1, -1]]), vectors, "node")
    assert torch.equal(joined, torch.cat([x[0], vectors]).expand(2, -1, -1))
    first = [(0, 1), (1, 2), (0, 3), (3, 0), (1, 4), (4, 1)]
    second = [(0, 1), (1, 2), (0, 4), (4, 0), (1, 4), (4, 1)]
    assert pairs_of(found.edges(2)) == sorted(first + [(a + 5, b + 5) for a, b in second])
    assert (found.graph.tolist(), found.num_real) == ([0] * 5, 3)


@pytest.mark.parametrize("pool", ["mean", "sum", "sum+mean"])
def test_goodness_excludes_virtual_nodes(pool):
    topology = Topology(torch.zeros(2, 0, dtype=torch.int64), torch.tensor([0, 0, 2, 0, 1, 2]), 3, 3)
    h = torch.randn(2, 6, 4)
    batch = Batch(h[0], topology.edge_index, topology.graph[:3], 3, torch.tensor([0, 1, 1]))
    build = {"level": "graph", "conv": "gcn", "norm": None, "deg": None}
    scores = make_scorer(Goodness(SumOfSquares(), pool=pool), 4, 2, **build)(h, topology, batch)
    squares = h.square().sum(2)
    weight = torch.ones(4) / (2 if pool == "mean" else 1)
    weight[2:] /= 2 if pool == "sum+mean" else 1  # the last two channels are averaged
    first = (weight * h[:, :2].square().sum(1)).sum(1)
    expected = torch.stack([first, torch.zeros(2), squares[:, 2]])  # graph 1 has no real node
    assert torch.allclose(scores, expected, atol=1e-5)
    changed = h.clone()
    changed[:, 3:] = 1e3
    again = make_scorer(Goodness(SumOfSquares(), pool=pool), 4, 2, **build)(changed, topology, batch)
    assert torch.equal(scores, again)
    at_nodes = make_scorer(Goodness(SumOfSquares(), pool=pool), 4, 2, **{**build, "level": "node"})(h, topology, batch)
    assert torch.allclose(at_nodes, squares[:, :3].t())


@pytest.mark.parametrize(("pool", "chosen"), [("mean", [1, 1, 1]), ("sum", [1, 1, 1]), ("sum+mean", [1, 1, 0])])
def test_the_size_of_a_graph_can_decide_between_labels_with_sum_and_mean_only(pool, chosen):
    """All nodes are equal. Label 0 has more goodness in the summed channels, label 1 in the averaged ones."""
    h = torch.tensor([[2.0, 1.0], [1.0, 3.0]]).sqrt()[:, None].expand(-1, 6, -1)
    topology = Topology(torch.zeros(2, 0, dtype=torch.int64), torch.tensor([0, 1, 1, 2, 2, 2]), 3, 6)
    batch = Batch(h[0], topology.edge_index, topology.graph, 3, torch.zeros(3, dtype=torch.int64))
    build = {"level": "graph", "conv": "gcn", "norm": None, "deg": None}
    scores = make_scorer(Goodness(SumOfSquares(), pool=pool), 2, 2, **build)(h, topology, batch)
    if pool == "sum+mean":
        assert torch.allclose(scores, torch.tensor([[3.0, 4.0], [5.0, 5.0], [7.0, 6.0]]))
        scores[1] += torch.tensor([0.0, 1e-3])  # a graph of two nodes is at the threshold
    assert scores.argmax(1).tolist() == chosen
