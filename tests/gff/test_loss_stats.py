"""Tests of the loss and statistics of a step against explicit computations."""

import math

import pytest
import torch

from supa_gff import Batch, LayerStats, Method, Network
from supa_gff.heads import Head, PairProduct
from supa_gff.losses import Softmax, SquaredError, SymBa
from supa_gff.updates.loss_stats import loss_and_stats, mean_figures, sum_stats


def batch_of(target: torch.Tensor) -> Batch:
    count = len(target)
    return Batch(torch.zeros(count, 2), torch.zeros(2, 0, dtype=torch.int64), torch.arange(count), count, target)


def figures(stats: LayerStats) -> tuple[float, float, float, float]:
    return stats.loss, stats.positive, stats.negative, stats.accuracy


def test_stats_with_all_classes():
    scores = torch.tensor([[2.0, 1.0, 0.0], [1.0, 3.0, 2.0], [5.0, 5.0, 1.0], [0.0, 1.0, 2.0]])
    target = torch.tensor([0, 2, 1, 0])
    network = Network(Method(score=Head("linear"), loss=Softmax()), 2, 3)
    loss, stats = loss_and_stats(network, 4, scores, batch_of(target), None)
    assert float(loss) == pytest.approx(float(torch.nn.functional.cross_entropy(scores, target)))
    # The second exceeds only one of two negatives, and the third equals a negative. Neither counts as correct.
    assert figures(stats) == pytest.approx((float(loss), 9 / 4, 14 / 8, 1 / 4))
    assert (stats.layer, stats.units) == (4, 4)


def test_stats_with_drawn_candidates():
    scores = torch.tensor([[2.0, 1.0, 0.0], [1.0, 3.0, 2.0], [5.0, 5.0, 1.0], [0.0, 1.0, 2.0]])
    candidates = torch.tensor([[0, 2], [2, 0], [1, 2], [0, 1]])
    network = Network(Method(score=Head("linear"), loss=SymBa(1.0)), 2, 3)
    _, stats = loss_and_stats(network, 0, scores, batch_of(candidates[:, 0]), candidates)
    expected = sum(math.log1p(math.exp(n - p)) for p, n in ((2, 0), (2, 1), (5, 1), (0, 1))) / 4
    assert figures(stats) == pytest.approx((expected, 9 / 4, 3 / 4, 3 / 4))


def test_stats_with_several_unlinked_pairs_per_link():
    scores = torch.tensor([[3.0], [1.0], [0.0], [-1.0], [4.0], [0.5]])
    network = Network(Method(score=PairProduct(), loss=SymBa(1.0)), 2, 1, "link")
    _, stats = loss_and_stats(network, 0, scores, batch_of(torch.tensor([1.0, 0, 1, 0, 0, 0])), None)
    compared = {3.0: (1.0, 4.0), 0.0: (-1.0, 0.5)}
    expected = sum(math.log1p(math.exp(n - p)) for p, others in compared.items() for n in others) / 4
    assert figures(stats) == pytest.approx((expected, 1.5, 4.5 / 4, 0.0))
    assert stats.units == 2


def test_stats_of_regression():
    network = Network(Method(score=Head("linear"), loss=SquaredError()), 2, 1)
    _, stats = loss_and_stats(network, 0, torch.tensor([[1.0], [4.0]]), batch_of(torch.tensor([2.0, 1.0])), None)
    assert figures(stats) == pytest.approx((5.0, 2.5, math.nan, math.nan), nan_ok=True)


def test_steps_are_weighted_by_units():
    steps = [
        [LayerStats(0, torch.tensor([1.0, 2.0, 3.0, 0.0]), 3), LayerStats(1, torch.tensor([7.0, 7.0, 7.0, 1.0]), 3)],
        [LayerStats(0, torch.tensor([5.0, 6.0, 7.0, 1.0]), 1), LayerStats(1, torch.tensor([3.0, 3.0, 3.0, 0.0]), 1)],
    ]
    first, second = mean_figures(sum(map(sum_stats, steps)))
    assert first == {"loss": 2.0, "positive": 3.0, "negative": 4.0, "accuracy": 0.25}
    assert second == {"loss": 6.0, "positive": 6.0, "negative": 6.0, "accuracy": 0.75}
