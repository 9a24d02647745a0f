"""Metrics of predictions: accuracy, root mean squared error, area under the ROC curve, confusion matrix."""

import torch
from torch import Tensor


def accuracy(scores: Tensor, target: Tensor) -> float:
    """Return the fraction of units whose true class has the highest score.

    Args:
        scores: (units, classes) float32.
        target: (units,) int64.

    Returns:
        From 0 to 1; NaN without units.
    """
    return float((scores.argmax(1) == target).double().mean())


def root_mean_squared_error(values: Tensor, target: Tensor) -> float:
    """Return the root mean squared difference.

    Args:
        values: (units,) float32.
        target: (units,) float32.

    Returns:
        In the unit of the values.
    """
    return float((values.double() - target.double()).square().mean().sqrt())


def roc_auc(scores: Tensor, target: Tensor) -> float:
    """Return the area under the ROC curve: the probability that a positive unit scores above a negative one.

    Equal scores count one half (the rank-sum form of Mann and Whitney, 1947).

    Args:
        scores: (units,) float32.
        target: (units,) 1 = positive, 0 = negative.

    Returns:
        From 0 to 1; NaN if there are only positive or only negative units.
    """
    order = scores.double().sort()
    _, group, counts = torch.unique_consecutive(order.values, return_inverse=True, return_counts=True)
    mean_rank = counts.cumsum(0) - (counts - 1) / 2
    ranks = torch.empty_like(order.values)
    ranks[order.indices] = mean_rank[group].to(ranks.dtype)
    positive = target > 0
    count = int(positive.sum())
    negatives = len(target) - count
    if count == 0 or negatives == 0:
        return float("nan")
    return float((ranks[positive].sum() - count * (count + 1) / 2) / (count * negatives))


def log_loss(scores: Tensor, target: Tensor) -> float:
    """Return the mean cross-entropy.

    Args:
        scores: (units, classes) float32.
        target: (units,) int64.

    Returns:
        In nats.
    """
    return float(torch.nn.functional.cross_entropy(scores.double(), target))


def majority_class(target: Tensor) -> int:
    """Return the most frequent class; the first of several.

    Args:
        target: (units,) int64 classes.

    Returns:
        The class.
    """
    return int(torch.bincount(target).argmax())


def confusion_matrix(target: Tensor, predicted: Tensor, classes: int) -> Tensor:
    """Count units by true and predicted class.

    Args:
        target: (units,) int64 true classes.
        predicted: (units,) int64 predicted classes.
        classes: number of classes.

    Returns:
        (classes, classes) int64 counts, by true class (row) and predicted class (column), on the CPU.

    Example:
        >>> confusion_matrix(torch.tensor([0, 1, 1]), torch.tensor([0, 0, 1]), 2).tolist()
        [[1, 0], [1, 1]]
    """
    pairs = target * classes + predicted
    return torch.bincount(pairs, minlength=classes**2).view(classes, classes).cpu()
