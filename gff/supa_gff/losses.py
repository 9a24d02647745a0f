"""Local losses: functions of the score of the truth and the scores of what is wrong."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from supa.checks import check_real


@dataclass(frozen=True)
class Threshold:
    """softplus(theta - true) + mean over the wrong of softplus(wrong - theta) (Hinton, arXiv 2212.13345, section 2).

    With theta = 0 it is the binary cross-entropy of the scores.

    Args:
        theta: the threshold.
    """

    theta: float = 2.0

    def __post_init__(self) -> None:
        check_real(lambda _: True, "that is finite", "theta", self.theta)

    def __call__(self, true: Tensor, wrong: Tensor) -> Tensor:
        """Give the loss.

        Args:
            true: (units,) scores of the truth.
            wrong: (units, wrong) scores of what is wrong.

        Returns:
            The mean over units.
        """
        return functional.softplus(self.theta - true).mean() + functional.softplus(wrong - self.theta).mean()


@dataclass(frozen=True)
class SymBa:
    """Mean over the wrong of softplus(-alpha (true - wrong)) (SymBa, arXiv 2303.08418).

    Args:
        alpha: steepness.
    """

    alpha: float = 4.0

    def __post_init__(self) -> None:
        check_real(lambda v: v > 0, "above zero", "alpha", self.alpha)

    def __call__(self, true: Tensor, wrong: Tensor) -> Tensor:
        """Give the loss; see `Threshold`."""
        return functional.softplus(-self.alpha * (true[:, None] - wrong)).mean()


@dataclass(frozen=True)
class Softmax:
    """Cross-entropy of the truth among all that is scored.

    Args:
        temperature: the scores are divided by it.
    """

    temperature: float = 1.0

    def __post_init__(self) -> None:
        check_real(lambda v: v > 0, "above zero", "temperature", self.temperature)

    def __call__(self, true: Tensor, wrong: Tensor) -> Tensor:
        """Give the loss; see `Threshold`."""
        scores = torch.cat([true[:, None], wrong], 1) / self.temperature
        return (scores.logsumexp(1) - scores[:, 0]).mean()


@dataclass(frozen=True)
class SquaredError:
    """Mean squared difference of a value and its target: regression."""

    def __call__(self, value: Tensor, target: Tensor) -> Tensor:
        """Give the loss.

        Args:
            value: (units,) what is predicted.
            target: (units,) what it should be.

        Returns:
            The mean over units.
        """
        return (value - target).square().mean()


Loss = Threshold | SymBa | Softmax | SquaredError
