"""How good predictions are: accuracy, root mean squared error, area under the ROC curve."""

import torch
from torch import Tensor


def accuracy(scores: Tensor, target: Tensor) -> float:
    """Give the share of units whose class has the highest score.

    Args:
        scores: (units, classes) float32.
        target: (units,) int64.

    Returns:
        From 0 to 1; NaN without units.
    """
    return float((scores.argmax(1) == target).double().mean())


def root_mean_squared_error(values: Tensor, target: Tensor) -> float:
    """Give the root of the mean squared difference.

    Args:
        values: (units,) float32.
        target: (units,) float32.

    Returns:
        In the unit of the values.
    """
    return float((values.double() - target.double()).square().mean().sqrt())


def roc_auc(scores: Tensor, target: Tensor) -> float:
    """Give the probability that a linked pair scores above another; equal scores count one half.

    The rank-sum form of Mann and Whitney (1947).

    Args:
        scores: (units,) float32.
        target: (units,) 1 = linked, 0 = not.

    Returns:
        From 0 to 1; NaN where one kind is missing.
    """
    order = scores.double().sort()
    _, group, counts = torch.unique_consecutive(order.values, return_inverse=True, return_counts=True)
    mean_rank = counts.cumsum(0) - (counts - 1) / 2
    ranks = torch.empty_like(order.values)
    ranks[order.indices] = mean_rank[group].to(ranks.dtype)
    linked = target > 0
    count = int(linked.sum())
    others = len(target) - count
    if count == 0 or others == 0:
        return float("nan")
    return float((ranks[linked].sum() - count * (count + 1) / 2) / (count * others))


def log_loss(scores: Tensor, target: Tensor) -> float:
    """Give the mean cross-entropy, by which equal accuracies are told apart.

    Args:
        scores: (units, classes) float32.
        target: (units,) int64.

    Returns:
        In nats.
    """
    return float(torch.nn.functional.cross_entropy(scores.double(), target))
