"""Schedules, random states, orders, baselines and majority classes compared with simple formulas."""

import math

import numpy as np
import pytest
import torch

from supa_learning import CountBaseline, Position, RandomState, StepDecay, WarmupCosine, choose_device, epoch_order
from supa_learning.metrics import confusion_matrix, majority_class


def test_the_learning_rate_rises_and_falls_as_a_cosine():
    schedule = WarmupCosine(0.01, 0.2)
    steps = 3 * 5
    warm = 0.2 * steps
    for step in range(steps):
        rising = 0.01 * (step + 1) / (warm + 1)
        falling = 0.005 * (1 + math.cos(math.pi * (step - warm) / (steps - warm)))
        assert schedule(Position(*divmod(step, 5), 5, 3)) == pytest.approx(rising if step < warm else falling)


def test_the_learning_rate_is_halved_after_every_step_size():
    rates = [StepDecay(1e-3, 2)(Position(epoch, 0, 1, 5)) for epoch in range(5)]
    assert rates == [1e-3, 1e-3, 5e-4, 5e-4, 2.5e-4]
    assert StepDecay(1e-3)(Position(999, 0, 1, 1000)) == 1e-3


def test_every_epoch_has_its_own_order():
    orders = [epoch_order(50, seed, epoch).tolist() for seed in (0, 1) for epoch in (0, 1)]
    assert all(sorted(order) == list(range(50)) for order in orders)
    assert len(set(map(tuple, orders))) == 4
    assert epoch_order(50, 1, 1).tolist() == orders[3]


def test_a_random_state_continues_where_it_stopped():
    torch.manual_seed(3)
    expected = [float(torch.rand(())) for _ in range(3)]
    state, drawn = RandomState(3), []
    for _ in range(3):
        before = torch.get_rng_state()
        with state.as_global():
            drawn.append(float(torch.rand(())))
            with state.as_global():
                assert torch.equal(torch.get_rng_state(), before)
        assert torch.equal(torch.get_rng_state(), before)
        restored = RandomState(99)
        restored.load_state_dict(state.state_dict())
        state = restored
    assert drawn == expected


def test_the_majority_class_is_the_first_of_the_most_frequent_ones():
    assert majority_class(torch.tensor([2, 1, 2, 1, 0])) == 1
    assert majority_class(torch.tensor([0, 3, 3])) == 3


def test_confusion_counts_true_classes_in_rows():
    target, predicted = torch.tensor([0, 2, 2, 1]), torch.tensor([1, 2, 0, 1])
    assert confusion_matrix(target, predicted, 3).tolist() == [[0, 1, 0], [0, 1, 0], [1, 0, 1]]


def test_the_count_baseline_is_fitted_in_bins_of_the_count():
    counts = np.repeat([1, 5, 9], 100)
    target = np.concatenate([np.arange(100) % 3 // 2, np.ones(100, dtype=np.int64), np.full(100, 2)])
    baseline = CountBaseline.fit(target, counts, classes=True)
    assert baseline.constant == 1  # 133 of 300
    assert baseline.predict(np.array([1, 5, 9, 100])).tolist() == [0, 1, 2, 2]
    values = CountBaseline.fit(counts.astype(np.float64) ** 2, counts, classes=False)
    assert values.constant == pytest.approx((1 + 25 + 81) / 3)
    assert values.predict(np.array([1, 5, 9])).tolist() == [1, 25, 81]
    constant = CountBaseline.fit(target, None, classes=True)
    assert constant.predict(np.array([1, 9])).tolist() == [1, 1]
    assert CountBaseline.from_dict(baseline.to_dict()) == baseline


def test_the_bins_have_equal_numbers_of_training_items():
    counts = np.arange(80)
    baseline = CountBaseline.fit(counts.astype(np.float64), counts, classes=False)
    assert baseline.by_count == tuple(np.arange(0.5, 80, 2).tolist())
    assert baseline.predict(np.array([0, 1, 2, 79, 500])).tolist() == [0.5, 0.5, 2.5, 78.5, 78.5]


def test_a_missing_gpu_is_a_clear_error(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert (choose_device("auto"), choose_device("cpu")) == ("cpu", "cpu")
    with pytest.raises(ValueError, match="PyTorch finds no CUDA device; use cpu"):
        choose_device("cuda")
