"""Tests of top-down methods against a dense implementation."""

import copy

import pytest
from small_graphs import make_trainer

from supa_gff import GraphSet, Network, preset, update_rule
from supa_learning import metrics

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
pytest.importorskip("torch_geometric", reason="PyTorch Geometric is not installed")

NODES, CLASSES = 40, 2
TRAIN, VALID, TEST = torch.arange(0, 20), torch.arange(20, 30), torch.arange(30, 40)
NAMES = ["top-to-input", "top-to-loss"]


def made(seed: int = 0, edges: int = 100) -> GraphSet:
    from torch_geometric.data import Data

    random = torch.Generator().manual_seed(seed)
    y = torch.arange(NODES) % CLASSES
    ends = torch.randint(NODES // 2, (2, edges), generator=random) * 2 + torch.randint(2, (edges,), generator=random)
    x = torch.rand((NODES, 5), generator=random)
    x[:, 0] += 0.3 * y
    return GraphSet.of(
        [Data(x=x, edge_index=torch.cat([ends, ends.flip(0)], 1), y=y)], level="node", num_outputs=CLASSES
    )


def method(name: str, **changes):
    return preset(name, "node").replace(
        **{"layers": 3, "hidden_channels": 8, "epochs": 80, "learning_rate": 1e-2, **changes}
    )


def dense_operator(network, batch):
    """Return the normalised adjacency matrix of nodes and class nodes, with self-loops."""
    size = NODES + CLASSES
    adjacency = torch.zeros(size, size)
    for u, v in batch.edge_index.t().tolist():
        if u != v:
            adjacency[v, u] += 1
    for node in range(NODES):
        if batch.known_labels[node] >= 0:
            adjacency[node, NODES + batch.known_labels[node]] = adjacency[NODES + batch.known_labels[node], node] = 1
    adjacency += torch.eye(size)
    scale = adjacency.sum(1).rsqrt()
    return scale[:, None] * adjacency * scale[None]


def unit(x):
    return x / (x.norm(dim=1, keepdim=True) + 1e-8)


def dense(network, layer, operator, x):
    conv = network.layer(layer).conv
    return (operator @ x @ conv.lin.weight.t() + conv.bias).relu()


def dense_start(network, operator, batch):
    """Return the initial activations, followed by the known labels."""
    labels = torch.full((NODES + CLASSES, CLASSES), 1 / CLASSES)
    labels[TRAIN] = torch.eye(CLASSES)[batch.known_labels[TRAIN]]
    labels[NODES:] = torch.eye(CLASSES)
    states = [torch.cat([batch.x, network.class_nodes])]
    for layer, above in enumerate([8, 8, CLASSES]):
        x = torch.cat([unit(states[-1]), torch.zeros(NODES + CLASSES, above)], 1)
        states.append(dense(network, layer, operator, x))
    return [*states, labels]


def dense_time_step(network, operator, states):
    """Compute a time step, with even layers before the odd one."""
    old = list(states)
    for layer in (0, 2):
        x = torch.cat([unit(old[layer]), unit(old[layer + 2])], 1)
        states[layer + 1] = dense(network, layer, operator, x)
    states[2] = dense(network, 1, operator, torch.cat([unit(states[1]), unit(states[3])], 1))


@torch.no_grad()
def test_scores_by_input_equal_dense_implementation():
    graphs = made()
    network = Network.for_graphs(method("top-to-input"), graphs)
    batch = graphs.batch(TEST, TRAIN)
    operator = dense_operator(network, batch)
    states = dense_start(network, operator, batch)
    total = torch.zeros(3, len(TEST), CLASSES)
    for time in range(10):
        dense_time_step(network, operator, states)
        if time >= 2:
            total += torch.stack([(h[TEST] @ h[NODES:].t()).softmax(1) for h in states[1:4]])
    found = network.layer_scores(batch)
    assert torch.allclose(found.exp(), total / 8, atol=1e-5)
    assert torch.allclose(network.aggregate(found), (total / 8).sum(0), atol=1e-5)


def test_step_continues_from_previous_activations():
    graphs = made()
    rule = update_rule(Network.for_graphs(method("top-to-input", weight_decay=0.0), graphs))
    rule.optimisers.set_learning_rate(range(3), 0.0)
    batch = graphs.batch(TRAIN, TRAIN)
    operator = dense_operator(rule.network, batch)
    states = dense_start(rule.network, operator, batch)
    for _ in range(3):
        rule.step(batch)
        dense_time_step(rule.network, operator, states)
    for found, expected in zip(rule.activations[1:], states[1:], strict=True):
        assert torch.allclose(found[0], expected, atol=1e-5)


def test_activations_by_loss_have_unit_length():
    graphs = made()
    rule = update_rule(Network.for_graphs(method("top-to-loss"), graphs))
    rule.step(graphs.batch(TRAIN, TRAIN))
    for h in rule.activations:
        length = h.norm(dim=2)
        assert torch.allclose(length, (length > 0).float(), atol=1e-5)


@torch.no_grad()
def test_scores_by_loss_equal_dense_implementation():
    graphs = made()
    network = Network.for_graphs(method("top-to-loss"), graphs)
    batch = graphs.batch(TEST, TRAIN)
    operator = dense_operator(network, batch)
    states = [unit(torch.cat([batch.x, network.class_nodes]))]
    plain = []
    for layer in range(3):
        plain.append(dense(network, layer, operator, states[-1]))
        states.append(unit(plain[-1]))
    means = [
        (plain[0] + states[2] + states[3]) / 3,
        (plain[1] + states[3]) / 2,
        plain[2],
    ]
    expected = torch.stack([h[TEST] @ h[NODES:].t() for h in means])
    assert torch.allclose(network.layer_scores(batch), expected, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_layer_is_updated_by_its_own_loss_only(name):
    graphs = made()
    network = Network.for_graphs(method(name), graphs)
    rule = update_rule(network)
    rule.step(graphs.batch(TRAIN, TRAIN))
    for layer in range(3):
        assert all(p.grad is None for p in network.layer(layer).parameters())
    states = rule.activations
    assert states is not None
    assert not any(state.requires_grad for state in states)


def test_gradients_by_loss_are_clipped_to_norm_one():
    graphs = made()
    rule = update_rule(Network.for_graphs(method("top-to-loss"), graphs))
    lengths = []
    for layer in range(3):
        weights = list(rule.network.layer(layer).parameters())
        for weight in weights:
            weight.data *= 30
        rule.optimisers.optimiser(layer).register_step_pre_hook(
            lambda *_, w=weights: lengths.append(float(torch.cat([p.grad.flatten() for p in w]).norm()))
        )
    rule.step(graphs.batch(TRAIN, TRAIN))
    assert max(lengths) == pytest.approx(1, abs=1e-4)  # without clipping it would be larger


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("layers", [1, 2, 3])
def test_top_down_methods_exceed_majority_class(name, layers):
    graphs = made()
    torch.manual_seed(0)
    network = Network.for_graphs(method(name, layers=layers), graphs)
    make_trainer(network, graphs, TRAIN, VALID).run()
    batch = graphs.batch(TEST, TRAIN)
    majority = float(torch.bincount(batch.target).max()) / len(TEST)
    assert metrics.accuracy(network(batch), batch.target) >= majority + 0.2


@pytest.mark.parametrize("name", NAMES)
def test_resumed_training_is_exact(name):
    graphs = made()

    saved = []

    def trainer():
        torch.manual_seed(0)
        network = Network.for_graphs(method(name, epochs=12), graphs)
        # Training changes tensors in place, so the state is copied.
        keep = lambda t, epoch: saved.append(copy.deepcopy(t.state_dict())) if epoch.epoch == 4 else None  # noqa: E731
        return make_trainer(network, graphs, TRAIN, VALID, on_epoch=keep)

    whole = trainer()
    whole.run()
    resumed = trainer()
    resumed.load_state_dict(saved[0])
    resumed.run()
    assert [epoch.train for epoch in resumed.state.history] == [epoch.train for epoch in whole.state.history]


def test_graphs_without_edges_train():
    graphs = made(edges=0)
    for name in NAMES:
        network = Network.for_graphs(method(name, epochs=6), graphs)
        make_trainer(network, graphs, TRAIN, VALID).run()
        assert network(graphs.batch(TEST, TRAIN)).shape == (10, CLASSES)


def test_invalid_arguments_raise():
    graphs = made()
    with pytest.raises(ValueError, match="Prototypes"):
        preset("mono-forward", "node").replace(top_down="loss")
    network = Network.for_graphs(method("top-to-loss"), graphs)
    with pytest.raises(ValueError, match="must be None for a method with top_down"):
        update_rule(network).step(graphs.batch(TRAIN, TRAIN), layer=0)
