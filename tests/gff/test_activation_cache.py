"""Tests of the activation cache: cached training equals training that recomputes the inputs."""

import tempfile
from dataclasses import replace

import pytest
import torch
from small_graphs import make_trainer, pairs, small, task, triangles_or_trees, two_communities

from supa_gff import GraphSet, Network, label_injection, update_rule
from supa_gff.heads import Head
from supa_gff.label_injection import NodeFeatures
from supa_gff.negatives import AllNegatives, Hard, Uniform
from supa_gff.training.tasks import GreedyTask
from supa_gff.updates import activation_cache
from supa_gff.updates.activation_cache import GraphSetCache, SingleGraphCache


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(activation_cache, "_BLOCK_EDGES", 100)


@pytest.fixture
def in_double(monkeypatch):
    """Use double precision to reduce rounding differences."""
    one_hot, update = label_injection.one_hot, Network.for_graphs
    monkeypatch.setattr(label_injection, "one_hot", lambda *args: one_hot(*args).double())
    monkeypatch.setattr(Network, "for_graphs", lambda *given, **named: update(*given, **named).double())


def trained(method, made, train, valid, monkeypatch, *, recompute=False, cache="memory"):
    if isinstance(made, GraphSet):
        network = Network.for_graphs(method, made, seed=3)
    else:
        network = Network(method, made.train.x.shape[1], 1, "link", seed=3)
    with monkeypatch.context() as patch:
        if recompute:
            patch.setattr(GreedyTask, "_make_cache", lambda self: None)
        trainer = make_trainer(network, made, train, valid, seed=4, cache=cache)
        if not recompute:
            wanted = GraphSetCache if isinstance(made, GraphSet) and not made.transductive else SingleGraphCache
            assert isinstance(make_trainer(network, made, train, valid, seed=4, cache=cache).task._make_cache(), wanted)
        state = trainer.run()
    return network, state


def assert_same_training(one, other):
    (a, first), (b, second) = one, other
    assert [(e.stage, e.epoch) for e in first.history] == [(e.stage, e.epoch) for e in second.history]
    for x, y in zip(first.history, second.history, strict=True):
        assert x.score == pytest.approx(y.score, abs=1e-6, nan_ok=True)
        (part,) = x.train
        assert x.train[part] == pytest.approx(y.train[part], rel=1e-5, nan_ok=True)
    for (name, x), (_, y) in zip(a.state_dict().items(), b.state_dict().items(), strict=True):
        assert torch.allclose(x, y, rtol=1e-6, atol=1e-7), name


GRAPH = {
    "unconditioned": ("best", {"schedule": "greedy"}),
    "unconditioned, hard": ("best", {"schedule": "greedy", "negatives": Hard(), "score": Head("linear")}),
    "random blocks": ("cafo", {}),
    "attention": ("best", {"schedule": "greedy", "conv": "gat"}),
    "residual, layer": ("deeper-forward", {"schedule": "greedy"}),
    "plain": ("gff", {}),
    "all wrong, once": ("gff", {"negatives": AllNegatives(redraw=False)}),
    "hard, batch normalisation": ("symba", {"schedule": "greedy", "negatives": Hard()}),
    "gates": ("best-goodness", {"schedule": "greedy"}),
    "dropout": ("gff", {"dropout": 0.3}),
    "sequential": ("gff", {"hypotheses": "sequential"}),
    "in turn, gates": ("best-goodness", {"schedule": "greedy", "hypotheses": "sequential", "normalisation": "layer"}),
}


@pytest.mark.parametrize("name", GRAPH)
def test_cached_training_on_graphs_equals_recomputation(name, monkeypatch, in_double):
    preset, changes = GRAPH[name]
    method = small(preset, "graph", epochs=3, hidden_channels=8, **changes)
    graphs = GraphSet.of(triangles_or_trees(30, classes=3))
    graphs = replace(graphs, x=graphs.x.double())
    members = torch.randperm(30, generator=torch.Generator().manual_seed(0))
    split = members[:17], members[17:28]
    rule = update_rule(Network.for_graphs(method, graphs))
    assert len(list(GraphSetCache(rule, graphs, members, "memory")._blocks())) > 3
    assert_same_training(
        trained(method, graphs, *split, monkeypatch, recompute=True), trained(method, graphs, *split, monkeypatch)
    )


@pytest.mark.parametrize("name", ["unconditioned", "plain", "hard, batch normalisation", "gates", "sequential"])
def test_disk_cache_is_bitwise_equal_to_memory_cache(name, monkeypatch):
    preset, changes = GRAPH[name]
    method = small(preset, "graph", epochs=2, hidden_channels=8, **changes)
    graphs, train, valid = task("graph", 30)
    in_memory, _ = trained(method, graphs, train, valid, monkeypatch)
    on_disk, _ = trained(method, graphs, train, valid, monkeypatch, cache="disk")
    for (key, x), (_, y) in zip(in_memory.state_dict().items(), on_disk.state_dict().items(), strict=True):
        assert torch.equal(x, y), key


def test_cached_training_on_nodes_of_many_graphs_equals_recomputation(monkeypatch, in_double):
    graphs = GraphSet.of([two_communities(12, seed=k) for k in range(9)], level="node")
    graphs = replace(graphs, x=graphs.x.double())
    method = small("best", "node", schedule="greedy", epochs=3, dropout=0.0, score=Head("linear"), batch_size=4)
    split = torch.arange(6), torch.arange(6, 9)
    assert_same_training(
        trained(method, graphs, *split, monkeypatch, recompute=True), trained(method, graphs, *split, monkeypatch)
    )


NODE = {
    "appended labels": ("label-appending", {}),
    "virtual nodes": ("virtual-nodes", {}),
    "virtual nodes, sage": ("virtual-nodes", {"conv": "sage"}),
    "prototypes": ("single-forward", {}),
    "class groups": ("deeper-forward", {"schedule": "greedy"}),
    "heads with dropout": ("best", {"schedule": "greedy"}),
    "heads, hard": ("mono-forward", {"schedule": "greedy", "negatives": Hard()}),
    "sequential": ("label-appending", {"hypotheses": "sequential"}),
}


@pytest.mark.parametrize("name", NODE)
def test_cached_training_on_nodes_of_one_graph_equals_recomputation(name, monkeypatch, in_double):
    preset, changes = NODE[name]
    method = small(preset, "node", epochs=4, **changes)
    graphs, train, valid = task("node")
    graphs = replace(graphs, x=graphs.x.double())
    assert_same_training(
        trained(method, graphs, train, valid, monkeypatch, recompute=True),
        trained(method, graphs, train, valid, monkeypatch),
    )


@pytest.mark.parametrize("name", ["link-goodness", "link-cross-entropy"])
def test_cached_training_on_pairs_equals_recomputation(name, monkeypatch):
    method = small(name, "link", epochs=4)
    assert_same_training(
        trained(method, pairs(), None, None, monkeypatch, recompute=True),
        trained(method, pairs(), None, None, monkeypatch),
    )


@pytest.mark.parametrize(
    ("name", "level", "changes"),
    [
        ("symba", "node", {"schedule": "greedy"}),
        ("gff", "graph", {"collaboration": True}),
        ("gff", "node", {"negatives": Uniform()}),
        ("gff", "node", {"label": NodeFeatures(), "negatives": Hard()}),
    ],
)
def test_layers_that_change_in_each_step_are_not_cached(name, level, changes):
    graphs, train, valid = task(level)
    network = Network.for_graphs(small(name, level, **changes), graphs)
    assert make_trainer(network, graphs, train, valid).task._make_cache() is None


def test_disk_cache_leaves_no_files(monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    graphs, train, valid = task("graph", 12)
    seen, stored = [], activation_cache._on_disk

    def watched(shape):
        made = stored(shape)
        seen.append((shape, list(tmp_path.rglob("*"))))
        return made

    monkeypatch.setattr(activation_cache, "_on_disk", watched)
    make_trainer(
        Network.for_graphs(small("gff", "graph", epochs=1), graphs), graphs, train, valid, seed=0, cache="disk"
    ).run()
    # With two hypotheses, three layers store prepared inputs, and two of them store activations.
    assert len(seen) == 5
    assert all(shape[:2] == (2, len(graphs.x)) and left == [] for shape, left in seen)
    assert list(tmp_path.rglob("*")) == []


def test_unknown_cache_location_raises():
    graphs, train, valid = task("graph", 12)
    with pytest.raises(ValueError, match="cache must be 'memory', 'disk', or"):
        make_trainer(Network.for_graphs(small("gff", "graph"), graphs), graphs, train, valid, cache="dsk")
