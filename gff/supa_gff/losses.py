"""Local losses: functions of the scores of positive and negative labels, or of predicted values."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from supa.checks import check_real


@dataclass(frozen=True)
class Threshold:
    """Threshold loss: mean of softplus(theta - positive) plus mean of softplus(negative - theta).

    With theta = 0 this is the binary cross-entropy of the scores.

    Args:
        theta: Threshold between the scores of positive and negative labels.

    Example:
        >>> import torch
        >>> from supa_gff.losses import Threshold
        >>> loss = Threshold(theta=2.0)
        >>> bool(loss(torch.tensor([4.0]), torch.tensor([[0.0]])) < loss(torch.tensor([0.0]), torch.tensor([[4.0]])))
        True

    Source:
        Hinton, The Forward-Forward Algorithm (arXiv 2212.13345), section 2.
    """

    theta: float = 2.0

    def __post_init__(self) -> None:
        check_real(lambda _: True, "that is finite", "theta", self.theta)

    def __call__(self, positive: Tensor, negative: Tensor, weights: Tensor | None = None) -> Tensor:
        """Compute the loss.

        Args:
            positive: (units,) float32 scores of the positive labels.
            negative: (units, negatives) float32 scores of the negative labels.
            weights: (units,) float32 weights of the units. None: all units have the same weight.

        Returns:
            () float32 loss: the weighted mean over units.
        """
        above, below = functional.softplus(self.theta - positive), functional.softplus(negative - self.theta)
        return _mean(above, weights) + _mean(below, weights)


@dataclass(frozen=True)
class SymBa:
    """SymBa loss: mean of softplus(-alpha (positive - negative)) over the negatives (arXiv 2303.08418).

    Args:
        alpha: Steepness of the loss.

    Example:
        >>> import torch
        >>> from supa_gff.losses import SymBa
        >>> SymBa(alpha=4.0)(torch.tensor([1.0]), torch.tensor([[1.0]]))  # log(2) for equal scores
        tensor(0.6931)
    """

    alpha: float = 4.0

    def __post_init__(self) -> None:
        check_real(lambda v: v > 0, "above zero", "alpha", self.alpha)

    def __call__(self, positive: Tensor, negative: Tensor, weights: Tensor | None = None) -> Tensor:
        """Compute the loss; see `Threshold`."""
        return _mean(functional.softplus(-self.alpha * (positive[:, None] - negative)), weights)


@dataclass(frozen=True)
class Softmax:
    """Cross-entropy of the positive label among the positive and negative labels.

    Args:
        temperature: Divisor of the scores.
        smoothing: Probability that the target distribution spreads evenly over all scored labels (label smoothing,
            arXiv 1512.00567).

    Example:
        >>> import torch
        >>> from supa_gff.losses import Softmax
        >>> Softmax()(torch.tensor([1.0]), torch.tensor([[1.0, 1.0]]))  # log(3) for three equal scores
        tensor(1.0986)
    """

    temperature: float = 1.0
    smoothing: float = 0.0

    def __post_init__(self) -> None:
        check_real(lambda v: v > 0, "above zero", "temperature", self.temperature)
        check_real(lambda v: 0 <= v < 1, "from 0 to below 1", "smoothing", self.smoothing)

    def __call__(self, positive: Tensor, negative: Tensor, weights: Tensor | None = None) -> Tensor:
        """Compute the loss; see `Threshold`."""
        scores = torch.cat([positive[:, None], negative], 1) / self.temperature
        expected = scores[:, 0]
        if self.smoothing:
            expected = torch.lerp(expected, scores.mean(1), self.smoothing)
        return _mean(scores.logsumexp(1) - expected, weights)


@dataclass(frozen=True)
class SquaredError:
    """Mean squared error, for regression.

    Example:
        >>> import torch
        >>> from supa_gff.losses import SquaredError
        >>> SquaredError()(torch.tensor([1.0, 2.0]), torch.tensor([1.0, 4.0]))
        tensor(2.)
    """

    def __call__(self, value: Tensor, target: Tensor) -> Tensor:
        """Compute the loss.

        Args:
            value: (units,) or (units, targets) float32 predicted values.
            target: Target values of the same shape.

        Returns:
            () float32 loss, averaged over units and targets.
        """
        return (value - target).square().mean()


@dataclass(frozen=True)
class BinaryCrossEntropy:
    """Binary cross-entropy of each label, for multi-label targets.

    Example:
        >>> import torch
        >>> from supa_gff.losses import BinaryCrossEntropy
        >>> BinaryCrossEntropy()(torch.zeros(1, 3), torch.tensor([[1.0, 0.0, 1.0]]))  # log(2) for scores of zero
        tensor(0.6931)
    """

    def __call__(self, scores: Tensor, target: Tensor, weights: Tensor | None = None) -> Tensor:
        """Compute the loss.

        Args:
            scores: (units, labels) float32 scores. The sigmoid of a score is the probability of the label.
            target: (units, labels) float32, 1 for labels that apply and 0 for others.
            weights: (labels,) float32 weight of the units to which a label applies. None: all weights are 1.

        Returns:
            () float32 loss, averaged over units and labels.
        """
        return functional.binary_cross_entropy_with_logits(scores, target, pos_weight=weights)


def _mean(losses: Tensor, weights: Tensor | None) -> Tensor:
    """Return the mean of the (units,) or (units, negatives) losses, in which each unit has its weight."""
    if weights is None:
        return losses.mean()
    by_unit = losses if losses.dim() == 1 else losses.mean(1)
    return (by_unit * weights).sum() / weights.sum()


Loss = Threshold | SymBa | Softmax | SquaredError | BinaryCrossEntropy
