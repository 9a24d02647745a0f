"""Mixtures of normal distributions in one and two dimensions, with normalised densities and samples from uniforms."""

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

LOWEST_LOG_SCALE = -7.0
"""Lower limit of the logarithm of a standard deviation, which keeps densities finite if all values are equal."""

HIGHEST_LOG_SCALE = 4.0
"""Upper limit, which keeps samples finite. Positions and energy logits of showers are of order 1."""

_LOG_ROOT_2_PI = 0.5 * math.log(2 * math.pi)


class NormalMixture(NamedTuple):
    """Mixture of K normal distributions.

    Args:
        log_weight: (..., K) logarithms of the weights, which sum to 1.
        mean: (..., K) means.
        log_scale: (..., K) logarithms of the standard deviations.

    Example:
        >>> import torch
        >>> from supa_mamba.generator.mixtures import NormalMixture
        >>> mixture = NormalMixture.of(torch.zeros(5, 3 * 4))  # four components for each of five values
        >>> mixture.log_density(torch.zeros(5)).shape
        torch.Size([5])
    """

    log_weight: Tensor
    mean: Tensor
    log_scale: Tensor

    @classmethod
    def of(cls, parameters: Tensor) -> "NormalMixture":
        """Convert the outputs of a network.

        Args:
            parameters: (..., 3 K) unconstrained values.

        Returns:
            The mixture.
        """
        logit, mean, scale = parameters.chunk(3, dim=-1)
        return cls(logit.log_softmax(-1), mean, bounded_log_scale(scale))

    def log_density(self, value: Tensor) -> Tensor:
        """Return the logarithms of densities.

        Args:
            value: (...) values.

        Returns:
            (...) logarithms of the densities.
        """
        distance = (value[..., None] - self.mean) * torch.exp(-self.log_scale)
        of_component = -0.5 * distance.square() - self.log_scale - _LOG_ROOT_2_PI
        return torch.logsumexp(self.log_weight + of_component, -1)

    def sample(self, uniform: Tensor) -> Tensor:
        """Convert uniform numbers into samples.

        Args:
            uniform: (..., 2) independent numbers, above 0 and below 1.

        Returns:
            (...) samples.
        """
        chosen = categorical_sample(self.log_weight, uniform[..., 0])[..., None]
        mean, log_scale = (x.gather(-1, chosen)[..., 0] for x in (self.mean, self.log_scale))
        found: Tensor = mean + torch.exp(log_scale) * torch.special.ndtri(uniform[..., 1])
        return found


class PlaneMixture(NamedTuple):
    """Mixture of K normal distributions of two correlated coordinates.

    Args:
        log_weight: (..., K) logarithms of the weights, which sum to 1.
        mean: (..., K, 2) means.
        log_scale: (..., K, 2) logarithms of the standard deviations of the first coordinate, and of the second one
            around its regression on the first.
        slope: (..., K) slope of this regression, in units of the two standard deviations.

    Example:
        >>> import torch
        >>> from supa_mamba.generator.mixtures import PlaneMixture
        >>> mixture = PlaneMixture.of(torch.zeros(5, 7 * 4), anchor=torch.zeros(5, 2))
        >>> mixture.log_density(torch.zeros(5, 2)).shape
        torch.Size([5])
    """

    log_weight: Tensor
    mean: Tensor
    log_scale: Tensor
    slope: Tensor

    @classmethod
    def of(cls, parameters: Tensor, anchor: Tensor) -> "PlaneMixture":
        """Convert the outputs of a network.

        Args:
            parameters: (..., 7 K) unconstrained values.
            anchor: (..., 2) position that the means may follow: each is measured from a point between the origin and
                the anchor.

        Returns:
            The mixture.
        """
        logit, x, y, of_anchor, scale_x, scale_y, slope = parameters.chunk(7, dim=-1)
        mean = torch.stack([x, y], -1) + torch.sigmoid(of_anchor)[..., None] * anchor[..., None, :]
        log_scale = bounded_log_scale(torch.stack([scale_x, scale_y], -1))
        return cls(logit.log_softmax(-1), mean, log_scale, slope)

    def log_density(self, value: Tensor) -> Tensor:
        """Return the logarithms of densities.

        Args:
            value: (..., 2) values.

        Returns:
            (...) logarithms of the densities.
        """
        distance = (value[..., None, :] - self.mean) * torch.exp(-self.log_scale)
        first, second = distance[..., 0], distance[..., 1] - self.slope * distance[..., 0]
        of_component = -0.5 * (first.square() + second.square()) - self.log_scale.sum(-1) - 2 * _LOG_ROOT_2_PI
        return torch.logsumexp(self.log_weight + of_component, -1)

    def sample(self, uniform: Tensor) -> Tensor:
        """Convert uniform numbers into samples.

        Args:
            uniform: (..., 3) independent numbers, above 0 and below 1.

        Returns:
            (..., 2) samples.
        """
        chosen = categorical_sample(self.log_weight, uniform[..., 0])[..., None]
        slope = self.slope.gather(-1, chosen)[..., 0]
        mean, log_scale = (
            x.gather(-2, chosen[..., None].expand(*chosen.shape, 2))[..., 0, :] for x in (self.mean, self.log_scale)
        )
        first, second = torch.special.ndtri(uniform[..., 1:]).unbind(-1)
        found: Tensor = mean + torch.exp(log_scale) * torch.stack([first, second + slope * first], -1)
        return found


def bounded_log_scale(value: Tensor) -> Tensor:
    """Limit the logarithm of a standard deviation smoothly.

    Args:
        value: (...) unconstrained values.

    Returns:
        (...) values above ``LOWEST_LOG_SCALE`` and below about ``HIGHEST_LOG_SCALE``.
    """
    below = HIGHEST_LOG_SCALE - functional.softplus(HIGHEST_LOG_SCALE - value)
    return LOWEST_LOG_SCALE + functional.softplus(below - LOWEST_LOG_SCALE)


def categorical_sample(log_probability: Tensor, uniform: Tensor) -> Tensor:
    """Convert uniform numbers into samples of a categorical distribution, by its cumulative probabilities.

    Args:
        log_probability: (..., K) logarithms of probabilities that sum to 1. Minus infinity excludes a category.
        uniform: (...) numbers above 0 and below 1.

    Returns:
        (...) int64 categories.

    Example:
        >>> import torch
        >>> from supa_mamba.generator.mixtures import categorical_sample
        >>> categorical_sample(torch.tensor([0.25, 0.75]).log().expand(3, 2), torch.tensor([0.1, 0.3, 0.9]))
        tensor([0, 1, 1])
    """
    cumulative = log_probability.exp().cumsum(-1)
    # The sum of rounded probabilities differs from 1, so the last possible category takes the rest.
    last = (log_probability > -torch.inf).long().cumsum(-1).argmax(-1)
    return torch.minimum((cumulative <= uniform[..., None]).sum(-1), last)
