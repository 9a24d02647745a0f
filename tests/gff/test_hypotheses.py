"""Tests of label-conditioned predictions: they treat all labels equally and never use the targets."""

from dataclasses import replace

import pytest
import torch
from small_graphs import presets, small, task, triangles_or_trees, two_communities

from supa_gff import Batch, GraphSet, Network, preset, update_rule
from supa_gff.heads import Goodness
from supa_gff.label_injection import VirtualNodes

CONDITIONED = [(name, level) for name, level in presets() if isinstance(preset(name, level).score, Goodness)]


@pytest.mark.parametrize(("name", "level"), [pair for pair in presets() if pair[1] != "link"])
def test_scores_do_not_depend_on_targets(name, level):
    graphs, train, valid = task(level, 24)
    torch.manual_seed(0)
    network = Network.for_graphs(small(name, level), graphs)
    update_rule(network).step(graphs.batch(train, train))
    scores = network.layer_scores(graphs.batch(valid, train))
    # Change the targets of the predicted units and, at node level, of all nodes without known labels.
    generator = torch.Generator().manual_seed(1)
    other = graphs.target.clone()
    other[valid] = torch.randint(2, (len(valid),), generator=generator)
    assert not torch.equal(other, graphs.target)
    assert torch.equal(network.layer_scores(replace(graphs, target=other).batch(valid, train)), scores)


@pytest.mark.parametrize(("name", "level"), [pair for pair in presets() if pair[1] != "graph"])
def test_score_does_not_depend_on_other_predicted_units(name, level):
    # For predicted nodes, label injection uses the hypothesis only.
    if level == "link":
        made, _, _ = task("link")
        batch = made.valid
    else:
        graphs, train, valid = task("node")
        batch = graphs.batch(valid, train)
    torch.manual_seed(0)
    outputs = 1 if level == "link" else 2
    network = Network(small(name, level), batch.x.shape[1], outputs, level)
    flipped = replace(batch, target=1 - batch.target)
    assert torch.equal(network.layer_scores(batch), network.layer_scores(flipped))


def test_validation_labels_are_not_network_inputs():
    graphs, train, valid = task("node")
    batch = graphs.batch(valid, train)
    assert (batch.known_labels[valid] == -1).all()
    assert torch.equal(batch.known_labels[train], graphs.target[train])
    network = Network.for_graphs(small("label-appending", "node"), graphs)
    labels = network.node_labels(batch, torch.arange(2).expand(len(valid), -1))
    assert labels[:, valid].tolist() == [[0] * len(valid), [1] * len(valid)]
    assert torch.equal(labels[:, train], graphs.target[train].expand(2, -1))
    half = graphs.batch(valid[:10], train)
    labels = network.node_labels(half, torch.arange(2).expand(10, -1))
    assert (labels[:, valid[10:]] == -1).all()


def test_all_nodes_of_a_graph_have_its_candidate_label():
    graphs = GraphSet.of(triangles_or_trees(4))
    batch = graphs.batch(torch.tensor([1, 3, 0]))
    network = Network.for_graphs(small("gff", "graph"), graphs)
    labels = network.node_labels(batch, torch.tensor([[1, 0], [0, 1], [0, 0]]))
    for hypothesis, of_graphs in enumerate([[1, 0, 0], [0, 1, 0]]):
        assert labels[hypothesis].tolist() == [of_graphs[int(g)] for g in batch.graph]


@pytest.mark.parametrize(("name", "level"), CONDITIONED)
@pytest.mark.parametrize("hypotheses", ["parallel", "sequential"])
def test_score_of_a_label_does_not_depend_on_other_candidates(name, level, hypotheses):
    """The score of a label depends neither on the other candidates nor on the index of the class."""
    method = small(name, level)
    if hypotheses == "sequential":
        if isinstance(method.label, VirtualNodes):
            method = method.replace(label=VirtualNodes(positive_features=False))
        else:
            method = method.replace(hypotheses="sequential", normalisation="layer")
    graphs, train, valid = task(level, 12)
    torch.manual_seed(0)
    network = Network.for_graphs(method, graphs).eval()
    batch = graphs.batch(valid, train)
    scores = network.layer_scores(batch)
    for label in range(2):
        candidates = torch.full((batch.num_units, 1), label)
        with torch.no_grad():
            parts = list(network._bottom_up(batch, network.node_labels(batch, candidates)))
        for layer in range(3):
            assert torch.allclose(parts[layer][:, 0], scores[layer, :, label], rtol=1e-5, atol=1e-6)


def test_virtual_nodes_pass_positive_features_in_training_only():
    graphs, train, _ = task("node")
    for positive in (True, False):
        method = small("virtual-nodes", "node", label=VirtualNodes(positive_features=positive))
        network = Network.for_graphs(method, graphs)
        batch = graphs.batch(train, train)
        inputs = network.inputs(batch, network.node_labels(batch, update_rule(network).draw_candidates(batch)))
        h = torch.randn(2, inputs.x.shape[1], 16)
        assert torch.equal(
            network.detach_to_next(inputs, h, positive_first=True).x, h[:1].expand(2, -1, -1) if positive else h
        )
        assert torch.equal(network.detach_to_next(inputs, h).x, h)


@pytest.mark.parametrize(("name", "changes"), [("gff", {}), ("symba", {}), ("best", {}), ("deeper-forward", {})])
def test_scores_do_not_depend_on_batch_composition_and_order(name, changes):
    graphs = GraphSet.of(triangles_or_trees(20))
    torch.manual_seed(0)
    network = Network.for_graphs(small(name, "graph", **changes), graphs)
    update_rule(network).step(graphs.batch(torch.arange(20)))
    together = network.layer_scores(graphs.batch(torch.arange(20)))
    order = torch.randperm(20)
    assert torch.allclose(network.layer_scores(graphs.batch(order)), together[:, order], rtol=1e-5, atol=1e-5)
    alone = torch.cat([network.layer_scores(graphs.batch(torch.tensor([k]))) for k in range(20)], 1)
    assert torch.allclose(alone, together, rtol=1e-5, atol=1e-5)


def test_class_nodes_require_known_labels():
    data = two_communities()
    network = Network(small("single-forward", "node"), 8, 2, "node")
    with pytest.raises(ValueError, match="The batch has no known_labels"):
        network.predict(data)
    data.train_mask = torch.arange(80) < 40
    assert network.predict(data).shape == (40,)
    assert isinstance(Batch.of(data, "node"), Batch)
