"""Metrics compared with scikit-learn and simple loops."""

import math

import pytest
import torch

from supa_learning import metrics


def test_accuracy_and_errors_equal_loops():
    torch.manual_seed(0)
    scores, target = torch.randn(50, 3), torch.randint(3, (50,))
    rows = zip(scores.tolist(), target.tolist(), strict=True)
    assert metrics.accuracy(scores, target) == pytest.approx(sum(row.index(max(row)) == t for row, t in rows) / 50)
    rows = zip(scores.tolist(), target.tolist(), strict=True)
    expected = math.fsum(math.log(sum(map(math.exp, row))) - row[t] for row, t in rows) / 50
    assert metrics.log_loss(scores, target) == pytest.approx(expected)
    a, b = scores[:, 0], scores[:, 1]
    squares = [(u - v) ** 2 for u, v in zip(a.tolist(), b.tolist(), strict=True)]
    assert metrics.root_mean_squared_error(a, b) == pytest.approx(math.sqrt(math.fsum(squares) / 50))


@pytest.mark.parametrize("levels", [2, 5, 10**6])
def test_area_equals_scikit_learn_with_ties(levels):
    sklearn = pytest.importorskip("sklearn.metrics", reason="scikit-learn is not installed")
    torch.manual_seed(levels)
    scores, target = torch.randint(levels, (300,)).float(), (torch.rand(300) < 0.3).float()
    expected = sklearn.roc_auc_score(target.numpy(), scores.numpy())
    assert metrics.roc_auc(scores, target) == pytest.approx(expected, abs=1e-12)


def test_area_equals_counting_pairs():
    scores, target = torch.tensor([0.5, 0.5, 0.1, 0.9, 0.5]), torch.tensor([1, 0, 0, 1, 1])
    wins = [1.0 if p > n else 0.5 if p == n else 0.0 for p in (0.5, 0.9, 0.5) for n in (0.5, 0.1)]
    assert metrics.roc_auc(scores, target) == pytest.approx(sum(wins) / len(wins))


def test_area_is_nan_without_positives_or_negatives():
    assert math.isnan(metrics.roc_auc(torch.randn(3), torch.ones(3)))
    assert math.isnan(metrics.roc_auc(torch.randn(3), torch.zeros(3)))


@pytest.mark.parametrize("linked", [[0, 0, 1], [1, 1, 0]])
def test_area_with_one_item_of_a_class_is_correct(linked):
    assert metrics.roc_auc(torch.tensor([1.0, 3.0, 2.0]), torch.tensor(linked)) == 0.5
