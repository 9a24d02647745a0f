"""Tests of sequential hypotheses: their gradients equal those of parallel hypotheses."""

import pytest
import torch
from small_graphs import triangles_or_trees, two_communities

from supa_gff import GraphSet, Method, Network, label_injection, update_rule
from supa_gff.goodness import MeanActivation
from supa_gff.heads import Goodness
from supa_gff.label_injection import Embedding, EveryLayer, Gate, NodeFeatures
from supa_gff.losses import Softmax, SymBa, Threshold
from supa_gff.negatives import AllNegatives, Uniform

LABELS = [NodeFeatures(), Embedding(4), EveryLayer(), Gate()]
LOSSES = [Threshold(1.0), SymBa(), Softmax()]
NORMALISATIONS = ["length", "layer", "graph", "none"]


def gradients(network, batch, candidates, layer):
    """Take a step and return the gradients that were passed to the optimiser."""
    seen = {}
    rule = update_rule(network)
    optimiser = rule.optimisers.optimiser(layer)
    optimiser.register_step_pre_hook(
        lambda *_: seen.update(
            {n: p.grad.clone() for n, p in network.layer(layer).named_parameters() if p.grad is not None}
        )
    )
    (step,) = [s for s in rule.step(batch, layer, candidates) if s.layer == layer]
    return seen, step.values


@pytest.mark.parametrize("level", ["graph", "node"])
@pytest.mark.parametrize("normalisation", NORMALISATIONS)
@pytest.mark.parametrize("number", range(4))
def test_sequential_gradients_equal_parallel_gradients(level, normalisation, number, monkeypatch):
    # Double precision reduces rounding differences.
    one_hot = label_injection.one_hot
    monkeypatch.setattr(label_injection, "one_hot", lambda *args: one_hot(*args).double())
    method = Method(
        score=Goodness(MeanActivation(), scale=2.0, learned_scale=True),
        loss=LOSSES[number % 3],
        label=LABELS[number],
        negatives=AllNegatives() if number % 2 else Uniform(1),
        normalisation=normalisation,
        schedule="joint",
        conv=("gcn", "gin", "gat", "sage")[number],
        residual=number == 2,
        collaboration=number == 1,
        layers=3,
        hidden_channels=8,
    )
    if level == "graph":
        graphs = GraphSet.of(triangles_or_trees(9, classes=3))
        batch = graphs.batch(torch.arange(9))
    else:
        graphs = GraphSet.of([two_communities(30)], level="node", num_outputs=3)
        batch = graphs.batch(torch.arange(20), torch.arange(20))
    networks = []
    for hypotheses in ("parallel", "sequential"):
        torch.manual_seed(0)
        networks.append(Network.for_graphs(method.replace(hypotheses=hypotheses), graphs).double())
    batch = type(batch)(**{**vars(batch), "x": batch.x.double()})
    torch.manual_seed(1)
    candidates = update_rule(networks[0]).draw_candidates(batch)
    for layer in range(3):
        (one, seen), (other, seen_too) = (gradients(network, batch, candidates, layer) for network in networks)
        assert one.keys() == other.keys()
        assert any(float(gradient.abs().max()) > 1e-6 for gradient in one.values())
        for name, gradient in one.items():
            assert torch.allclose(gradient, other[name], rtol=1e-7, atol=1e-9), name
        assert torch.allclose(seen, seen_too)
    assert torch.allclose(networks[0].layer_scores(batch), networks[1].layer_scores(batch))


def test_sequential_computes_one_hypothesis_at_a_time(monkeypatch):
    graphs = GraphSet.of(triangles_or_trees(9, classes=3))
    method = Method(
        score=Goodness(),
        label=Gate(),
        negatives=AllNegatives(),
        normalisation="layer",
        hypotheses="sequential",
        layers=2,
    )
    network = Network.for_graphs(method, graphs)
    widths, score = [], type(network.layer(0)).score

    def watched(self, h, topology, batch):
        widths.append(len(h))
        return score(self, h, topology, batch)

    monkeypatch.setattr(type(network.layer(0)), "score", watched)
    update_rule(network).step(graphs.batch(torch.arange(9)))
    network.layer_scores(graphs.batch(torch.arange(9)))
    assert set(widths) == {1}
    assert len(widths) == 2 * 3 * 2 + 2 * 3  # layers * hypotheses * 2 in training, then layers * hypotheses
