"""Local losses: functions of the score of the positive label and the scores of negative labels."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from supa.checks import check_real


@dataclass(frozen=True)
class Threshold:
    """softplus(theta - positive) + mean of softplus(negative - theta) (Hinton, arXiv 2212.13345, section 2).

    With theta = 0 it is the binary cross-entropy of the scores.

    Args:
        theta: the threshold.
    """

    theta: float = 2.0

    def __post_init__(self) -> None:
        check_real(lambda _: True, "that is finite", "theta", self.theta)

    def __call__(self, positive: Tensor, negative: Tensor) -> Tensor:
        """Compute the loss.

        Args:
            positive: (units,) float32 scores of the positive labels.
            negative: (units, negatives) float32 scores of the negative labels.

        Returns:
            () float32, the mean over units.
        """
        return functional.softplus(self.theta - positive).mean() + functional.softplus(negative - self.theta).mean()


@dataclass(frozen=True)
class SymBa:
    """Mean over the negatives of softplus(-alpha (positive - negative)) (SymBa, arXiv 2303.08418).

    Args:
        alpha: steepness.
    """

    alpha: float = 4.0

    def __post_init__(self) -> None:
        check_real(lambda v: v > 0, "above zero", "alpha", self.alpha)

    def __call__(self, positive: Tensor, negative: Tensor) -> Tensor:
        """Compute the loss; see `Threshold`."""
        return functional.softplus(-self.alpha * (positive[:, None] - negative)).mean()


@dataclass(frozen=True)
class Softmax:
    """Cross-entropy of the positive label among all scored labels.

    Args:
        temperature: the scores are divided by it.
    """

    temperature: float = 1.0

    def __post_init__(self) -> None:
        check_real(lambda v: v > 0, "above zero", "temperature", self.temperature)

    def __call__(self, positive: Tensor, negative: Tensor) -> Tensor:
        """Compute the loss; see `Threshold`."""
        scores = torch.cat([positive[:, None], negative], 1) / self.temperature
        return (scores.logsumexp(1) - scores[:, 0]).mean()


@dataclass(frozen=True)
class SquaredError:
    """Mean squared difference of predicted and target values: regression."""

    def __call__(self, value: Tensor, target: Tensor) -> Tensor:
        """Compute the loss.

        Args:
            value: (units,) float32 predicted values.
            target: (units,) float32 target values.

        Returns:
            () float32, the mean over units.
        """
        return (value - target).square().mean()


Loss = Threshold | SymBa | Softmax | SquaredError
