"""Tests that training neither uses nor changes the global random state."""

import random

import numpy as np
import pytest
import torch
from small_graphs import make_trainer, small, task, triangles_or_trees

from supa_datasets import GraphBenchmark
from supa_gff import GraphSet, Network, split_links, standard_split
from supa_gff.bench.train_and_test import train_and_test
from supa_learning import run_baseline, stratified_folds

TRAININGS = [
    ("gff", "graph", {}),
    ("best", "graph", {"dropout": 0.2}),
    ("backprop", "graph", {}),
    ("label-appending", "node", {}),
    ("virtual-nodes", "node", {}),
    ("link-cross-entropy", "link", {"dropout": 0.2}),
]


def _states() -> list[object]:
    """Return the states of all global generators."""
    return [torch.get_rng_state().tolist(), str(np.random.get_state()), random.getstate()]  # noqa: NPY002


def _trained(name, level, changes, disturb):
    made, train, valid = task(level, 24)
    method = small(name, level, **{"epochs": 3, "layers": 2, **changes})
    disturb()
    before = _states()
    network = Network.for_graphs(method, made) if isinstance(made, GraphSet) else Network(method, 8, 1, "link")
    trainer = make_trainer(network, made, train, valid, seed=1)
    assert _states() == before
    disturb()
    before = _states()
    trainer.run()
    assert _states() == before
    return network.state_dict()


@pytest.mark.parametrize(("name", "level", "changes"), TRAININGS)
def test_training_neither_uses_nor_changes_global_random_state(name, level, changes):
    plain = _trained(name, level, changes, lambda: None)
    disturbed = _trained(name, level, changes, lambda: torch.rand(5))
    assert all(torch.equal(a, b) for a, b in zip(plain.values(), disturbed.values(), strict=True))


def test_callbacks_have_the_global_random_state():
    method = small("best", "graph", epochs=3, layers=2, dropout=0.2)
    graphs, train, valid = task("graph", 24)

    def run(on_epoch):
        network = Network.for_graphs(method, graphs)
        torch.manual_seed(7)
        make_trainer(network, graphs, train, valid, seed=1, on_epoch=on_epoch).run()
        return network.state_dict()

    drawn = []
    one, other = run(None), run(lambda *_: drawn.append(torch.rand(2)))
    assert all(torch.equal(a, b) for a, b in zip(one.values(), other.values(), strict=True))
    torch.manual_seed(7)
    assert torch.equal(torch.cat(drawn), torch.cat([torch.rand(2) for _ in drawn]))
    assert len(drawn) == 3


def test_failed_training_restores_global_random_state():
    graphs, train, valid = task("graph", 24)
    network = Network.for_graphs(small("gff", "graph", epochs=2), graphs)

    def fail(*_):
        raise RuntimeError

    before = _states()
    with pytest.raises(RuntimeError):
        make_trainer(network, graphs, train, valid, on_epoch=fail).run()
    assert _states() == before


def test_jobs_and_splits_keep_global_random_state():
    graphs = triangles_or_trees(24)
    benchmark = GraphBenchmark("MUTAG", "graph", tuple(graphs), 6, 2, False)
    fold = stratified_folds(np.arange(24) % 2, folds=3, seed=0)[0]
    run_baseline(benchmark, fold, "size-forest", seed=1)  # scikit-learn draws random numbers on import
    before = _states()
    first = train_and_test(benchmark, fold, "cafo", "gin", 3)
    run_baseline(benchmark, fold, "size-forest", seed=1)
    standard_split(benchmark, fold=0, folds=3, seed=1)
    split_links(task("node")[0], seed=1)
    assert _states() == before
    torch.rand(3)
    again = train_and_test(benchmark, fold, "cafo", "gin", 3)
    assert (again.test_accuracy, again.valid_accuracy) == (first.test_accuracy, first.valid_accuracy)
