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

HIGHEST_LOG_SPREAD = 0.0
"""Upper limit of the logarithm of the standard deviation of the logarithm of a radius."""

_LEAST_SQUARE = 1e-20
"""Lower limit of the square of a radius, whose logarithm is taken."""

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
    """Mixture of K normal distributions of two correlated coordinates, and of J elliptical rings around a point.

    The logarithm of the radius of a ring is normally distributed, and its azimuth is uniform. Siblings are at a random
    angle and at a distance in a narrow range, so the position of the second one is on a ring around the first.

    Args:
        log_weight: (..., K + J) logarithms of the weights, which sum to 1.
        mean: (..., K, 2) means.
        log_scale: (..., K, 2) logarithms of the standard deviations of the first coordinate, and of the second one
            around its regression on the first.
        slope: (..., K) slope of this regression, in units of the two standard deviations.
        center: (..., 2) center of the rings.
        ring_log_scale: (..., J, 2) logarithms of the half-widths of the rings along the two coordinates, at the median
            of the radius; the second one is around its regression on the first.
        ring_slope: (..., J) slope of this regression, in units of the two half-widths.
        ring_log_spread: (..., J) logarithm of the standard deviation of the logarithm of the radius.

    Example:
        >>> import torch
        >>> from supa_mamba.generator.mixtures import PlaneMixture
        >>> mixture = PlaneMixture.of(torch.zeros(5, 7 * 4 + 5 * 3), anchor=torch.zeros(5, 2), rings=3)
        >>> mixture.log_density(torch.ones(5, 2)).shape
        torch.Size([5])
    """

    log_weight: Tensor
    mean: Tensor
    log_scale: Tensor
    slope: Tensor
    center: Tensor
    ring_log_scale: Tensor
    ring_slope: Tensor
    ring_log_spread: Tensor

    @classmethod
    def of(cls, parameters: Tensor, anchor: Tensor, rings: int) -> "PlaneMixture":
        """Convert the outputs of a network.

        Args:
            parameters: (..., 7 K + 5 J) unconstrained values.
            anchor: (..., 2) center of the rings, which the means may follow: each is measured from a point between the
                origin and the anchor.
            rings: Number of rings, J.

        Returns:
            The mixture.
        """
        of_plane, of_rings = torch.split(parameters, [parameters.shape[-1] - 5 * rings, 5 * rings], dim=-1)
        logit, x, y, of_anchor, scale_x, scale_y, slope = of_plane.chunk(7, dim=-1)
        ring_logit, ring_x, ring_y, ring_slope, spread = of_rings.chunk(5, dim=-1)
        return cls(
            torch.cat([logit, ring_logit], -1).log_softmax(-1),
            torch.stack([x, y], -1) + torch.sigmoid(of_anchor)[..., None] * anchor[..., None, :],
            bounded_log_scale(torch.stack([scale_x, scale_y], -1)),
            slope,
            anchor,
            bounded_log_scale(torch.stack([ring_x, ring_y], -1)),
            ring_slope,
            bounded_log_scale(spread, HIGHEST_LOG_SPREAD),
        )

    def log_density(self, value: Tensor) -> Tensor:
        """Return the logarithms of densities.

        Args:
            value: (..., 2) values.

        Returns:
            (...) logarithms of the densities.
        """
        squares, areas = _squared_distance(value[..., None, :] - self.mean, self.log_scale, self.slope)
        of_normal = -0.5 * squares - areas - 2 * _LOG_ROOT_2_PI
        away = value[..., None, :] - self.center[..., None, :]
        squares, areas = _squared_distance(away, self.ring_log_scale, self.ring_slope)
        log_square = squares.clamp(min=_LEAST_SQUARE).log()
        of_radius = 0.5 * log_square * torch.exp(-self.ring_log_spread)
        # The density of ln r, divided by r² for the plane and by 2 pi for the azimuth.
        of_ring = -0.5 * of_radius.square() - self.ring_log_spread - log_square - areas - 3 * _LOG_ROOT_2_PI
        return torch.logsumexp(self.log_weight + torch.cat([of_normal, of_ring], -1), -1)

    def sample(self, uniform: Tensor) -> Tensor:
        """Convert uniform numbers into samples.

        Args:
            uniform: (..., 3) independent numbers, above 0 and below 1.

        Returns:
            (..., 2) samples.
        """
        count = self.slope.shape[-1]
        chosen = categorical_sample(self.log_weight, uniform[..., 0])
        in_plane, in_ring = chosen.clamp(max=count - 1), (chosen - count).clamp(min=0)
        quantile = torch.special.ndtri(uniform[..., 1:])
        normal = _of_component(self.mean, in_plane) + _transformed(
            quantile, _of_component(self.log_scale, in_plane), _of_component(self.slope, in_plane)
        )
        radius = torch.exp(_of_component(self.ring_log_spread, in_ring).exp() * quantile[..., 0])
        angle = 2 * math.pi * uniform[..., 2]
        around = torch.stack([radius * torch.cos(angle), radius * torch.sin(angle)], -1)
        ring = self.center + _transformed(
            around, _of_component(self.ring_log_scale, in_ring), _of_component(self.ring_slope, in_ring)
        )
        return torch.where((chosen < count)[..., None], normal, ring)


def _squared_distance(away: Tensor, log_scale: Tensor, slope: Tensor) -> tuple[Tensor, Tensor]:
    """Return the squared lengths of vectors in units of scales, and the logarithms of the products of the scales."""
    first, second = (away * torch.exp(-log_scale)).unbind(-1)
    return first.square() + (second - slope * first).square(), log_scale.sum(-1)


def _transformed(vector: Tensor, log_scale: Tensor, slope: Tensor) -> Tensor:
    """Return vectors whose `_squared_distance` is the square of the given ones."""
    first, second = vector.unbind(-1)
    return torch.exp(log_scale) * torch.stack([first, second + slope * first], -1)


def _of_component(values: Tensor, chosen: Tensor) -> Tensor:
    """Return the values of one component: (...) for (..., K), and (..., 2) for (..., K, 2)."""
    if values.ndim == chosen.ndim + 1:
        return values.gather(-1, chosen[..., None])[..., 0]
    return values.gather(-2, chosen[..., None, None].expand(*chosen.shape, 1, 2))[..., 0, :]


def bounded_log_scale(value: Tensor, highest: float = HIGHEST_LOG_SCALE) -> Tensor:
    """Limit the logarithm of a standard deviation smoothly.

    Args:
        value: (...) unconstrained values.
        highest: Upper limit.

    Returns:
        (...) values above ``LOWEST_LOG_SCALE`` and below about ``highest``.
    """
    below = highest - functional.softplus(highest - value)
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
