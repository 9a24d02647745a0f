"""Local losses: functions of the scores of positive and negative labels."""

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

    def __call__(self, positive: Tensor, negative: Tensor) -> Tensor:
        """Compute the loss.

        Args:
            positive: (units,) float32 scores of the positive labels.
            negative: (units, negatives) float32 scores of the negative labels.

        Returns:
            () float32 loss, averaged over units.
        """
        return functional.softplus(self.theta - positive).mean() + functional.softplus(negative - self.theta).mean()


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

    def __call__(self, positive: Tensor, negative: Tensor) -> Tensor:
        """Compute the loss; see `Threshold`."""
        return functional.softplus(-self.alpha * (positive[:, None] - negative)).mean()


@dataclass(frozen=True)
class Softmax:
    """Cross-entropy of the positive label among the positive and negative labels.

    Args:
        temperature: Divisor of the scores.

    Example:
        >>> import torch
        >>> from supa_gff.losses import Softmax
        >>> Softmax()(torch.tensor([1.0]), torch.tensor([[1.0, 1.0]]))  # log(3) for three equal scores
        tensor(1.0986)
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
            value: (units,) float32 predicted values.
            target: (units,) float32 target values.

        Returns:
            () float32 loss, averaged over units.
        """
        return (value - target).square().mean()


Loss = Threshold | SymBa | Softmax | SquaredError
