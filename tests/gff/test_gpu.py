"""Tests of training on a CUDA device against training on the CPU."""

import copy
import dataclasses

import pytest
import torch
from small_graphs import make_trainer

from supa_gff import (
    PRESETS,
    Batch,
    GraphSet,
    Network,
    Pairs,
    node_scores,
    preset,
    train,
    update_rule,
    write_disk_graph,
)
from supa_gff.heads import Head

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]


def made_up(level: str) -> GraphSet:
    """Return graphs whose features correlate with their classes."""
    random = torch.Generator().manual_seed(3)
    graphs = 1 if level == "node" else 40
    size = 120 if level == "node" else 12
    count = graphs * size
    target = torch.randint(3, (count if level == "node" else graphs,), generator=random)
    x = torch.randn(count, 6, generator=random)
    hint = target if level == "node" else target.repeat_interleave(size)
    x[:, :3] += 2 * torch.nn.functional.one_hot(hint, 3)
    edges = torch.randint(size, (2, 3 * count), generator=random)
    edges = edges + torch.arange(graphs).repeat_interleave(3 * size) * size
    offset = torch.arange(graphs + 1)
    return GraphSet(x, edges, offset * size, offset * 3 * size, target, level, 3)


def gradients(network: Network, batch: Batch, candidates: torch.Tensor | None) -> tuple[dict[str, torch.Tensor], list]:
    """Return the gradients and statistics of a step without an update of the weights."""
    found, rule = {}, update_rule(network)

    def look(layer: int) -> None:
        for name, weight in network.layer(layer).named_parameters():
            if weight.grad is not None:
                found[f"{layer}.{name}"] = weight.grad.double().cpu()

    for layer in range(network.method.layers):
        rule.optimisers.optimiser(layer).step = lambda layer=layer: look(layer)
    steps = rule.step(batch, candidates=candidates)
    return found, [step.values.cpu() for step in steps]


@pytest.mark.parametrize(
    ("name", "level"),
    [(name, level) for name in sorted(PRESETS) for level in ("graph", "node") if PRESETS[name](level) is not None],
)
def test_step_equals_step_on_cpu(name: str, level: str) -> None:
    """Losses and gradients agree up to the rounding of float32."""
    graphs = made_up(level)
    members = torch.arange(graphs.num_items)[::2]
    torch.manual_seed(1)
    method = preset(name, level).replace(
        layers=2, hidden_channels=24, dropout=0.0
    )  # random numbers differ between devices
    if isinstance(method.score, Head):
        method = method.replace(score=dataclasses.replace(method.score, dropout=0.0))
    template = Network.for_graphs(method, graphs)
    results = []
    for device in ("cpu", "cuda"):
        network = copy.deepcopy(template).to(device)
        batch = graphs.to(device).batch(members.to(device), members.to(device))
        candidates = None
        if network.method.negatives is not None:
            wrong = (batch.target[:, None] + torch.arange(1, 3, device=device)) % 3
            candidates = torch.cat([batch.target[:, None], wrong], 1)
        results.append(gradients(network, batch, candidates))
    (expected, expected_seen), (found, found_seen) = results
    torch.testing.assert_close(found_seen, expected_seen, rtol=1e-4, atol=1e-4)
    assert found.keys() == expected.keys()
    largest = max(float(value.square().mean()) for value in expected.values()) ** 0.5
    for key, value in expected.items():
        assert float((found[key] - value).square().mean()) ** 0.5 < 1e-4 * largest, key


def test_training_on_a_graph_on_disk_equals_training_on_cpu(tmp_path) -> None:
    made = made_up("node")
    graph = write_disk_graph(tmp_path / "graph", [(made.x, made.target)], [made.edge_index])
    method = preset("best", "node").replace(
        schedule="greedy", normalisation="layer", dropout=0.0, score=Head("mlp"), epochs=5, batch_size=16, layers=3
    )
    scores = []
    for device in ("cpu", "cuda"):
        network = Network.for_graphs(method, graph).to(device)
        train(network, graph, torch.arange(0, 60), torch.arange(60, 90), cache=tmp_path / device)
        scores.append(node_scores(network, graph, torch.arange(90, 120)))
    assert torch.allclose(*scores, rtol=1e-2, atol=1e-2)


def test_link_prediction_trains_on_gpu() -> None:
    """Link prediction trains on the device."""
    graphs = made_up("node").to("cuda")
    linked = graphs.edge_index[:, :100]
    others = torch.randint(120, (2, 100), device="cuda", generator=torch.Generator("cuda").manual_seed(1))
    target = torch.cat([torch.ones(100, device="cuda"), torch.zeros(100, device="cuda")])
    batch = Batch(
        graphs.x, graphs.edge_index, torch.zeros(120, dtype=torch.int64, device="cuda"), 1, target,
        torch.cat([linked, others], 1),
    )  # fmt: skip
    network = Network(preset("link-cross-entropy", "link").replace(epochs=4), 6, 1, "link").to("cuda")
    state = make_trainer(network, Pairs(batch, batch)).run()
    assert state.history[-1].score > 0.5


@pytest.mark.parametrize("name", ["best", "gff", "best-goodness", "backprop"])
def test_network_learns_on_gpu(name: str) -> None:
    """A network trained on the device classifies well."""
    graphs = made_up("graph").to("cuda")
    members = torch.arange(len(graphs), device="cuda")
    method = preset(name).replace(epochs=40, patience=40, layers=2, learning_rate=1e-2)
    torch.manual_seed(0)
    network = Network.for_graphs(method, graphs)
    make_trainer(network, graphs, members[::2], members[1::2]).run()
    batch = graphs.batch(members[::2])
    assert float((network.predict(batch) == batch.target).float().mean()) > 0.7


def test_partial_fit_continues_on_the_device() -> None:
    """The optimisers follow a network that is moved between two calls."""
    graphs, members = made_up("graph"), torch.arange(20)
    network = Network.for_graphs(preset("mono-forward").replace(layers=2), graphs)
    network.partial_fit(graphs.batch(members))
    moved, on_device = copy.deepcopy(network).to("cuda"), graphs.to("cuda")
    for _ in range(2):
        expected = network.partial_fit(graphs.batch(members))
        found = moved.partial_fit(on_device.batch(members.to("cuda")))
        for own, other in zip(found, expected, strict=True):
            assert torch.allclose(own.values.cpu(), other.values, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", ["best", "best-goodness", "overlapping-pairs", "backprop"])
def test_networks_trained_together_on_gpu_equal_those_on_cpu(name: str) -> None:
    """CUDA graphs of the steps compute what the CPU computes, up to the rounding of float64."""
    from supa_gff.stacked.training import Member, train_together

    graphs = made_up("graph")
    graphs = dataclasses.replace(graphs, x=graphs.x.double())
    method = preset(name).replace(layers=2, hidden_channels=8, epochs=4, batch_size=8)
    if isinstance(method.score, Head):
        method = method.replace(score=dataclasses.replace(method.score, dropout=0.0))
    order, scores = torch.arange(len(graphs)), []
    for device in ("cpu", "cuda"):
        own = graphs.to(device)
        members = [
            Member(Network.for_graphs(method, graphs, seed=seed).double().to(device), order[:28], order[28:], seed)
            for seed in (0, 1, 2)
        ]
        train_together(members, own)
        scores.append([member.network.layer_scores(own.batch(order.to(device))).cpu() for member in members])
    torch.testing.assert_close(scores[1], scores[0], rtol=1e-5, atol=1e-6)
