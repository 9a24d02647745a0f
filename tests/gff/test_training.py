"""Tests of training tasks: exact resume, learning rates, best weights, statistics, and the order of graphs."""

import copy
import math

import pytest
import torch
from small_graphs import make_trainer, pairs, small, task

from supa_gff import Batch, GraphSet, Network, Pairs
from supa_gff.losses import Softmax
from supa_gff.training.data import TrainingData
from supa_gff.training.scoring import choose_layers, validation_score
from supa_gff.updates.rule import UpdateRule


def trainer_of(method, level="graph", **options):
    made, train, valid = task(level, 24)
    network = Network.for_graphs(method, made) if isinstance(made, GraphSet) else Network(method, 8, 1, "link")
    return make_trainer(network, made, train, valid, seed=1, **options)


def history(trainer):
    # As text, so that NaN compares equal.
    return [str({**vars(epoch), "seconds": 0}) for epoch in trainer.state.history]


RESUMED = [
    ("gff", "graph", {}),
    ("best", "graph", {}),
    ("best", "graph", {"schedule": "overlapping-pairs", "layers_used": "chosen"}),
    ("backprop", "graph", {}),
    ("label-appending", "node", {"epochs": 5}),
    ("single-forward", "node", {"epochs": 5}),
    ("link-goodness", "link", {"epochs": 5}),
]


@pytest.mark.parametrize(("name", "level", "changes"), RESUMED)
def test_resuming_at_any_step_is_bitwise_equal(name, level, changes):
    method = small(name, level, **{"epochs": 3, "layers": 2, "lr_step_size": 2, **changes})
    polls = []
    whole = trainer_of(method, level, should_stop=lambda: bool(polls.append(1)))
    whole.run()
    for stop in range(0, len(polls), 1 if level == "graph" else 4):
        left = iter([False] * stop + [True] * 1000)
        stopped = trainer_of(method, level, should_stop=lambda left=left: next(left))
        with pytest.raises(KeyboardInterrupt):
            stopped.run()
        torch.rand(7)  # must not affect the resumed training
        resumed = trainer_of(method, level)
        resumed.load_state_dict(stopped.state_dict())
        resumed.run()
        assert history(resumed) == history(whole), stop
        weights = resumed.task.network.state_dict()
        for key, a in whole.task.network.state_dict().items():
            assert torch.equal(a, weights[key]), (stop, key)


@pytest.mark.parametrize("schedule", ["joint", "greedy"])
def test_epochs_are_numbered_within_each_layer(schedule):
    method = small("mono-forward", "graph", schedule=schedule, layers=2, epochs=3)
    trainer = trainer_of(method)
    state = trainer.run()
    stages = [0] if schedule == "joint" else [0, 1]
    assert list(trainer.task.rule.optimisers.state_dict()) == ([0, 1] if schedule == "joint" else [])
    assert [(e.stage, e.epoch) for e in state.history] == [(k, e) for k in stages for e in range(3)]


@pytest.mark.parametrize("schedule", ["joint", "greedy"])
def test_the_learning_rate_halves(schedule):
    rates = []

    def watch(trainer, epoch):
        rates.append(trainer.task.rule.optimisers.optimiser(epoch.stage).param_groups[0]["lr"])

    trainer_of(
        small("mono-forward", "graph", lr_step_size=2, epochs=5, schedule=schedule, layers=2), on_epoch=watch
    ).run()
    assert rates == [1e-3, 1e-3, 5e-4, 5e-4, 2.5e-4] * (1 if schedule == "joint" else 2)


@pytest.mark.parametrize("schedule", ["joint", "greedy"])
def test_network_has_weights_of_best_validation(schedule):
    seen: dict[int, list[tuple[float, dict]]] = {}

    def watch(trainer, epoch):
        weights = copy.deepcopy(trainer.task.module(epoch.stage).state_dict())
        seen.setdefault(epoch.stage, []).append((epoch.score, weights))

    # With large steps the last epoch is not the best.
    trainer = trainer_of(
        small("mono-forward", "graph", learning_rate=0.3, epochs=8, schedule=schedule, layers=2), on_epoch=watch
    )
    trainer.run()
    for stage, epochs in seen.items():
        weights = trainer.task.module(stage).state_dict()
        best = max(score for score, _ in epochs)
        kept = [all(torch.equal(a, weights[key]) for key, a in before.items()) for _, before in epochs]
        assert epochs[kept.index(True)][0] == best
        assert not trainer.task.network.training


def test_epoch_has_statistics_of_each_layer():
    (epoch,) = trainer_of(small("best", "graph", epochs=1)).run().history
    assert list(epoch.train) == ["layer0", "layer1", "layer2"]
    assert list(epoch.valid) == ["layer0", "layer1", "layer2", "network"]
    assert all(figures["loss"] > 0 and 0 <= figures["accuracy"] <= 1 for figures in epoch.train.values())
    assert epoch.valid["network"]["accuracy"] == epoch.score
    assert epoch.seconds > 0
    (epoch,) = trainer_of(small("backprop", "graph", epochs=1)).run().history
    assert list(epoch.train) == ["network"]


def test_steps_are_averaged_over_units(monkeypatch):
    # 12 graphs in batches of 5: the last batch has 2 graphs and a smaller weight.
    seen = []
    step = UpdateRule.step
    monkeypatch.setattr(UpdateRule, "step", lambda *a, **k: seen.append(step(*a, **k)) or seen[-1])
    (epoch,) = trainer_of(small("mono-forward", "graph", epochs=1, batch_size=5)).run().history
    assert [steps[0].units for steps in seen] == [5, 5, 2]
    for layer in range(3):
        for name in ("loss", "positive", "negative", "accuracy"):
            expected = sum(getattr(steps[layer], name) * steps[layer].units for steps in seen) / 12
            assert epoch.train[f"layer{layer}"][name] == pytest.approx(expected, rel=1e-5)


def test_validation_pairs_of_one_kind_raise():
    made = pairs()
    valid = Batch(**{**vars(made.valid), "target": torch.ones(made.valid.num_units)})
    network = Network(small("best", "link", epochs=2, loss=Softmax()), 8, 1, "link")
    with pytest.raises(ValueError, match=r"no finite score: .* the validation pairs are all linked or all unlinked"):
        make_trainer(network, Pairs(made.train, valid)).run()


def test_cross_entropy_breaks_ties_of_accuracy():
    network = Network(small("best", "graph"), 8, 2)
    target = torch.tensor([0, 1, 1, 0])
    scores = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 0.0]])
    accuracy, minus_loss = validation_score(network, scores, target)
    assert accuracy == 0.75
    assert minus_loss == pytest.approx(-float(torch.nn.functional.cross_entropy(scores.double(), target)))
    assert validation_score(network, 3 * scores, target) != validation_score(network, scores, target)
    # At equal accuracy, more confidence in an incorrect class is worse.
    assert validation_score(network, 9 * scores, target) < validation_score(network, scores, target)


def test_best_range_of_layers_is_chosen_with_most_layers_on_ties():
    network = Network(small("best", "graph", layers_used="chosen"), 8, 2)
    right = torch.tensor([[2.0, 0.0], [0.0, 2.0]])
    target = torch.tensor([0, 1])
    choose_layers(network, torch.stack([-9 * right, right, right]), target)
    assert network.layer_mask.tolist() == [False, True, True]
    choose_layers(network, torch.stack([right, right, -9 * right]), target)
    assert network.layer_mask.tolist() == [True, True, False]
    choose_layers(network, torch.stack([right, right, right]), target)
    assert network.layer_mask.tolist() == [True, True, True]


@pytest.mark.parametrize(
    ("count", "size", "sizes"), [(12, 5, [5, 5, 2]), (11, 5, [5, 6]), (6, 5, [6]), (10, 5, [5, 5]), (1, 5, [1])]
)
def test_each_epoch_has_its_own_order_and_no_batch_of_one_graph(count, size, sizes):
    made, _, _ = task("graph", 24)
    data = TrainingData(made, torch.arange(count), torch.arange(count, 24), size)
    assert data.num_batches == len(sizes)

    def order(first, *key):
        return [batch.graph_indices.tolist() for batch in data.batches(first, *key)]

    assert list(map(len, order(0, 1, 0))) == sizes
    assert sorted(sum(order(0, 1, 0), [])) == list(range(count))  # noqa: RUF017
    assert order(1, 1, 0) == order(0, 1, 0)[1:]
    if count > 1:
        assert order(0, 1, 0) != order(0, 1, 1)
        assert order(0, 1, 0) != order(0, 2, 0)


@pytest.mark.parametrize("schedule", ["greedy", "joint"])
def test_training_can_be_stopped_at_every_batch(schedule):
    method = small("mono-forward", "graph", epochs=2, layers=2, schedule=schedule, batch_size=8)
    polls = []
    trainer = trainer_of(method, should_stop=lambda: bool(polls.append(1)))
    trainer.run()
    batches = trainer.task.steps_per_epoch + len(list(trainer.task.validation_batches()))
    assert len(polls) >= 2 * trainer.task.stages * batches
    trainer = trainer_of(method, should_stop=lambda: True)
    with pytest.raises(KeyboardInterrupt):
        trainer.run()
    assert (trainer.state.history, trainer.state.step) == ([], 1)


def test_seed_changes_training():
    method = small("best", "graph", epochs=2, dropout=0.2)
    made, train, valid = task("graph", 24)

    def trained(seed):
        network = Network.for_graphs(method, made, seed=0)
        make_trainer(network, made, train, valid, seed=seed).run()
        return network.state_dict()["layers.0.conv.nn.0.weight"]

    assert torch.equal(trained(1), trained(1))
    assert not torch.equal(trained(1), trained(2))
    assert not math.isnan(float(trained(1).sum()))
