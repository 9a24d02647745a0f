"""The trainer: when it stops, what it keeps, and that it goes on exactly where it stood."""

import copy
import math

import pytest
import torch
from small_graphs import pairs, small, task

from supa_gff import Batch, Epoch, GraphSet, Network, Pairs, Trainer
from supa_gff.losses import Softmax
from supa_gff.updates.rule import UpdateRule


def trainer_of(method, level="graph", on_epoch=None):
    made, train, valid = task(level, 24)
    torch.manual_seed(0)
    network = Network.for_graphs(method, made) if isinstance(made, GraphSet) else Network(method, 8, 1, "link")
    return Trainer(network, made, train, valid, seed=1, on_epoch=on_epoch)


def numbers(trainer: Trainer) -> list[str]:
    # As text, so that what was not validated is equal, too.
    return [str((e.layer, e.epoch, e.steps, e.valid, e.layer_valid)) for e in trainer.state.history]


class StopError(Exception):
    """Ends a training from outside."""


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
def test_a_resumed_training_ends_with_the_same_bits(name, level, changes):
    method = small(name, level, **{"epochs": 3, "layers": 2, "lr_step_size": 2, **changes})
    whole = trainer_of(method, level)
    whole.run()
    count = len(whole.state.history)
    for stop in (1, count // 2, count):
        saved = []

        def watch(trainer: Trainer, epoch: Epoch, stop: int = stop, saved: list = saved) -> None:
            if len(trainer.state.history) == stop:
                saved.append(copy.deepcopy(trainer.state_dict()))
                raise StopError

        with pytest.raises(StopError):
            trainer_of(method, level, watch).run()
        torch.rand(7)  # what happens in between does not matter
        resumed = trainer_of(method, level)
        resumed.load_state_dict(saved[0])
        resumed.run()
        for (key, a), b in zip(whole.network.state_dict().items(), resumed.network.state_dict().values(), strict=True):
            assert torch.equal(a, b), key
        assert numbers(resumed) == numbers(whole)


@pytest.mark.parametrize("schedule", ["joint", "greedy"])
@pytest.mark.parametrize(("every", "patience", "epochs"), [(1, 1, 2), (1, 4, 5), (2, 3, 8), (3, 1, 6)])
def test_patience_counts_validations(schedule, every, patience, epochs):
    method = small(
        "mono-forward", "graph", normalisation="length", learning_rate=1e-29, schedule=schedule, layers=2,
        validate_every=every, patience=patience, epochs=50,
    )  # fmt: skip
    state = trainer_of(method).run()
    layers = [-1] if schedule == "joint" else [0, 1]
    assert [(e.layer, e.epoch) for e in state.history] == [(k, e) for k in layers for e in range(epochs)]
    assert [not math.isnan(e.valid) for e in state.history] == [(e.epoch + 1) % every == 0 for e in state.history]


def test_the_last_epoch_is_validated():
    state = trainer_of(small("mono-forward", "graph", validate_every=10, epochs=3)).run()
    assert [math.isnan(e.valid) for e in state.history] == [True, True, False]


@pytest.mark.parametrize("schedule", ["joint", "greedy"])
def test_the_learning_rate_halves(schedule):
    rates = []

    def watch(trainer: Trainer, epoch: Epoch) -> None:
        rates.append(trainer.rule.optimisers.optimiser(max(epoch.layer, 0)).param_groups[0]["lr"])

    trainer_of(
        small("mono-forward", "graph", lr_step_size=2, epochs=5, schedule=schedule, layers=2), on_epoch=watch
    ).run()
    assert rates == [1e-3, 1e-3, 5e-4, 5e-4, 2.5e-4] * (1 if schedule == "joint" else 2)


@pytest.mark.parametrize("schedule", ["joint", "greedy"])
def test_the_weights_of_the_best_validation_stay(schedule):
    seen: dict[int, list[tuple[float, dict]]] = {}

    def watch(trainer: Trainer, epoch: Epoch) -> None:
        module = trainer.network if epoch.layer < 0 else trainer.network.layer(epoch.layer)
        seen.setdefault(epoch.layer, []).append((epoch.valid, copy.deepcopy(module.state_dict())))

    # Large steps, so that the last epoch is not the best.
    trainer = trainer_of(
        small("mono-forward", "graph", learning_rate=0.3, epochs=8, schedule=schedule, layers=2), on_epoch=watch
    )
    trainer.run()
    for layer, epochs in seen.items():
        module = trainer.network if layer < 0 else trainer.network.layer(layer)
        best = max(valid for valid, _ in epochs)
        kept = [
            all(torch.equal(a, b) for a, b in zip(weights.values(), module.state_dict().values(), strict=True))
            for _, weights in epochs
        ]
        assert epochs[kept.index(True)][0] == best
        assert not trainer.network.training


def test_what_an_epoch_tells():
    trainer = trainer_of(small("best", "graph", epochs=1))
    (epoch,) = trainer.run().history
    assert [row[0] for row in epoch.steps] == [0, 1, 2]
    assert len(epoch.layer_valid) == 3
    assert all(loss > 0 and 0 <= right <= 1 for _, loss, _, _, right in epoch.steps)
    assert epoch.seconds > 0


def test_steps_are_averaged_over_units(monkeypatch):
    # 12 graphs in batches of 5: the last batch of 2 counts less.
    seen = []
    step = UpdateRule.step
    monkeypatch.setattr(UpdateRule, "step", lambda *a, **k: seen.append(step(*a, **k)) or seen[-1])
    trainer = trainer_of(small("mono-forward", "graph", epochs=1, batch_size=5))
    (epoch,) = trainer.run().history
    assert [steps[0].units for steps in seen] == [5, 5, 2]
    for layer in range(3):
        expected = sum(steps[layer].loss * steps[layer].units for steps in seen) / 12
        assert epoch.steps[layer][1] == pytest.approx(expected, rel=1e-5)


def test_pairs_to_validate_on_of_one_kind_say_so():
    made = pairs()
    valid = Batch(**{**vars(made.valid), "target": torch.ones(made.valid.num_units)})
    network = Network(small("best", "link", epochs=2, loss=Softmax()), 8, 1, "link")
    with pytest.raises(ValueError, match="No validation gave a number"):
        Trainer(network, Pairs(made.train, valid)).run()


@pytest.mark.parametrize("schedule", ["greedy", "joint"])
def test_every_batch_is_announced(schedule):
    trainer = trainer_of(small("mono-forward", "graph", epochs=2, layers=2, schedule=schedule, batch_size=8))
    seen = []
    trainer.on_batch = lambda: seen.append(1)
    trainer.run()
    train, valid = trainer.batches_an_epoch
    epochs = 2 * (2 if schedule == "greedy" else 1)
    assert len(seen) >= epochs * (train + valid)

    def stop():
        raise KeyboardInterrupt

    trainer = trainer_of(small("mono-forward", "graph", epochs=2, layers=2, schedule=schedule, batch_size=8))
    trainer.on_batch = stop
    with pytest.raises(KeyboardInterrupt):
        trainer.run()
    assert trainer.state.history == []
