"""Tests of networks with all parts, and of training loops with PyTorch Geometric's loaders."""

import re

import pytest
import torch
from small_graphs import make_trainer, presets, small, task, triangles_or_trees, two_communities
from torch_geometric.data import Data
from torch_geometric.loader import DataLoader

from supa_gff import Batch, GraphSet, Method, Network, update_rule
from supa_gff.convolutions import CONVOLUTIONS
from supa_gff.heads import Head
from supa_gff.losses import SquaredError
from supa_gff.negatives import Uniform
from supa_gff.training.graph_task import GraphTask
from supa_gff.updates.rule import UpdateRule
from supa_learning import Trainer


def trained(method: Method, level: str = "graph", count: int = 24, seed: int = 0) -> tuple[Network, Trainer[GraphTask]]:
    made, train, valid = task(level, count)
    if isinstance(made, GraphSet):
        network = Network.for_graphs(method, made, seed=seed)
    else:
        network = Network(method, made.train.x.shape[1], 1, "link", seed=seed)
    trainer = make_trainer(network, made, train, valid, seed=seed)
    trainer.run()
    return network, trainer


def weights(network: Network) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in network.state_dict().items()}


def assert_equal(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> None:
    assert a.keys() == b.keys()
    for name, value in a.items():
        assert torch.equal(value, b[name]), name


@pytest.mark.parametrize(("name", "level"), presets())
def test_same_seed_is_bitwise_reproducible(name, level):
    method = small(name, level, epochs=2, layers=2)
    first, _ = trained(method, level, seed=5)
    second, _ = trained(method, level, seed=5)
    assert_equal(weights(first), weights(second))


def test_different_seeds_differ():
    first, _ = trained(small("gff", "graph", epochs=2))
    second, _ = trained(small("gff", "graph", epochs=2), seed=1)
    assert not torch.equal(first.layer(0).conv.lin.weight, second.layer(0).conv.lin.weight)


@pytest.mark.parametrize("conv", CONVOLUTIONS)
@pytest.mark.parametrize("name", ["best", "best-goodness", "gff"])
def test_each_convolution_trains(conv, name):
    network, trainer = trained(small(name, "graph", conv=conv, epochs=2, layers=2))
    assert all(torch.isfinite(value).all() for value in network.state_dict().values())
    assert trainer.state.finished


class Own(torch.nn.Module):
    """Mean over neighbours with a trained weight."""

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(in_features, out_features)

    def forward(self, x: torch.Tensor, edge_index: torch.Tensor) -> torch.Tensor:
        total = torch.zeros_like(x).index_add(0, edge_index[1], x[edge_index[0]])
        return self.linear(x + total)


@pytest.mark.parametrize("name", ["best", "gff", "symba"])
def test_custom_convolution_equals_named_convolution(name):
    made = {}
    for conv in (Own, "gin"):
        torch.manual_seed(0)
        graphs = GraphSet.of(triangles_or_trees(12))
        network = Network.for_graphs(small(name, "graph", conv=conv, layers=1), graphs)
        if conv == "gin":
            network.layer(0).conv.nn = torch.nn.Linear(network.layer(0).conv.nn[0].in_features, 16)
        own = network.layer(0).conv.linear if conv is Own else network.layer(0).conv.nn
        torch.nn.init.constant_(own.weight, 0.1)
        torch.nn.init.zeros_(own.bias)
        torch.manual_seed(1)
        for part in network.layer(0).scorer.modules():
            if isinstance(part, torch.nn.Linear):
                part.reset_parameters()
        made[conv] = network.layer_scores(graphs.batch(torch.arange(12)))
    assert torch.allclose(made[Own], made["gin"], atol=1e-6)


@pytest.mark.parametrize("normalisation", ["length", "batch", "layer", "graph", "none"])
@pytest.mark.parametrize("name", ["best", "gff"])
@pytest.mark.parametrize("residual", [False, True])
def test_each_normalisation_trains(normalisation, name, residual):
    network, _ = trained(small(name, "graph", normalisation=normalisation, residual=residual, epochs=2, layers=2))
    assert all(torch.isfinite(value).all() for value in network.state_dict().values())


def test_layer_equals_formula():
    """Check normalisation, aggregation, activation function and residual connection."""
    torch.manual_seed(0)
    graphs = GraphSet.of(triangles_or_trees(3))
    method = Method(
        score=Head("linear"), conv="gcn", normalisation="length", residual=True, layers=2, hidden_channels=6
    )
    network = Network.for_graphs(method, graphs).eval()
    batch = graphs.batch(torch.arange(3))
    x, scores = batch.x, []
    for k in range(2):
        layer = network.layer(k)
        x = x + layer.conv(x / (x.norm(dim=1, keepdim=True) + 1e-8), batch.edge_index).relu()
        pooled = torch.stack([x[batch.graph == g].sum(0) for g in range(3)])
        scores.append(layer.scorer.head(pooled))
    assert torch.allclose(network.layer_scores(batch), torch.stack(scores), atol=1e-5)


def test_residual_excludes_the_injected_label():
    # Six features and two label channels have the width of the layer, but the residual is not added.
    graphs = GraphSet.of(triangles_or_trees(4))
    for width, added in ((6, True), (8, False)):
        network = Network.for_graphs(small("symba", "graph", residual=True, hidden_channels=width), graphs)
        assert [network.layer(k).residual for k in range(3)] == [added, True, True]
        update_rule(network).step(graphs.batch(torch.arange(4)))


def test_collaboration_adds_scores_of_layers_below(monkeypatch):
    seen, loss = [], UpdateRule.loss

    def watched(self, layer, scores, batch, candidates, below=None):
        seen.append((scores.detach(), below))
        return loss(self, layer, scores, batch, candidates, below)

    monkeypatch.setattr(UpdateRule, "loss", watched)
    graphs = GraphSet.of(triangles_or_trees(10))
    network = Network.for_graphs(small("gff", "graph", collaboration=True, schedule="joint"), graphs)
    update_rule(network).step(graphs.batch(torch.arange(10)))
    (first, none), (second, below), (_, both) = seen
    assert none is None
    assert torch.equal(below, first)
    assert torch.allclose(both, first + second)
    seen.clear()
    update_rule(network).step(graphs.batch(torch.arange(10)), layer=2)
    ((_, below),) = seen
    assert below.shape == first.shape


def regression(schedule: str = "joint", **changes: object) -> tuple[float, float]:
    """Train to count the edges of graphs; return the error and the error of a constant prediction."""
    data = triangles_or_trees(60)
    for graph in data:
        graph.y = torch.tensor([graph.num_edges / 10.0])
    graphs = GraphSet.of(data)
    torch.manual_seed(0)
    method = Method(
        score=Head("linear"), loss=SquaredError(), schedule=schedule, layers=2, hidden_channels=16, epochs=25,
        learning_rate=1e-2, batch_size=16, **changes,
    )  # fmt: skip
    network = Network.for_graphs(method, graphs)
    make_trainer(network, graphs, torch.arange(40), torch.arange(40, 60)).run()
    batch = graphs.batch(torch.arange(40, 60))
    predicted = network.predict(batch)
    assert predicted.shape == (20,)
    return float((predicted - batch.target).square().mean().sqrt()), float(graphs.target.std())


@pytest.mark.parametrize(
    ("schedule", "changes"),
    [
        ("greedy", {}), ("joint", {}), ("overlapping-pairs", {}), ("backprop", {}),
        ("joint", {"collaboration": True}), ("greedy", {"collaboration": True}), ("joint", {"layers_used": "chosen"}),
    ],
)  # fmt: skip
def test_regression_learns(schedule, changes):
    error, spread = regression(schedule, **changes)
    assert error < 0.5 * spread


@pytest.mark.parametrize("layers_used", ["all", "last", "chosen"])
@pytest.mark.parametrize("aggregate", ["scores", "probabilities"])
@pytest.mark.parametrize("schedule", ["greedy", "joint"])
def test_layers_used_are_aggregated(layers_used, aggregate, schedule):
    network, trainer = trained(
        small("best", "graph", layers_used=layers_used, aggregate=aggregate, schedule=schedule, epochs=2)
    )
    layer_mask = network.layer_mask.tolist()
    expected = {"all": [True] * 3, "last": [False, False, True]}
    if layers_used != "chosen":
        assert layer_mask == expected[layers_used]
    batch = trainer.task.data.graphs.batch(torch.arange(24))
    scores = network.layer_scores(batch)
    chosen = [scores[k].softmax(1) if aggregate == "probabilities" else scores[k] for k in range(3) if layer_mask[k]]
    assert torch.allclose(network(batch), sum(chosen), atol=1e-6)
    assert torch.equal(network.predict(batch), sum(chosen).argmax(1))


def test_chosen_layers_have_best_validation_score():
    network, trainer = trained(small("best", "graph", layers_used="chosen", epochs=2, learning_rate=0.01))
    _, _, valid = task("graph", 24)
    batch = trainer.task.data.graphs.batch(valid)
    scores = network.layer_scores(batch)

    def right(first: int, end: int) -> float:
        return float((scores[first:end].sum(0).argmax(1) == batch.target).float().mean())

    ranges = {(a, b): right(a, b) for a in range(3) for b in range(a + 1, 4)}
    layer_mask = network.layer_mask.tolist()
    chosen = layer_mask.index(True), 3 - layer_mask[::-1].index(True)
    assert all(layer_mask[chosen[0] : chosen[1]])
    assert ranges[chosen] == max(ranges.values())
    assert chosen[1] - chosen[0] == max(b - a for (a, b), v in ranges.items() if v == ranges[chosen])


def test_aggregate_of_first_layers_uses_layer_mask():
    network = Network(small("best", "graph", layers_used="last"), 6, 2)
    scores = torch.randn(3, 5, 2)
    assert torch.equal(network.aggregate(scores), scores[2])
    assert torch.equal(network.aggregate(scores[:2]), scores[1])  # no layer is selected, so the last one is used
    network.set_layer_mask(0, 2)
    assert torch.allclose(network.aggregate(scores), scores[0] + scores[1])
    assert torch.equal(network.aggregate(scores[:1]), scores[0])


@pytest.mark.parametrize("training", [True, False])
def test_layer_scores_use_evaluation_mode_and_restore_mode(training):
    graphs = GraphSet.of(triangles_or_trees(6))
    network = Network.for_graphs(small("best", "graph", dropout=0.5), graphs)
    batch = graphs.batch(torch.arange(6))
    expected = network.eval().layer_scores(batch)
    assert torch.equal(network.train(training).layer_scores(batch), expected)
    assert all(module.training == training for module in network.modules())


def gradients_of_backprop(**changes: object) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    graphs = GraphSet.of(triangles_or_trees(12))
    torch.manual_seed(0)
    network = Network.for_graphs(small("backprop", "graph", dropout=0.2, **changes), graphs)
    seen, rule = {}, update_rule(network)
    for layer in range(3):
        rule.optimisers.optimiser(layer).register_step_pre_hook(
            lambda *_, k=layer: seen.update(
                {f"{k}.{n}": p.grad.clone() for n, p in network.layer(k).named_parameters()}
            )
        )
    torch.manual_seed(1)
    for _ in range(2):
        rule.step(graphs.batch(torch.arange(12)))
    return seen, weights(network)


def test_checkpointing_leaves_results_unchanged():
    plain, after = gradients_of_backprop()
    kept, after_kept = gradients_of_backprop(checkpointing=True)
    assert_equal(plain, kept)
    assert_equal(after, after_kept)  # batch normalisation also counts each batch once


@pytest.mark.parametrize("conv", ["gin", "gcn", "gat"])
def test_edge_dropout_ignores_edges_in_training_only(conv):
    graphs = GraphSet.of(triangles_or_trees(6))
    batch = graphs.batch(torch.arange(6))
    network = Network.for_graphs(small("best", "graph", conv=conv, edge_dropout=0.5, normalisation="none"), graphs)
    plain = Network.for_graphs(small("best", "graph", conv=conv, normalisation="none"), graphs)
    torch.testing.assert_close(network.layer_scores(batch), plain.layer_scores(batch))
    layer, topology = network.layer(0).train(), batch.topology(None)
    drawn = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        drawn.append(layer(batch.x[None], topology))
    torch.manual_seed(1)
    thin = topology.thinned(0.5)
    assert 0 < thin.edge_index.shape[1] < topology.edge_index.shape[1]
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])
    torch.testing.assert_close(drawn[2], layer.eval()(batch.x[None], thin))


@pytest.mark.parametrize("schedule", ["backprop", "deep-supervision"])
def test_accumulated_gradients_equal_those_of_the_whole_batch(schedule, monkeypatch):
    graphs, found = GraphSet.of(triangles_or_trees(20)), []
    for parts in (1, 3):
        parts_of = {"score": Head("mlp"), "normalisation": "layer", "schedule": schedule, "accumulation": parts}
        network = Network.for_graphs(small("backprop", "graph", **parts_of), graphs)
        rule = update_rule(network)
        monkeypatch.setattr(rule.optimisers, "step", lambda _layers: None)  # it would delete the gradients
        stats = rule.step(graphs.batch(torch.arange(20)))
        found.append(([weight.grad for weight in network.parameters()], [step.values for step in stats]))
    torch.testing.assert_close(found[1], found[0])


def test_backpropagation_uses_one_loss_of_the_aggregated_scores():
    for layers_used in ("all", "last"):
        graphs = GraphSet.of(triangles_or_trees(12))
        torch.manual_seed(0)
        method = small("backprop", "graph", layers_used=layers_used, score=Head("linear"), normalisation="layer")
        network = Network.for_graphs(method, graphs)
        batch = graphs.batch(torch.arange(12))
        inputs, scores = network.inputs(batch, None), []
        x = inputs.x
        for k in range(3):
            x = network.layer(k)(x, inputs.topology)
            scores.append(network.layer(k).score(x, inputs.topology, batch))
        voted = scores[-1] if layers_used == "last" else sum(scores)
        loss = torch.nn.functional.cross_entropy(voted, batch.target)
        (expected,) = torch.autograd.grad(loss, [network.layer(0).conv.nn[0].weight])
        seen, rule = [], update_rule(network)
        rule.optimisers.optimiser(0).register_step_pre_hook(
            lambda *_, n=network, s=seen: s.append(n.layer(0).conv.nn[0].weight.grad.clone())
        )
        (step,) = rule.step(batch)
        assert step.loss == pytest.approx(loss.item(), rel=1e-5)
        assert torch.allclose(seen[0], expected, atol=1e-6)


@pytest.mark.parametrize("name", ["gff", "symba", "best", "deeper-forward", "backprop"])
def test_update_rule_trains_with_pyg_loader(name):
    torch.manual_seed(0)
    data = triangles_or_trees(24)
    network = Network(small(name, "graph"), 6, 2)
    rule = update_rule(network)
    for loaded in DataLoader(data, batch_size=8, shuffle=True):
        steps = rule.step(loaded)
        assert [step.layer for step in steps] == ([2] if name == "backprop" else [0, 1, 2])
        assert all(step.units == 8 and step.loss > 0 and 0 <= step.accuracy <= 1 for step in steps)
    assert network.predict(next(iter(DataLoader(data, batch_size=24)))).shape == (24,)
    assert network(data[0]).shape == (1, 2)


def test_step_on_data_equals_step_on_batch():
    data = triangles_or_trees(6)
    graphs = GraphSet.of(data)
    after = []
    for given in (next(iter(DataLoader(data, batch_size=6))), graphs.batch(torch.arange(6))):
        torch.manual_seed(0)
        network = Network(small("gff", "graph"), 6, 2)
        update_rule(network).step(given)
        after.append(weights(network))
    assert_equal(*after)


def test_step_trains_on_nodes_of_train_mask():
    data = two_communities()
    data.train_mask = torch.arange(80) % 4 == 0
    network = Network(small("label-appending", "node"), 8, 2, "node")
    assert [step.units for step in update_rule(network).step(data)] == [20, 20, 20]


GRAPHS = triangles_or_trees(4)


def a_batch(**changes: object) -> Batch:
    return Batch(**{**vars(GraphSet.of(GRAPHS).batch(torch.arange(4))), **changes})


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (lambda rule: rule.step(a_batch(x=torch.ones(4, 3))), "The network expects 6 features per node, got 3."),
        (lambda rule: rule.step(a_batch(target=torch.ones(4))), "The targets are floats; use loss=SquaredError()"),
        (lambda rule: rule.step(a_batch(target=torch.tensor([0, 1, 2, 0]))), "Labels must be between 0 and 1"),
        (lambda rule: rule.step(a_batch(), layer=3), "layer: 3 was given, but it must be a whole number from 0 to 2"),
        (lambda rule: rule.step(a_batch(), layer=-1), "layer: -1 was given"),
        (lambda rule: rule.step(GRAPHS[0]), "Batch normalisation requires at least two graphs or nodes"),
        (lambda rule: rule.step(Data(x=torch.ones(2, 6))), "but edge_index, y are missing"),
    ],
)  # fmt: skip
def test_invalid_batches_raise(act, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        act(update_rule(Network(small("best", "graph"), 6, 2)))


def members(**changes: torch.Tensor) -> None:
    graphs = GraphSet.of(GRAPHS)
    given = {"train": torch.tensor([0, 1]), "valid": torch.tensor([2, 3]), **changes}
    make_trainer(Network.for_graphs(small("best", "graph"), graphs), graphs, **given)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train": None}, "train must be a (count,) tensor of int64 indices, got None."),
        ({"train": [0, 1]}, "train must be a (count,) tensor of int64 indices, got a list. Convert others by torch.as"),
        ({"valid": torch.zeros(0, dtype=torch.int64)}, "valid must have at least one index."),
        (
            {"train": torch.tensor([True, False, True, True])},
            "got bool of shape (4,). Convert others by torch.as_tensor, and a mask",
        ),
        ({"valid": torch.tensor([1, 4])}, "valid must have indices between 0 and 3, but they range from 1 to 4."),
        ({"train": torch.tensor([-1])}, "train must have indices between 0 and 3"),
    ],
)
def test_invalid_indices_raise(changes, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        members(**changes)


def test_lists_of_graphs_are_not_sets():
    message = re.escape("A list was given as graphs, but they must be a GraphSet or DiskGraph. GraphSet.of converts")
    with pytest.raises(ValueError, match=message):
        Network.for_graphs(small("best", "graph"), GRAPHS)
    network = Network(small("best", "graph"), 6, 2)
    with pytest.raises(ValueError, match=message):
        make_trainer(network, GRAPHS, torch.tensor([0, 1]), torch.tensor([2, 3]))


def test_training_indices_of_regression_are_checked():
    graphs = GraphSet.of(GRAPHS)
    with pytest.raises(ValueError, match="train must have indices between 0 and 3, but they range from 0 to 4"):
        Network.for_graphs(small("best", "graph"), graphs, train=torch.arange(5))


def test_network_for_other_graphs_raises():
    graphs = GraphSet.of(GRAPHS)
    with pytest.raises(
        ValueError, match="The network has 5 features, 2 outputs and graph level, but the graphs have 6 features, 2"
    ):
        make_trainer(Network(small("best", "graph"), 5, 2), graphs, torch.arange(2), torch.arange(2, 4))


def test_diverged_regression_raises():
    data = triangles_or_trees(12)
    for graph in data:
        graph.y = torch.tensor([1e30])
    graphs = GraphSet.of(data)
    method = Method(score=Head("linear"), loss=SquaredError(), layers=1, epochs=2, learning_rate=1e20)
    network = Network.for_graphs(method, graphs)
    with pytest.raises(ValueError, match="no finite score: training diverged"):
        make_trainer(network, graphs, torch.arange(8), torch.arange(8, 12)).run()


def test_diverged_classification_raises():
    graphs = GraphSet.of(triangles_or_trees(12))
    method = Method(score=Head("linear"), normalisation="none", layers=1, epochs=2, learning_rate=1e30)
    network = Network.for_graphs(method, graphs)
    with pytest.raises(ValueError, match="no finite score: training diverged"):
        make_trainer(network, graphs, torch.arange(8), torch.arange(8, 12)).run()


def test_prediction_does_not_require_targets():
    graphs = triangles_or_trees(4)
    torch.manual_seed(0)
    network = Network.for_graphs(small("best", "graph"), GraphSet.of(graphs))
    expected = network(graphs[0])
    graphs[0].y = None
    assert torch.equal(network(graphs[0]), expected)
    with pytest.raises(ValueError, match="but y is missing"):
        update_rule(network).step(graphs[0])
    graphs[0].x = graphs[0].x[:, :1]
    with pytest.raises(ValueError, match="The network expects 6 features per node, got 1"):
        network.predict(graphs[0])


def test_class_nodes_with_several_graphs_raise():
    made = GraphSet.of(triangles_or_trees(4))
    batch = made.batch(torch.arange(4))
    network = Network(small("virtual-nodes", "node"), made.num_features, 2, "node")
    nodes = Batch(**{**vars(batch), "target": torch.zeros(len(batch.x), dtype=torch.int64)})
    with pytest.raises(ValueError, match="Class nodes at node level require a batch of one graph"):
        network(nodes)


def test_unmatched_pairs_raise():
    made, _, _ = task("link")
    network = Network(small("best", "link"), 8, 1, "link")
    for target in (torch.ones(6), torch.zeros(6), torch.tensor([1.0, 1, 1, 1, 0, 0])):
        batch = Batch(**{**vars(made.train), "target": target, "units": made.train.units[:, :6]})
        with pytest.raises(ValueError, match=r"a positive multiple .*, got \d linked pairs and \d unlinked pairs"):
            update_rule(network).step(batch)
    batch = Batch(**{**vars(made.train), "target": torch.tensor([1.0]), "units": made.train.units[:, :1]})
    with pytest.raises(ValueError, match="got 1 linked pair and 0 unlinked pairs"):
        update_rule(network).step(batch)


def test_step_accepts_drawn_candidates():
    graphs = GraphSet.of(triangles_or_trees(9, classes=3))
    network = Network.for_graphs(small("gff", "graph", negatives=Uniform(1)), graphs)
    batch = graphs.batch(torch.arange(9))
    candidates = update_rule(network).draw_candidates(batch)
    assert torch.equal(candidates[:, 0], batch.target)
    first = [step.loss for step in update_rule(network).step(batch, candidates=candidates)]
    assert all(loss > 0 for loss in first)
    assert update_rule(Network(small("best", "graph"), 6, 3)).draw_candidates(batch) is None
