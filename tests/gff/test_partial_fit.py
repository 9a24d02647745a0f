"""Tests of incremental training: the same steps as an update rule, exact resume, and mistakes."""

import copy
import re

import pytest
import torch
from same_values import same
from small_graphs import small, task, triangles_or_trees, two_communities
from torch_geometric.data import Data
from torch_geometric.loader import DataLoader

from supa_gff import Batch, GraphSet, Method, Network, ShowerGraphStream, preset, shower_stream, update_rule
from supa_gff.losses import BinaryCrossEntropy, SquaredError
from supa_gff.negatives import AllNegatives, Hard
from supa_learning import RandomState

GRAPHS = GraphSet.of(triangles_or_trees(96))
BATCHES = list(GRAPHS.batches(torch.arange(96), 16))
LAYERS = (None, 1, None, 0, 2, None)


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("best", {"dropout": 0.2}),
        ("gff", {"schedule": "joint"}),
        ("best-goodness", {"negatives": Hard()}),
        ("overlapping-pairs", {}),
        ("backprop", {}),
    ],
)
def test_calls_are_steps_of_one_update_rule(name, changes):
    method = small(name, "graph", **changes)
    network, other = (Network.for_graphs(method, GRAPHS, seed=3) for _ in range(2))
    rule, random = update_rule(other), RandomState(3)
    before = torch.get_rng_state()
    for batch, layer in zip(BATCHES, LAYERS, strict=True):
        stats = network.partial_fit(batch, layer)
        with random.as_global():
            expected = rule.step(batch, layer)
        assert [step.layer for step in stats] == [step.layer for step in expected]
        assert all(torch.equal(a.values, b.values) for a, b in zip(stats, expected, strict=True))
    assert same(network.state_dict(), other.state_dict())
    assert torch.equal(torch.get_rng_state(), before)


def learned(method: Method, data: list[Data], level: str = "graph", passes: int = 5) -> tuple[Network, Batch]:
    """Train on batches of PyTorch Geometric, and return the network and a batch of all graphs."""
    graphs = GraphSet.of(data, level=level)
    network = Network.for_graphs(method.replace(learning_rate=1e-2), graphs)
    for _ in range(passes):
        for batch in DataLoader(data, batch_size=12):
            network.partial_fit(batch)
    return network, graphs.batch(torch.arange(len(graphs)))


@pytest.mark.parametrize("name", ["best", "mono-forward", "best-goodness", "deeper-forward", "backprop"])
def test_networks_learn_classes_of_graphs(name):
    network, batch = learned(small(name, "graph"), triangles_or_trees(60))
    assert (network.predict(batch) == batch.target).float().mean() > 0.9


@pytest.mark.parametrize("schedule", ["joint", "backprop"])
def test_networks_learn_values_and_labels(schedule):
    data = triangles_or_trees(60)
    for graph in data:
        graph.y = torch.tensor([[graph.num_edges / 10.0, graph.num_nodes / 10.0]])
    method = small("mono-forward", "graph", schedule=schedule, loss=SquaredError())
    network, batch = learned(method, data, passes=15)
    assert (network.predict(batch) - batch.target).square().mean() < 0.25 * batch.target.var(0).mean()
    for graph in data:
        graph.y = torch.tensor([[graph.y[0, 0] > 2, graph.y[0, 1] > 0.8]])
    network, batch = learned(method.replace(loss=BinaryCrossEntropy()), data, passes=10)
    assert (network.predict(batch) == batch.target).float().mean() > 0.9


def test_networks_learn_nodes_and_links():
    data = [two_communities(seed=seed) for seed in range(24)]
    network, batch = learned(small("mono-forward", "node"), data, "node")
    assert (network.predict(batch) == batch.target).float().mean() > 0.9
    pairs = task("link")[0]
    network = Network(small("best", "link", schedule="joint", learning_rate=1e-2), 8, 1, "link")
    losses = [network.partial_fit(pairs.train)[0].loss for _ in range(20)]
    assert losses[-1] < 0.8 * losses[0]


@pytest.mark.parametrize(("name", "layer"), [("best", None), ("best", 1), ("overlapping-pairs", None), ("symba", None)])
def test_stream_resumes_to_the_same_bits(name, layer, monkeypatch, tmp_path):
    monkeypatch.setattr(shower_stream, "FITTED_SHOWERS", 100)
    graphs = ShowerGraphStream("critical", "num_primaries", seed=1, validation_showers=10)
    method = small(name, "graph", dropout=0.2)

    def run(network: Network, stream: object, steps: int) -> None:
        for _, batch in zip(range(steps), map(graphs.convert, stream), strict=False):
            network.partial_fit(batch, layer)

    network, stream = Network.for_graphs(method, graphs.validation, seed=2), graphs.stream(8)
    run(network, stream, 3)
    state = {"network": network.training_state_dict(), "stream": stream.state_dict()}
    torch.save(state, tmp_path / "online.pt")
    stream.start_at(3)
    run(network, stream, 3)

    stored = torch.load(tmp_path / "online.pt")
    assert same(stored, state)  # further training has not changed the state
    resumed, stream = Network.for_graphs(method, graphs.validation, seed=7), graphs.stream(8)
    resumed.load_training_state_dict(stored["network"])
    stream.load_state_dict(stored["stream"])
    run(resumed, stream, 3)
    assert same(resumed.training_state_dict(), network.training_state_dict())
    assert same(stored, state)


def test_state_of_a_network_before_the_first_call_restores_the_weights_alone():
    network, other = (Network(small("best", "graph"), 6, 2, seed=seed) for seed in range(2))
    other.partial_fit(BATCHES[0])
    other.load_training_state_dict(network.training_state_dict())
    assert same(other.training_state_dict(), network.training_state_dict())
    assert "incremental" not in str(other.state_dict().keys())  # the weights alone


def test_optimisers_follow_the_weights():
    network = Network(small("best", "graph"), 6, 2)
    plain = Network(small("best", "graph"), 6, 2)
    for one in (network, plain):
        one.partial_fit(BATCHES[0])
    network.double()
    optimiser = network.training_state_dict()["incremental"]["rule"]["optimisers"][0]
    assert optimiser["state"][0]["exp_avg"].dtype == torch.float64
    network.float()
    for one in (network, plain):
        one.partial_fit(BATCHES[1])
    assert same(network.training_state_dict(), plain.training_state_dict())


def test_copies_are_trained_separately():
    network = Network(small("best", "graph"), 6, 2)
    network.partial_fit(BATCHES[0])
    copied, before = copy.deepcopy(network), network.training_state_dict()
    copied.partial_fit(BATCHES[1])
    assert same(network.training_state_dict(), before)
    network.partial_fit(BATCHES[1])
    assert same(network.training_state_dict(), copied.training_state_dict())


X, EDGES, Y = torch.ones(2, 6), torch.tensor([[0, 1], [1, 0]]), torch.tensor([0])


def a_batch(**changes: object) -> Batch:
    return Batch(**{**vars(BATCHES[0]), **changes})


@pytest.mark.parametrize(
    ("batch", "layer", "message"),
    [
        (a_batch(x=torch.ones(len(BATCHES[0].x), 3)), None, "The network expects 6 features per node, got 3."),
        (a_batch(x=BATCHES[0].x / 0), None, "The batch has features that are not finite; correct them"),
        (a_batch(target=torch.full((16,), 2)), None, "Labels must be between 0 and 1"),
        (a_batch(target=torch.full((16,), torch.nan)), None, "The batch has targets that are not finite"),
        (GRAPHS.batch(torch.arange(0)), None, "The batch has no targets to train on; leave it out."),
        (Data(x=torch.ones(2, 6), edge_index=torch.zeros(2, 0).long()), None, "but y is missing"),
        (a_batch(), 3, "layer: 3 was given, but it must be a whole number from 0 to 2"),
        (Data(x=X, edge_index=EDGES + 1, y=Y), None, "The batch has 2 nodes, but its edges have indices from 1 to 2."),
        (Data(x=X, edge_index=EDGES - 1, y=Y), None, "The batch has 2 nodes, but its edges have indices from -1 to 0."),
        (Data(x=X, edge_index=EDGES.int(), y=Y), None, "must have int64 edge_index of shape (2, edges), got int32"),
        (Data(x=X, edge_index=EDGES[:1], y=Y), None, "of shape (2, edges), got int64 of shape (1, 2)."),
        (Data(x=X[0], edge_index=EDGES, y=Y), None, "must have features x of shape (nodes, features), got float32 of"),
        (Data(x=X[:0], edge_index=EDGES[:, :0], y=Y), None, "The batch has no nodes"),
        (Data(x=X, edge_index=EDGES, y="cat"), None, "The batch has targets y that are 'cat', but y must be a tensor"),
        (Data(x=X, edge_index=EDGES, y=1), None, "The batch has targets y that are an int, but y must be a tensor"),
    ],
)
def test_batches_that_do_not_fit_change_nothing(batch, layer, message):
    network = Network(small("best", "graph"), 6, 2)
    network.partial_fit(BATCHES[0])
    before = network.training_state_dict()
    with pytest.raises(ValueError, match=re.escape(message)):
        network.partial_fit(batch, layer)
    assert same(network.training_state_dict(), before)


@pytest.mark.parametrize(
    ("name", "level", "changes", "message"),
    [
        ("gff", "graph", {}, "but a stream does not tell when a layer is finished; give layer="),
        ("gff", "graph", {"negatives": AllNegatives(redraw=False)}, "a stream has no set of training graphs"),
        ("top-to-input", "node", {}, "continues from the activations of the same graph"),
    ],
)
def test_methods_that_need_all_graphs_are_refused(name, level, changes, message):
    network = Network(small(name, level, **changes), 6, 2, level)
    with pytest.raises(ValueError, match=re.escape(message)):
        network.partial_fit(BATCHES[0])


def test_batches_of_other_streams_are_named():
    graphs = ShowerGraphStream(["standard", "critical"], "preset", seed=1, validation_showers=10)
    other = ShowerGraphStream("critical", "num_primaries", seed=1, validation_showers=10)
    with pytest.raises(ValueError, match="The batch has no preset; convert batches of the stream of the same graphs"):
        graphs.convert(next(iter(other.stream(batch_size=2))))
    with pytest.raises(ValueError, match="The batch has no x, pos, edge_index, num_primaries, energy"):
        other.convert({"points": X})
    with pytest.raises(ValueError, match="validation_showers: 0 was given, but it must be a whole number from 1"):
        ShowerGraphStream("critical", "num_primaries", validation_showers=0)


def test_labels_are_0_or_1():
    network = Network(preset("best", "graph", "multi-label").replace(layers=1), 6, 2)
    network.partial_fit(a_batch(target=torch.ones(16, 2, dtype=torch.int64)))
    with pytest.raises(ValueError, match="Multi-label targets must be 0 or 1 for each label, but one is 2"):
        network.partial_fit(a_batch(target=torch.full((16, 2), 2)))


@pytest.mark.parametrize("mask", [torch.arange(1), torch.ones(1) > 0, torch.ones(2, 3) > 0, [True, False]])
def test_masks_of_nodes_are_bool(mask):
    network = Network(small("best", "node"), 6, 2, "node")
    with pytest.raises(ValueError, match=re.escape("train_mask must be a bool tensor of shape (2,), got")):
        network.partial_fit(Data(x=X, edge_index=EDGES, y=torch.tensor([0, 1]), train_mask=mask))


def test_greedy_methods_train_the_given_layer():
    network = Network(preset("gff").replace(layers=2), 6, 2)
    assert [step.layer for step in network.partial_fit(BATCHES[0], layer=1)] == [1]


def test_batch_normalisation_requires_two_graphs():
    network = Network(small("best", "graph"), 6, 2)
    with pytest.raises(ValueError, match="Batch normalisation requires at least two graphs"):
        network.partial_fit(triangles_or_trees(1)[0])
    layers = Network(small("best", "graph", normalisation="layer"), 6, 2)
    assert [step.units for step in layers.partial_fit(triangles_or_trees(1)[0])] == [1, 1, 1]


@pytest.mark.parametrize("state", [{}, Network(small("best", "graph"), 6, 2).state_dict(), None])
def test_other_states_are_refused(state):
    with pytest.raises(ValueError, match=re.escape("it must be a result of Network.training_state_dict")):
        Network(small("best", "graph"), 6, 2).load_training_state_dict(state)
