"""Tests at node level: class nodes, known labels, validation of layers, and graphs without edges."""

import pytest
from small_graphs import make_trainer

from supa_gff import GraphSet, Network, preset, update_rule
from supa_gff.heads import Head
from supa_learning import metrics

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
pytest.importorskip("torch_geometric", reason="PyTorch Geometric is not installed")

CLASSES = 3
TRAIN, VALID, TEST = (torch.arange(first, 60, 3) for first in range(3))


def communities(nodes: int = 60, edges: int = 240, seed: int = 0) -> GraphSet:
    """Return a graph of three classes with links mostly inside classes and correlated features."""
    from torch_geometric.data import Data

    random = torch.Generator().manual_seed(seed)
    y = torch.randint(CLASSES, (nodes,), generator=random)
    ends = torch.randint(nodes, (2, 20 * edges), generator=random)
    alike = y[ends[0]] == y[ends[1]]
    kept = alike | (torch.rand(len(alike), generator=random) < 0.1)
    ends = ends[:, kept][:, :edges]
    x = torch.rand((nodes, 8), generator=random)
    x[torch.arange(nodes), y] += 0.5
    return GraphSet.of(
        [Data(x=x, edge_index=torch.cat([ends, ends.flip(0)], 1), y=y)], level="node", num_outputs=CLASSES
    )


def small(name: str, **changes):
    return preset(name, "node").replace(
        **{"hidden_channels": 16, "epochs": 60, "learning_rate": 1e-2, "patience": 30, "layers": 2, **changes}
    )


def test_class_nodes_are_connected_to_training_nodes_only():
    graphs = communities()
    network = Network.for_graphs(small("single-forward"), graphs)
    for predicted in (TRAIN, VALID, TEST):
        inputs = network.inputs(graphs.batch(predicted, TRAIN), None)
        source, goal = inputs.topology.edge_index
        into = {(int(s), int(g) - 60) for s, g in zip(source, goal, strict=True) if g >= 60}
        out = {(int(g), int(s) - 60) for s, g in zip(source, goal, strict=True) if s >= 60}
        assert into == out == {(int(node), int(graphs.target[node])) for node in TRAIN}
        assert inputs.x.shape == (1, 63, 8)


def test_virtual_nodes_connect_predicted_nodes_to_their_candidate():
    graphs = communities()
    network = Network.for_graphs(small("virtual-nodes"), graphs)
    batch = graphs.batch(TEST, torch.cat([TRAIN, VALID]))
    every = torch.arange(CLASSES).expand(len(TEST), -1)
    inputs = network.inputs(batch, network.node_labels(batch, every))
    source, goal = inputs.topology.edge_index
    for hypothesis in range(CLASSES):
        first = hypothesis * 63
        own = (source >= first) & (source < first + 60) & (goal >= first + 60) & (goal < first + 63)
        joined = {int(s) - first: int(g) - first - 60 for s, g in zip(source[own], goal[own], strict=True)}
        expected = {int(node): int(graphs.target[node]) for node in [*TRAIN, *VALID]}
        assert joined == expected | {int(node): hypothesis for node in TEST}


def test_only_known_labels_are_network_inputs():
    graphs = communities()
    network = Network.for_graphs(small("label-appending"), graphs)
    batch = graphs.batch(VALID, TRAIN)
    shown = network.node_labels(batch, torch.full((len(VALID), 1), 2))[0]
    assert shown[TRAIN].tolist() == graphs.target[TRAIN].tolist()
    assert set(shown[VALID].tolist()) == {2}
    assert set(shown[TEST].tolist()) == {-1}
    written = network.layer(0).labelled_input(batch.x[None], shown[None])[0]
    assert torch.equal(written[:, :8], batch.x)
    assert torch.equal(written[TRAIN, 8:], torch.eye(CLASSES)[graphs.target[TRAIN]])
    assert torch.allclose(written[TEST, 8:], torch.tensor(1 / CLASSES))


def test_prediction_does_not_depend_on_labels_of_predicted_nodes():
    graphs = communities()
    for name in ("single-forward", "label-appending", "virtual-nodes", "top-to-input"):
        torch.manual_seed(0)
        network = Network.for_graphs(small(name), graphs)
        batch = graphs.batch(TEST, TRAIN)
        before = network.layer_scores(batch)
        graphs.target[TEST] = (graphs.target[TEST] + 1) % CLASSES
        assert torch.equal(network.layer_scores(graphs.batch(TEST, TRAIN)), before)


def test_backpropagation_of_last_layer_minimises_its_loss():
    graphs = communities()
    network = Network.for_graphs(small("backprop", layers_used="last", dropout=0.0, score=Head("linear")), graphs)
    batch = graphs.batch(TRAIN, TRAIN)
    expected = torch.nn.functional.cross_entropy(network.layer_scores(batch)[-1], batch.target)
    (step,) = update_rule(network).step(batch)
    assert step.loss == pytest.approx(float(expected), rel=1e-5)


def test_dropout_has_expected_mean_and_rate():
    graphs = communities(nodes=600)
    graphs.x[:, 3:] = 0
    layer = Network.for_graphs(small("best", dropout=0.25), graphs).layer(0)
    torch.manual_seed(0)
    dropped = layer.prepare(graphs.x[None], None, None)[0]
    kept = dropped != 0
    assert torch.allclose(dropped[kept], graphs.x[kept] / 0.75)
    assert kept[:, :3].float().mean() == pytest.approx(0.75, abs=0.04)
    assert torch.equal(layer.eval().prepare(graphs.x[None], None, None)[0], graphs.x)


def test_negatives_are_drawn_once_and_contain_all_labels():
    graphs = communities()
    network = Network.for_graphs(small("label-appending", epochs=4), graphs)
    drawn = []
    trainer = make_trainer(
        network, graphs, TRAIN, VALID, on_epoch=lambda t, _: drawn.append(t.task.candidates.fixed.clone())
    )
    trainer.run()
    assert all(torch.equal(drawn[0], other) for other in drawn)
    assert torch.equal(drawn[0][:, 0], graphs.target)
    assert torch.equal(drawn[0].sort(1).values, torch.arange(CLASSES).expand(60, -1))


@pytest.mark.parametrize("name", ["single-forward", "label-appending", "cafo"])
def test_a_greedy_layer_is_validated_together_with_those_below(name):
    graphs = communities()
    network = Network.for_graphs(small(name, layers=3, epochs=30), graphs)
    state = make_trainer(network, graphs, TRAIN, VALID).run()
    batch = graphs.batch(VALID, TRAIN)
    scores = network.layer_scores(batch)
    for layer in range(3):
        best = max(epoch.score for epoch in state.history if epoch.stage == layer and epoch.valid)
        assert best == metrics.accuracy(network.aggregate(scores[: layer + 1]), batch.target)


@pytest.mark.parametrize("name", ["single-forward", "label-appending", "virtual-nodes", "cafo"])
@pytest.mark.parametrize("conv", ["gcn", "sage", "gin"])
def test_training_on_predicted_nodes_only_equals_training_on_all_nodes(name, conv, monkeypatch):
    graphs = communities()
    results = []
    for alone in (True, False):
        if not alone:
            monkeypatch.setattr("supa_gff.networks.layer.Layer.by_node", False)
        torch.manual_seed(0)
        network = Network.for_graphs(small(name, conv=conv, epochs=10), graphs)
        state = make_trainer(network, graphs, TRAIN, VALID).run()
        (figures,) = state.history[-1].train.values()
        results.append((list(figures.values()), network.layer_scores(graphs.batch(TEST, TRAIN))))
    (steps, scores), (all_steps, all_scores) = results
    assert torch.allclose(torch.tensor(steps), torch.tensor(all_steps), atol=1e-4)
    assert torch.allclose(scores, all_scores, atol=1e-4)


def test_sequential_hypotheses_equal_parallel_hypotheses():
    graphs = communities()
    found = []
    for hypotheses in ("parallel", "sequential"):
        torch.manual_seed(0)
        network = Network.for_graphs(small("label-appending", epochs=6, hypotheses=hypotheses), graphs)
        make_trainer(network, graphs, TRAIN, VALID).run()
        found.append(network.layer_scores(graphs.batch(TEST, TRAIN)))
    assert torch.allclose(*found, atol=1e-4)


@pytest.mark.parametrize(
    "name", ["single-forward", "label-appending", "virtual-nodes", "gff", "symba", "mono-forward", "best", "backprop"]
)
@pytest.mark.parametrize("edges", [4, 0])
def test_isolated_nodes_and_graphs_without_edges_train(name, edges):
    graphs = communities(edges=edges)
    network = Network.for_graphs(small(name, epochs=8), graphs)
    make_trainer(network, graphs, TRAIN, VALID).run()
    scores = network(graphs.batch(TEST, TRAIN))
    assert scores.shape == (len(TEST), CLASSES)
    assert torch.isfinite(scores).all()


@pytest.mark.parametrize("name", ["single-forward", "best", "backprop", "mono-forward"])
def test_methods_learn_communities(name):
    graphs = communities()
    network = Network.for_graphs(small(name, epochs=100), graphs)
    make_trainer(network, graphs, TRAIN, VALID).run()
    batch = graphs.batch(TEST, TRAIN)
    majority = float(torch.bincount(batch.target).max()) / len(TEST)
    assert metrics.accuracy(network(batch), batch.target) > majority + 0.25


def test_normalised_rows_sum_to_one_and_keep_zero_rows():
    graphs = communities()
    graphs.x[5] = 0
    rows = graphs.normalised_rows().x
    expected = [[v / (sum(row) or 1) for v in row] for row in graphs.x.tolist()]
    assert torch.allclose(rows, torch.tensor(expected))
    assert rows[5].tolist() == [0] * 8
