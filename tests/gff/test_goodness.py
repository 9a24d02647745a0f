"""Tests of goodness functions against plain Python."""

import math

import pytest
import torch

from supa_gff.goodness import Entmax, MeanActivation, MeanOfSquares, SumOfSquares, TopK, entmax15


def naive_entmax(scores: list[float]) -> list[float]:
    """Compute 1.5-entmax by bisection for tau, in which the sum of max(s / 2 - tau, 0)^2 decreases."""
    z = [s / 2 for s in scores]
    low, high = max(z) - 1, max(z)
    for _ in range(200):
        tau = (low + high) / 2
        if sum(max(v - tau, 0) ** 2 for v in z) > 1:
            low = tau
        else:
            high = tau
    return [max(v - low, 0) ** 2 for v in z]


def naive(name: str, h: list[float]) -> float:
    squares = [v * v for v in h]
    if name == "sum":
        return math.fsum(squares)
    if name == "mean":
        return math.fsum(squares) / len(h)
    if name == "activation":
        return math.fsum(h) / len(h)
    if name == "top 3":
        return math.fsum(sorted(squares)[-3:]) / 3
    return math.fsum(p * s for p, s in zip(naive_entmax(squares), squares, strict=True))


GOODNESS = {
    "sum": SumOfSquares(),
    "mean": MeanOfSquares(),
    "activation": MeanActivation(),
    "top 3": TopK(3),
    "entmax": Entmax(),
}


@pytest.mark.parametrize("name", GOODNESS)
@pytest.mark.parametrize("scale", [0.1, 1.0, 10.0])
def test_goodness_equals_plain_python(name, scale):
    torch.manual_seed(0)
    h = torch.randn(2, 5, 7, dtype=torch.float64) * scale
    h[0, 0] = 0
    expected = [[naive(name, node) for node in stream] for stream in h.tolist()]
    assert torch.allclose(GOODNESS[name](h), torch.tensor(expected, dtype=torch.float64), rtol=1e-9, atol=1e-9)


def test_top_k_uses_all_channels_if_there_are_fewer():
    h = torch.randn(4, 5)
    assert torch.allclose(TopK(8)(h), MeanOfSquares()(h))


@pytest.mark.parametrize("scores", [[0.0] * 5, [1, 2, 3, 4], [100, -100, 99.5, 3], [-1e4, 0, 0.1], [7], [3, 3, -50]])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_entmax_equals_bisection(scores, dtype):
    weights = entmax15(torch.tensor(scores, dtype=dtype))
    expected = torch.tensor(naive_entmax([float(s) for s in scores]), dtype=dtype)
    assert torch.allclose(weights, expected, atol=1e-9 if dtype == torch.float64 else 1e-4)
    assert float(weights.sum()) == pytest.approx(1, abs=1e-5)


def test_gradient_of_entmax():
    torch.manual_seed(1)
    scores = torch.randn(3, 6, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(entmax15, (scores,))


def test_invalid_k_raises():
    with pytest.raises(ValueError, match=r"k: 0 was given, but it must be a whole number from 1"):
        TopK(0)
