"""Tests of local losses against their formulas in plain Python."""

import math

import pytest
import torch

from supa_gff.losses import Softmax, SquaredError, SymBa, Threshold

torch.manual_seed(0)
TRUE, WRONG = torch.randn(5, dtype=torch.float64), torch.randn(5, 3, dtype=torch.float64)
UNITS = list(zip(TRUE.tolist(), WRONG.tolist(), strict=True))


def softplus(v: float) -> float:
    return math.log1p(math.exp(v))


def mean(values: list[float]) -> float:
    return math.fsum(values) / len(values)


def test_threshold_equals_formula():
    expected = mean([softplus(1.5 - t) + mean([softplus(w - 1.5) for w in wrong]) for t, wrong in UNITS])
    assert float(Threshold(1.5)(TRUE, WRONG)) == pytest.approx(expected)


def test_threshold_of_zero_is_binary_cross_entropy():
    wrong = WRONG[:, :1]
    scores, target = torch.cat([TRUE, wrong[:, 0]]), torch.cat([torch.ones(5), torch.zeros(5)]).double()
    expected = 2 * torch.nn.functional.binary_cross_entropy_with_logits(scores, target)
    assert float(Threshold(0.0)(TRUE, wrong)) == pytest.approx(float(expected))


def test_symba_equals_formula():
    expected = mean([mean([softplus(-4 * (t - w)) for w in wrong]) for t, wrong in UNITS])
    assert float(SymBa()(TRUE, WRONG)) == pytest.approx(expected)


def test_softmax_equals_formula():
    expected = mean([-math.log(math.exp(t / 2) / sum(math.exp(s / 2) for s in [t, *wrong])) for t, wrong in UNITS])
    assert float(Softmax(2.0)(TRUE, WRONG)) == pytest.approx(expected)


def test_softmax_over_all_classes_is_cross_entropy():
    scores = torch.cat([TRUE[:, None], WRONG], 1)
    expected = torch.nn.functional.cross_entropy(scores, torch.zeros(5, dtype=torch.int64))
    assert float(Softmax()(TRUE, WRONG)) == pytest.approx(float(expected))


def test_squared_error_equals_formula():
    expected = mean([(t - wrong[0]) ** 2 for t, wrong in UNITS])
    assert float(SquaredError()(TRUE, WRONG[:, 0])) == pytest.approx(expected)


@pytest.mark.parametrize("loss", [Threshold(2.0), SymBa(), Softmax(0.5)])
def test_large_scores_have_finite_losses_and_gradients(loss):
    true = torch.tensor([-1e4, 1e4], requires_grad=True)
    value = loss(true, torch.tensor([[1e4], [-1e4]]))
    value.backward()
    assert torch.isfinite(value)
    assert float(true.grad[0]) < 0


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Threshold(math.nan), "theta: nan was given, but it must be a number that is finite"),
        (lambda: SymBa(0), "alpha: 0 was given, but it must be a number above zero"),
        (lambda: Softmax(-1.0), "temperature: -1.0 was given, but it must be a number above zero"),
    ],
)
def test_invalid_numbers_raise(make, message):
    with pytest.raises(ValueError, match=message):
        make()
