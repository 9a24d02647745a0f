"""Credits of sampled showers: by how much each choice of a shower changed a reward of the whole distribution."""

from typing import NamedTuple

import torch
from torch import Tensor


class Credits(NamedTuple):
    """Credits of the choices of S showers, in nats.

    Args:
        leak: (S,) credit of the leaked energy.
        profile: (S, L) credit of the number and the energy of the hits of each slice.
        hits: (S,) credit of all hits, or None if they have none.
    """

    leak: Tensor
    profile: Tensor
    hits: Tensor | None

    def to(self, device: torch.device) -> "Credits":
        """Copy the credits to a device.

        Args:
            device: The device.

        Returns:
            The copies, float32.
        """
        hits = None if self.hits is None else self.hits.to(device, torch.float32)
        return Credits(self.leak.to(device, torch.float32), self.profile.to(device, torch.float32), hits)


def without_own(values: Tensor) -> Tensor:
    """Return the means over all other showers of the group.

    Args:
        values: (M, G, ...) values of M groups of G showers.

    Returns:
        (M, G, ...) means over G - 1 showers.
    """
    return (values.sum(1, keepdim=True) - values) / (values.shape[1] - 1)


def credits_of_distance(values: Tensor, truth: Tensor) -> Tensor:
    """Return credits for the squared distance of the mean of a distribution from a known mean.

    The distance is D = sum_k (E[s_k] - mu_k)^2, where s_k is a sum of parts. The gradient of -D is that of
    -2 sum_k (E[s_k] - mu_k) E[s_k]. The mean of the *other* showers of the group estimates the first factor. It is
    independent of the shower, so the credit

        c_i = -2 sum_k (s_ik - m_ik) (m_ik - mu_k),    m_i: mean of the others,

    has the right expectation. The credit is linear in s_i: the spread of showers has no credit. The squared distance of
    the mean of the whole group would contain (s_ik - mu_k)^2 / G^2, which rewards showers near the mean, and so narrow
    distributions. Subtracting m_ik in the first factor is a baseline: it removes what all showers have in common, and
    changes no expectation, because it does not depend on shower i.

    Args:
        values: (M, G, P, K) parts of the statistics of M groups of G showers, in the order in which they are chosen.
            Their sum over P is s.
        truth: (K,) mean mu of s.

    Returns:
        (M, G, P) credit of each choice: the sum of the credits of its part and of the later ones, because a choice
        cannot change earlier parts.
    """
    others = without_own(values)
    deviation = others.sum(2) - truth
    of_parts = -2 * torch.einsum("mgpk,mgk->mgp", values - others, deviation)
    return of_parts.flip(2).cumsum(2).flip(2)


def squared_distance(values: Tensor, truth: Tensor) -> Tensor:
    """Estimate the squared distance of a mean from a known mean without bias.

    Args:
        values: (n, K) statistics of independent showers, n at least 2.
        truth: (K,) known mean.

    Returns:
        () mean over all pairs of different showers of the product of their deviations. It may be negative.
    """
    deviation, count = values - truth, values.shape[0]
    return (deviation.sum(0).square().sum() - deviation.square().sum()) / (count * (count - 1))


def credits_of_rewards(rewards: Tensor) -> Tensor:
    """Return credits for the mean of a reward of single showers: the reward minus the mean of the others of the group.

    Args:
        rewards: (M, G) rewards.

    Returns:
        (M, G) credits. They are not divided by the standard deviation of the group: that depends on the reward of the
        shower itself, which changes expectations, and it makes noise as large as a signal.
    """
    return rewards - without_own(rewards)


def divergence(log_p: Tensor, log_reference: Tensor) -> Tensor:
    """Estimate KL(p || reference) from samples of p, by r - 1 - log r with r = reference / p.

    Args:
        log_p: (...) logarithms of the densities p of samples of p.
        log_reference: (...) logarithms of the densities of the reference.

    Returns:
        (...) estimates. None is negative, and their expectation is the divergence. The expectation of their gradient
        with fixed samples is that of KL(reference || p), whose slope grows where p loses what the reference has.
    """
    log_ratio = log_reference - log_p
    return torch.expm1(log_ratio) - log_ratio
