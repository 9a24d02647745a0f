"""Tests of the separate optimisers of layers."""

import torch
from small_graphs import small, triangles_or_trees

from supa_gff import GraphSet, Network, update_rule
from supa_gff.updates.optimisers import LayerOptimisers


def test_optimiser_has_settings_of_method_and_learning_rate_per_layer():
    optimisers = LayerOptimisers(Network(small("best", "graph", learning_rate=0.02, weight_decay=0.3), 6, 2))
    optimisers.set_learning_rate([0, 2], 0.01)
    groups = [optimisers.optimiser(layer).param_groups[0] for layer in range(3)]
    assert [(group["lr"], group["weight_decay"]) for group in groups] == [(0.01, 0.3), (0.02, 0.3), (0.01, 0.3)]


def test_release_resets_the_optimiser_of_one_layer_only():
    graphs = GraphSet.of(triangles_or_trees(8))
    rule = update_rule(Network.for_graphs(small("best", "graph"), graphs))
    rule.step(graphs.batch(torch.arange(8)))
    states = rule.optimisers.state_dict()
    rule.optimisers.release(1)
    assert set(rule.optimisers.state_dict()) == {0, 2}
    assert rule.optimisers.optimiser(1).state_dict()["state"] == {}
    assert rule.optimisers.optimiser(0).state_dict()["state"]
    rule.optimisers.load_state_dict({1: states[1]})
    assert set(rule.optimisers.state_dict()) == {1}
    assert rule.optimisers.optimiser(1).state_dict()["state"].keys() == states[1]["state"].keys()
