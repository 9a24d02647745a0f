"""Tests of locality: the update and the gradient of a layer do not affect other layers."""

import copy
import re

import pytest
import torch
from gradient_graphs import layers_reached, reached
from same_values import same
from small_graphs import make_trainer, presets, small, task, triangles_or_trees, two_communities

from supa_gff import Batch, GraphSet, Method, Network, preset, update_rule, write_disk_graph
from supa_gff.heads import Head
from supa_gff.label_injection import VirtualNodes
from supa_gff.losses import Softmax
from supa_gff.names import EDGE_CONVOLUTIONS
from supa_gff.negatives import AllNegatives, Hard, Uniform
from supa_gff.stacked.batches import PaddedBatches
from supa_gff.stacked.network import StackedNetwork
from supa_gff.updates.rule import UpdateRule


def batch_of(level: str) -> Batch:
    made, train, _ = task(level)
    if isinstance(made, GraphSet):
        return made.batch(train, train) if made.transductive else made.batch(train[:12])
    return made.train


def rule_and_batch(method: Method, level: str) -> tuple[UpdateRule, Batch]:
    torch.manual_seed(0)
    batch = batch_of(level)
    out_channels = 1 if level == "link" else 2
    return update_rule(Network(method, batch.x.shape[1], out_channels, level, torch.tensor([0, 4, 4, 4]))), batch


def bits(rule: UpdateRule, layer: int) -> dict[str, object]:
    """Return copies of the weights, statistics, gradients and optimiser state of a layer."""
    module = rule.network.layer(layer)
    gradients = {name: None if p.grad is None else p.grad.clone() for name, p in module.named_parameters()}
    return {
        "weights": {name: value.clone() for name, value in module.state_dict().items()},
        "gradients": gradients,
        "optimiser": copy.deepcopy(rule.optimisers.optimiser(layer).state_dict()),
    }


def losses_of_step(
    rule: UpdateRule, batch: Batch, monkeypatch: pytest.MonkeyPatch, step: object = None, **how: object
) -> list[set[int]]:
    """Take a step of the rule, or another one, and return the layers that each call of backward reaches."""
    spans = []
    backward = torch.Tensor.backward

    def watched(self: torch.Tensor, *args: object, **kwargs: object) -> None:
        spans.append(layers_reached(rule.network, self))
        backward(self, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(torch.Tensor, "backward", watched)
        (step or rule.step)(batch, **how)
    return spans


def local_methods() -> list[object]:
    return [
        pytest.param(name, level, id=f"{name}-{level}")
        for name, level in presets()
        if preset(name, level).schedule in ("greedy", "joint") and preset(name, level).top_down is None
    ]


REDRAWN = {name: {"negatives": AllNegatives()} for name in ("label-appending", "virtual-nodes")}
"""Changes of the presets that draw their negative labels once, which a stream cannot do."""


@pytest.mark.parametrize(("name", "level"), local_methods())
def test_update_of_one_layer_leaves_other_layers_bitwise_unchanged(name, level):
    rule, batch = rule_and_batch(small(name, level), level)
    rule.step(batch)  # initialise the states of the optimisers
    for layer in range(3):
        held = {p for group in rule.optimisers.optimiser(layer).param_groups for p in group["params"]}
        assert held == {p for p in rule.network.layer(layer).parameters() if p.requires_grad}
        others = [k for k in range(3) if k != layer]
        before = {k: bits(rule, k) for k in range(3)}
        rule.network.train()
        rule.step(batch, layer=layer)
        for other in others:
            assert same(before[other], bits(rule, other)), f"the step of layer {layer} changed layer {other}"
        assert not same(before[layer]["weights"], bits(rule, layer)["weights"])
        assert not same(before[layer]["optimiser"], bits(rule, layer)["optimiser"])


@pytest.mark.parametrize(("name", "level"), local_methods())
def test_no_autograd_graph_spans_two_layers(name, level, monkeypatch):
    rule, batch = rule_and_batch(small(name, level), level)
    # Check the update of each single layer and the update of all layers.
    for layer in range(3):
        assert losses_of_step(rule, batch, monkeypatch, layer=layer) == [{layer}]
    assert losses_of_step(rule, batch, monkeypatch) == [{0}, {1}, {2}]
    assert all(p.grad is None for p in rule.network.parameters())


@pytest.mark.parametrize(("name", "level"), local_methods())
def test_local_loss_has_gradients_for_all_weights_of_its_layer_only(name, level):
    rule, batch = rule_and_batch(small(name, level), level)
    rule.network.train()
    network, candidates = rule.network, rule.draw_candidates(batch)
    labels = network.node_labels(batch, candidates) if network.method.label_conditioned else None
    inputs = network.inputs(batch, labels)
    for layer in range(3):
        # The output of a layer has a gradient graph. The input of the next layer must not have one.
        h = rule.network.layer(layer)(inputs.x, inputs.topology, inputs.labels)
        loss, _ = rule.loss(layer, rule.network.layer(layer).score(h, inputs.topology, batch), batch, candidates)
        assert reached(loss) == {p for p in rule.network.layer(layer).parameters() if p.requires_grad}
        inputs = network.detach_to_next(inputs, h, positive_first=True)
        assert not inputs.x.requires_grad


@pytest.mark.parametrize(("name", "level"), local_methods())
def test_partial_fit_is_local(name, level, monkeypatch):
    rule, batch = rule_and_batch(small(name, level, schedule="joint", **REDRAWN.get(name, {})), level)
    network = rule.network

    def parts() -> list[dict[str, object]]:
        """Return the weights, statistics and optimiser state of each layer."""
        state = network.training_state_dict()
        optimisers = state["incremental"]["rule"]["optimisers"]
        weights = state["weights"].items()
        of_layer = [{key: value for key, value in weights if key.startswith(f"layers.{k}.")} for k in range(3)]
        return [{"weights": of_layer[k], "optimiser": optimisers[k]} for k in range(3)]

    assert losses_of_step(rule, batch, monkeypatch, step=network.partial_fit) == [{0}, {1}, {2}]
    for layer in range(3):
        before = parts()
        assert losses_of_step(rule, batch, monkeypatch, step=network.partial_fit, layer=layer) == [{layer}]
        after = parts()
        assert [k for k in range(3) if not same(before[k], after[k])] == [layer]
        assert not same(before[layer]["optimiser"], after[layer]["optimiser"])


@pytest.mark.parametrize(
    ("name", "level", "changes"),
    [
        ("gff", "graph", {"hypotheses": "sequential"}),
        ("gff", "node", {"hypotheses": "sequential", "negatives": Hard()}),
        ("symba", "graph", {"negatives": Hard(), "collaboration": True}),
        ("best-goodness", "graph", {"negatives": Uniform(), "residual": True}),
        ("best", "graph", {"negatives": Hard(), "collaboration": True}),
        ("best", "graph", {"conv": "gat", "normalisation": "graph", "dropout": 0.2}),
        ("symba", "graph", {"schedule": "overlapping-pairs"}),
    ],
)
def test_other_parts_are_local(name, level, changes, monkeypatch):
    rule, batch = rule_and_batch(small(name, level, **changes), level)
    for layer in range(3):
        before = {k: bits(rule, k) for k in range(3)}
        spans = losses_of_step(rule, batch, monkeypatch, layer=layer)
        assert set(map(frozenset, spans)) == {frozenset({layer})}
        assert all(same(before[k], bits(rule, k)) for k in range(3) if k != layer)


@pytest.mark.parametrize(("name", "order"), [("top-to-input", [0, 2, 1]), ("top-to-loss", [0, 1, 2])])
def test_no_gradient_passes_through_top_down_connections(name, order, monkeypatch):
    rule, batch = rule_and_batch(small(name, "node"), "node")
    assert losses_of_step(rule, batch, monkeypatch) == [{layer} for layer in order]
    before = {layer: bits(rule, layer) for layer in range(3)}
    steps = []
    for layer in range(3):
        held = {p for group in rule.optimisers.optimiser(layer).param_groups for p in group["params"]}
        assert held == {p for p in rule.network.layer(layer).parameters() if p.requires_grad}
        step = rule.optimisers.optimiser(layer).step

        def watched(layer=layer, step=step):
            others = {k: bits(rule, k) for k in range(3) if k != layer}
            step()
            steps.append(layer)
            assert all(same(others[k], bits(rule, k)) for k in others)

        monkeypatch.setattr(rule.optimisers.optimiser(layer), "step", watched)
    rule.step(batch)
    assert steps == order
    assert not any(same(before[k]["weights"], bits(rule, k)["weights"]) for k in range(3))


@pytest.mark.parametrize("kind", ["symba", "best", "gff", "overlapping-pairs"])
def test_overlapping_pairs_span_two_adjacent_layers(kind, monkeypatch):
    rule, batch = rule_and_batch(small(kind, "graph", schedule="overlapping-pairs", layers=5), "graph")
    assert losses_of_step(rule, batch, monkeypatch) == [{0, 1}, {2, 3}, {4}]
    assert losses_of_step(rule, batch, monkeypatch) == [{0}, {1, 2}, {3, 4}]
    assert losses_of_step(rule, batch, monkeypatch) == [{0, 1}, {2, 3}, {4}]


def head_methods() -> list[object]:
    """Return the presets that support regression and multi-label targets, with these targets."""
    return [
        pytest.param(name, level, kind, id=f"{name}-{level}-{kind}")
        for name, level in presets()
        for kind in ("regression", "multi-label")
        if level != "link" and isinstance(preset(name, level).score, Head)
    ]


def rule_of_kind(name: str, level: str, kind: str, **changes: object) -> tuple[UpdateRule, Batch]:
    """Return an update rule with three targets or labels, and a batch of them."""
    rule, batch = rule_and_batch(small(name, level), level)
    loss = preset(name, level, kind).loss
    weights = (1.0, 2.0, 3.0) if kind == "multi-label" else None
    method = rule.network.method.replace(loss=loss, class_weights=weights, **changes)
    target = torch.randn(batch.num_units, 3)
    target = target > 0 if kind == "multi-label" else target
    deg = torch.tensor([0, 4, 4, 4])
    network = Network(method, batch.x.shape[1], 3, level, deg)
    return update_rule(network), Batch(**{**vars(batch), "target": target, "known_labels": None})


@pytest.mark.parametrize(("name", "level", "kind"), head_methods())
def test_losses_of_values_and_labels_are_local(name, level, kind, monkeypatch):
    rule, batch = rule_of_kind(name, level, kind)
    everywhere = losses_of_step(rule, batch, monkeypatch)
    whole = [{0, 1, 2}]
    wanted = {"backprop": whole, "deep-supervision": whole, "overlapping-pairs": [{0, 1}, {2}]}
    whole *= rule.network.method.accumulation
    assert everywhere == wanted.get(rule.network.method.schedule, [{0}, {1}, {2}])
    for layer in range(3):
        before = {k: bits(rule, k) for k in range(3)}
        assert losses_of_step(rule, batch, monkeypatch, layer=layer) == [{layer}]
        assert all(same(before[k], bits(rule, k)) for k in range(3) if k != layer)
        assert not same(before[layer]["weights"], bits(rule, layer)["weights"])


@pytest.mark.parametrize("kind", ["regression", "multi-label"])
def test_scores_of_layers_below_pass_no_gradient_to_them(kind, monkeypatch):
    rule, batch = rule_of_kind("best", "graph", kind, collaboration=True)
    assert losses_of_step(rule, batch, monkeypatch) == [{0}, {1}, {2}]


@pytest.mark.parametrize(
    "changes",
    [
        {"score": Head("linear", pool="moments"), "loss": Softmax(smoothing=0.1)},
        {"score": Head("mlp", pool="max"), "dropout": 0.2},
        {"edge_dropout": 0.2},
        {"edge_dropout": 0.2, "conv": "gat", "schedule": "greedy"},
    ],
)
def test_regularisation_and_heads_on_moments_are_local(changes, monkeypatch):
    method = small("best", "graph", **changes)
    rule, batch = rule_and_batch(method, "graph")
    assert losses_of_step(rule, batch, monkeypatch) == [{0}, {1}, {2}]
    for layer in range(3):
        before = {k: bits(rule, k) for k in range(3)}
        assert losses_of_step(rule, batch, monkeypatch, layer=layer) == [{layer}]
        assert [k for k in range(3) if not same(before[k]["weights"], bits(rule, k)["weights"])] == [layer]


@pytest.mark.parametrize("name", ["best", "gff", "symba", "best-goodness", "deeper-forward"])
def test_weighted_losses_are_local(name, monkeypatch):
    rule, batch = rule_and_batch(small(name, "graph", class_weights=(1.0, 3.0)), "graph")
    assert losses_of_step(rule, batch, monkeypatch) == [{0}, {1}, {2}]


def rule_with_edge_features(name: str, level: str, **changes: object) -> tuple[UpdateRule, Batch]:
    batch = batch_of(level)
    batch = Batch(**{**vars(batch), "edge_attr": torch.randn(batch.edge_index.shape[1], 2)})
    method, deg = small(name, level, **changes), torch.tensor([0, 4, 4, 4])
    return update_rule(Network(method, batch.x.shape[1], 2, level, deg, edge_channels=2)), batch


@pytest.mark.parametrize(
    ("name", "level", "changes"),
    [
        *[("best", "graph", {"conv": conv}) for conv in EDGE_CONVOLUTIONS],
        ("gff", "graph", {"conv": "gin"}),
        ("gff", "graph", {"conv": "gin", "label": VirtualNodes()}),
        ("gff", "graph", {"conv": "gatv2", "hypotheses": "sequential"}),
        ("best-goodness", "graph", {}),
        ("deeper-forward", "graph", {"conv": "pna"}),
        ("symba", "node", {"conv": "transformer"}),
        ("best", "node", {"conv": "gin"}),
        ("single-forward", "node", {"conv": "gatv2"}),
    ],
)
def test_weights_of_edge_features_are_trained_in_their_layer(name, level, changes, monkeypatch):
    rule, batch = rule_with_edge_features(name, level, **changes)
    for layer in range(3):
        before = {k: bits(rule, k) for k in range(3)}
        spans = losses_of_step(rule, batch, monkeypatch, layer=layer)
        assert set(map(frozenset, spans)) == {frozenset({layer})}
        assert all(same(before[k], bits(rule, k)) for k in range(3) if k != layer)
        after, weights = bits(rule, layer)["weights"], before[layer]["weights"]
        of_edges = [key for key in after if re.match(r"conv\.(lin|lin_edge|edge_encoder)\.weight", key)]
        assert of_edges
        assert not any(torch.equal(weights[key], after[key]) for key in of_edges)
    other = Batch(**{**vars(batch), "edge_attr": batch.edge_attr.flip(0)})
    assert not torch.allclose(rule.network(batch), rule.network(other))


@pytest.mark.parametrize("name", ["best", "best-goodness", "overlapping-pairs", "deep-supervision"])
def test_layers_of_stacked_networks_are_as_local_as_those_of_one(name, monkeypatch):
    method = small(name, "graph")
    alone, batch = rule_and_batch(method, "graph")
    stack = StackedNetwork([Network(method, batch.x.shape[1], 2, seed=seed) for seed in range(2)])
    padded = PaddedBatches(GraphSet.of(triangles_or_trees(16)), 2)
    indices, shape = padded.pad([[torch.arange(8)], [torch.arange(8, 16)]])
    together = padded.batch(indices[:, 0], shape)
    kept = torch.ones(3, 2, shape.units, method.hidden_channels, dtype=torch.bool)
    stack.rows.set(together.nodes, together.real, kept)
    rule = update_rule(stack.network)
    assert losses_of_step(rule, together, monkeypatch) == losses_of_step(alone, batch, monkeypatch)
    for layer in range(3):
        before = {k: bits(rule, k) for k in range(3)}
        rule.step(together, layer=layer)
        assert [k for k in range(3) if not same(before[k]["weights"], bits(rule, k)["weights"])] == [layer]


def test_training_on_kept_inputs_on_disk_is_local(tmp_path, monkeypatch):
    # Two processes in a pipeline are checked in test_disk.py.
    made = two_communities()
    graph = write_disk_graph(tmp_path / "graph", [(made.x, made.y)], [made.edge_index])
    method = small("best", "node", schedule="greedy", normalisation="layer", dropout=0.0, score=Head("mlp"), epochs=4)
    network = Network.for_graphs(method, graph)
    trainer = make_trainer(network, graph, torch.arange(0, 40), torch.arange(40, 60), cache="disk", turns=2)
    rule, update, backward, spans = trainer.task.rule, trainer.task.update, torch.Tensor.backward, []

    def watched_backward(self: torch.Tensor, *args: object, **kwargs: object) -> None:
        spans.append(layers_reached(network, self))
        backward(self, *args, **kwargs)

    def watched_update(batch: Batch, learning_rate: float) -> torch.Tensor:
        layer, first = trainer.state.stage % 3, len(spans)
        before = {k: bits(rule, k) for k in range(3)}
        totals = update(batch, learning_rate)
        assert spans[first:] == [{layer}]
        assert [k for k in range(3) if not same(before[k], bits(rule, k))] == [layer]
        assert batch.edge_index.shape == (2, 0)  # no other node
        return totals

    monkeypatch.setattr(torch.Tensor, "backward", watched_backward)
    monkeypatch.setattr(trainer.task, "update", watched_update)
    trainer.run()
    assert len(spans) == 3 * 4 * 3  # layers, epochs of both passes, batches


def test_overlapping_pairs_resume_with_the_next_pairs(monkeypatch):
    method = small("overlapping-pairs", "graph", layers=5)
    rule, batch = rule_and_batch(method, "graph")
    rule.step(batch)
    resumed, _ = rule_and_batch(method, "graph")
    resumed.load_state_dict(rule.state_dict())
    assert losses_of_step(resumed, batch, monkeypatch) == [{0}, {1, 2}, {3, 4}]


@pytest.mark.parametrize("level", ["graph", "node", "link"])
def test_backpropagation_reaches_all_layers(level, monkeypatch):
    rule, batch = rule_and_batch(small("backprop", level), level)
    assert losses_of_step(rule, batch, monkeypatch) == [{0, 1, 2}]
    assert losses_of_step(rule, batch, monkeypatch, step=rule.network.partial_fit) == [{0, 1, 2}]
    before = {k: bits(rule, k) for k in range(3)}
    rule.step(batch)
    assert not any(same(before[k]["weights"], bits(rule, k)["weights"]) for k in range(3))


def test_comparison_detects_changed_batch_statistics():
    # The bitwise comparison detects a frozen layer that is still in training mode.
    rule, batch = rule_and_batch(small("best", "graph"), "graph")
    before = bits(rule, 0)
    inputs = rule.network.inputs(batch, None)
    rule.network.layer(0).train()
    with torch.no_grad():
        rule.network.layer(0)(inputs.x, inputs.topology, None)
    assert not same(before, bits(rule, 0))


@pytest.mark.parametrize("name", ["cafo"])
@pytest.mark.parametrize("level", ["graph", "node"])
def test_frozen_convolutions_train_heads_only(name, level):
    rule, batch = rule_and_batch(small(name, level), level)
    before = {key: value.clone() for key, value in rule.network.named_parameters()}
    rule.step(batch)
    changed = {key for key, value in rule.network.named_parameters() if not torch.equal(value, before[key])}
    assert changed
    assert all(".scorer." in key for key in changed)
