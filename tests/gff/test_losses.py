"""Tests of local losses against their formulas in plain Python."""

import math

import pytest
import torch

from supa_gff.losses import BinaryCrossEntropy, Softmax, SquaredError, SymBa, Threshold

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


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_softmax_over_all_classes_is_cross_entropy(smoothing):
    scores, first = torch.cat([TRUE[:, None], WRONG], 1), torch.zeros(5, dtype=torch.int64)
    expected = torch.nn.functional.cross_entropy(scores, first, label_smoothing=smoothing)
    assert float(Softmax(smoothing=smoothing)(TRUE, WRONG)) == pytest.approx(float(expected))


def test_squared_error_equals_formula():
    expected = mean([(t - wrong[0]) ** 2 for t, wrong in UNITS])
    assert float(SquaredError()(TRUE, WRONG[:, 0])) == pytest.approx(expected)


def test_binary_cross_entropy_equals_formula():
    target, weights = (WRONG > 0).double(), [1.0, 3.0, 0.5]

    def loss(score: float, applies: float, weight: float) -> float:
        return weight * softplus(-score) if applies else softplus(score)

    pairs = [*zip(WRONG.tolist(), target.tolist(), strict=True)]
    expected = mean([mean([loss(*one, 1.0) for one in zip(*row, strict=True)]) for row in pairs])
    assert float(BinaryCrossEntropy()(WRONG, target)) == pytest.approx(expected)
    expected = mean([mean([loss(*one) for one in zip(*row, weights, strict=True)]) for row in pairs])
    assert float(BinaryCrossEntropy()(WRONG, target, torch.tensor(weights).double())) == pytest.approx(expected)


@pytest.mark.parametrize("loss", [Threshold(1.5), SymBa(), Softmax(0.5)])
def test_weighted_loss_is_the_weighted_mean_over_units(loss):
    weights = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0], dtype=torch.float64)
    alone = [float(loss(TRUE[k : k + 1], WRONG[k : k + 1])) for k in range(5)]
    expected = sum(w * v for w, v in zip(weights.tolist(), alone, strict=True)) / 15
    assert float(loss(TRUE, WRONG, weights)) == pytest.approx(expected)
    assert float(loss(TRUE, WRONG, torch.ones(5).double())) == pytest.approx(float(loss(TRUE, WRONG)))


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
        (lambda: Softmax(smoothing=1.0), "smoothing: 1.0 was given, but it must be a number from 0 to below 1"),
        (lambda: Softmax(-1.0), "temperature: -1.0 was given, but it must be a number above zero"),
    ],
)
def test_invalid_numbers_raise(make, message):
    with pytest.raises(ValueError, match=message):
        make()
