"""Metrics of predictions: accuracy, errors of values, area under the ROC curve, F1, confusion matrix."""

import torch
from torch import Tensor


def accuracy(scores: Tensor, target: Tensor) -> float:
    """Return the fraction of items whose true class has the highest score.

    Args:
        scores: (items, classes) float32 score of each class.
        target: (items,) int64 true class.

    Returns:
        Fraction between 0 and 1; NaN without items.
    """
    return float((scores.argmax(1) == target).double().mean())


def root_mean_squared_error(values: Tensor, target: Tensor) -> float:
    """Return the root mean squared difference between predictions and targets.

    Args:
        values: (items,) float32 predictions.
        target: (items,) float32 targets.

    Returns:
        Root mean squared error in the unit of the values.
    """
    return float((values.double() - target.double()).square().mean().sqrt())


def mean_absolute_error(values: Tensor, target: Tensor) -> float:
    """Return the mean absolute difference between predictions and targets.

    Args:
        values: (items,) float32 predictions.
        target: (items,) float32 targets.

    Returns:
        Mean absolute error in the unit of the values.
    """
    return float((values.double() - target.double()).abs().mean())


def r2_score(values: Tensor, target: Tensor) -> float:
    """Return the coefficient of determination: 1 minus the squared error relative to that of the mean of the targets.

    Args:
        values: (items,) float32 predictions.
        target: (items,) float32 targets.

    Returns:
        At most 1; 0 for the mean of the targets; NaN if all targets are equal.
    """
    exact = target.double()
    spread = (exact - exact.mean()).square().sum()
    if not spread > 0:
        return float("nan")
    return float(1 - (values.double() - exact).square().sum() / spread)


def f1_score(predicted: Tensor, target: Tensor) -> float:
    """Return the harmonic mean of precision and recall.

    Args:
        predicted: (items,) bool, True for items that are predicted to be positive.
        target: (items,) bool, True for positive items.

    Returns:
        Number between 0 and 1; NaN if no item is positive or predicted to be positive.
    """
    either = int(predicted.sum()) + int(target.sum())
    return 2 * int((predicted & target).sum()) / either if either else float("nan")


def roc_auc(scores: Tensor, target: Tensor) -> float:
    """Return the area under the ROC curve: the probability that a positive item has a higher score than a negative one.

    Equal scores count one half (rank-sum form of Mann and Whitney, 1947).

    Args:
        scores: (items,) float32 scores.
        target: (items,) 1 for positive and 0 for negative items.

    Returns:
        Area between 0 and 1; NaN if all items are positive or all are negative.
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
        scores: (items, classes) float32 logits.
        target: (items,) int64 true class.

    Returns:
        Mean cross-entropy in nats.
    """
    return float(torch.nn.functional.cross_entropy(scores.double(), target))


def majority_class(target: Tensor) -> int:
    """Return the most frequent class.

    Args:
        target: (items,) int64 true class.

    Returns:
        Number of the class; the smallest one if several classes are equally frequent.
    """
    return int(torch.bincount(target).argmax())


def confusion_matrix(target: Tensor, predicted: Tensor, classes: int) -> Tensor:
    """Count items by true and predicted class.

    Args:
        target: (items,) int64 true class.
        predicted: (items,) int64 predicted class.
        classes: Number of classes.

    Returns:
        (classes, classes) int64 counts by true class (row) and predicted class (column), on the CPU.

    Example:
        >>> import torch
        >>> from supa_learning.metrics import confusion_matrix
        >>> confusion_matrix(torch.tensor([0, 1, 1]), torch.tensor([0, 0, 1]), 2).tolist()
        [[1, 0], [1, 1]]
    """
    pairs = target * classes + predicted
    return torch.bincount(pairs, minlength=classes**2).view(classes, classes).cpu()
