"""The training loop: exact resume, best weights, patience, seeds and the global random state."""

import math
import random
from collections import Counter

import numpy as np
import pytest
import torch
from torch import nn

from supa_learning import Callback, StepDecay, Trainer, TrainingTask, Validation, epoch_order
from supa_learning.randomness import RandomState

X = torch.linspace(-1, 1, 20)[:, None]
Y = X.square() - 0.3 * X


class Toy(TrainingTask):
    """A small regression with dropout. Each stage trains one layer."""

    def __init__(self, *, seed=0, stages=1, epochs=3, patience=9, every=1, scores=None, rate=0.05):
        with RandomState(5).as_global():
            model = nn.ModuleList([nn.Sequential(nn.Linear(1, 8), nn.ReLU(), nn.Dropout(0.3), nn.Linear(8, 1))] * 1)
            model.extend(nn.Linear(1, 1) for _ in range(stages - 1))
        super().__init__(
            model, seed=seed, epochs=epochs, patience=patience, validate_every=every, schedule=StepDecay(rate, 2),
            optimizer=torch.optim.Adam(model.parameters()),
        )  # fmt: skip
        self.stages, self._scores, self.stage, self.log = stages, scores, 0, []

    steps_per_epoch = property(lambda _self: 4)
    units = property(lambda _self: 20)

    def module(self, stage):
        return self.model[stage]

    def start_stage(self, stage):
        self.stage = stage
        self.log.append(("start", stage))

    def end_stage(self, stage):
        self.log.append(("end", stage))

    def batches(self, stage, epoch, first):
        self.model.train()
        return torch.from_numpy(epoch_order(20, self.seed, stage, epoch)).view(4, 5)[first:]

    def _outputs(self, rows):
        h = X[rows]
        for layer in self.model[: self.stage + 1]:
            h = layer(h)
        return h

    def update(self, batch, learning_rate):
        self.optimizer.param_groups[0]["lr"] = learning_rate
        self.optimizer.zero_grad()
        loss = (self._outputs(batch) - Y[batch]).square().sum()
        loss.backward()
        self.optimizer.step()
        return loss.detach()

    def figures(self, totals):
        return {"toy": {"loss": float(totals) / 20}}

    def validation_batches(self):
        return torch.arange(20).view(2, 10)

    def validate(self, batches):
        self.model.eval()
        loss = sum(float((self._outputs(rows) - Y[rows]).square().sum()) for rows in batches)
        score = (-loss,) if self._scores is None else next(self._scores)
        return Validation(score, {"toy": {"loss": loss / 20}})


class Recorder(Callback):
    """Records the calls of its methods."""

    def __init__(self):
        self.calls, self.drawn = [], []

    def on_start(self, trainer):
        self.calls.append("start")

    def on_step(self, trainer):
        self.calls.append((trainer.state.epoch, trainer.state.step))
        self.drawn.append(float(torch.rand(())))

    def on_epoch(self, trainer, epoch):
        self.calls.append(epoch)


def _stop_after(count):
    left = iter([False] * count + [True] * 1000)
    return lambda: next(left)


def _history(trainer):
    return [str({**vars(epoch), "seconds": 0}) for epoch in trainer.state.history]


def _bits(trainer):
    return {name: value.numpy().tobytes() for name, value in trainer.task.model.state_dict().items()}


@pytest.mark.parametrize(
    "options", [{}, {"stages": 2, "epochs": 2}, {"every": 2, "epochs": 4}, {"patience": 1, "rate": 2.0}]
)
def test_a_training_stopped_anywhere_is_resumed_to_the_same_bits(options):
    polls = Counter()
    whole = Trainer(Toy(**options), should_stop=lambda: bool(polls.update("p")))
    whole.run()
    assert polls["p"] > 8
    for stop in range(polls["p"]):
        stopped = Trainer(Toy(**options), should_stop=_stop_after(stop))
        with pytest.raises(KeyboardInterrupt):
            stopped.run()
        saved = stopped.state_dict()
        torch.rand(3)
        resumed = Trainer(Toy(**options))
        resumed.load_state_dict(saved)
        resumed.run()
        assert _bits(resumed) == _bits(whole), stop
        assert _history(resumed) == _history(whole)


def test_a_state_is_a_copy_and_can_be_loaded_twice():
    trainer = Trainer(Toy(), should_stop=_stop_after(3))
    with pytest.raises(KeyboardInterrupt):
        trainer.run()
    saved = trainer.state_dict()
    trainer.should_stop = lambda: False
    trainer.run()
    for _ in range(2):
        again = Trainer(Toy())
        again.load_state_dict(saved)
        again.run()
        assert _bits(again) == _bits(trainer)


def test_the_training_depends_on_the_seed():
    def trained(seed):
        trainer = Trainer(Toy(seed=seed))
        trainer.run()
        return _bits(trainer)

    assert trained(1) == trained(1)
    assert trained(1) != trained(2)


def test_the_dropout_depends_on_the_seed(monkeypatch):
    in_order = torch.arange(20).view(4, 5)
    monkeypatch.setattr(Toy, "batches", lambda self, _stage, _epoch, first: (self.model.train(), in_order[first:])[1])

    def trained(seed):
        trainer = Trainer(Toy(seed=seed))
        trainer.run()
        return _bits(trainer)

    assert trained(1) == trained(1)
    assert trained(1) != trained(2)


def test_the_best_weights_are_restored_and_later_entries_break_ties():
    # Epoch 2 ties with epoch 1 and wins by its second entry. Epoch 4 ties in both entries and does not win.
    scores = iter([(0.5, 1.0), (0.7, -2.0), (0.7, -1.0), (0.6, 9.0), (0.7, -1.0), (math.nan, 0.0)])
    weights = []

    class Keep(Callback):
        def on_epoch(self, trainer, epoch):
            weights.append(_bits(trainer))

    trainer = Trainer(Toy(scores=scores, epochs=6), callbacks=[Keep()])
    state = trainer.run()
    assert (state.best_epoch, state.best_score) == (2, (0.7, -1.0))
    assert _bits(trainer) == weights[2]
    assert len(set(map(str, weights))) == 6
    assert [epoch.score for epoch in state.history[:5]] == [0.5, 0.7, 0.7, 0.6, 0.7]


@pytest.mark.parametrize(("every", "patience", "epochs"), [(1, 1, 2), (1, 4, 5), (2, 3, 8), (3, 1, 6)])
def test_patience_counts_validations_without_improvement(every, patience, epochs):
    scores = iter([(1.0,)] * 50)
    state = Trainer(Toy(scores=scores, epochs=50, every=every, patience=patience)).run()
    assert [epoch.epoch for epoch in state.history] == list(range(epochs))
    assert [bool(epoch.valid) for epoch in state.history] == [(k + 1) % every == 0 for k in range(epochs)]
    assert [math.isnan(epoch.score) for epoch in state.history] == [(k + 1) % every > 0 for k in range(epochs)]


def test_the_last_epoch_is_validated():
    state = Trainer(Toy(epochs=3, every=10)).run()
    assert [bool(epoch.valid) for epoch in state.history] == [False, False, True]


@pytest.mark.parametrize("score", [math.nan, math.inf, -math.inf])
def test_a_first_score_that_is_not_finite_is_a_clear_error(score):
    trainer = Trainer(Toy(scores=iter([(score,)])))
    with pytest.raises(ValueError, match=r"epoch 0 has no finite score: training diverged; lower learning_rate"):
        trainer.run()
    assert len(trainer.state.history) == 1


def test_stages_train_one_module_after_another():
    trainer = Trainer(Toy(stages=2, epochs=2))
    state = trainer.run()
    assert trainer.task.log == [("start", 0), ("end", 0), ("start", 1), ("end", 1)]
    assert [(epoch.stage, epoch.epoch) for epoch in state.history] == [(0, 0), (0, 1), (1, 0), (1, 1)]
    assert not trainer.task.model.training


def test_a_finished_training_is_not_trained_again():
    trainer = Trainer(Toy())
    trainer.run()
    again = Trainer(Toy())
    again.load_state_dict(trainer.state_dict())
    again.task.update = None
    again.run()
    assert _bits(again) == _bits(trainer)


def test_callbacks_are_called_in_order():
    recorder = Recorder()
    trainer = Trainer(Toy(epochs=1), callbacks=[recorder])
    (epoch,) = trainer.run().history
    steps = [(0, 1), (0, 2), (0, 3), (0, 4), (0, 4), (0, 4)]  # two validation batches
    assert recorder.calls == ["start", *steps, epoch, (1, 0), (1, 0)]
    assert epoch.seconds > 0


def _states():
    return [torch.get_rng_state().tolist(), str(np.random.get_state()), random.getstate()]  # noqa: NPY002


def test_the_global_random_state_is_unchanged_and_used_in_callbacks():
    plain = Trainer(Toy())
    plain.run()
    before = _states()
    recorder = Recorder()
    trainer = Trainer(Toy(), callbacks=[recorder])
    torch.manual_seed(7)
    seeded = _states()
    trainer.load_state_dict(trainer.state_dict())
    assert _states() == seeded
    trainer.run()
    torch.manual_seed(7)
    assert recorder.drawn == [float(torch.rand(())) for _ in recorder.drawn]
    assert _bits(trainer) == _bits(plain)
    torch.set_rng_state(torch.tensor(before[0], dtype=torch.uint8))
    trainer = Trainer(Toy(scores=iter([(math.nan,)])))
    with pytest.raises(ValueError, match="no finite score"):
        trainer.run()
    assert _states() == before
