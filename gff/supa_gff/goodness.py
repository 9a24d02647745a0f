"""Goodness of a node's activations, which training raises for positive labels and lowers for negative ones."""

from dataclasses import dataclass

import torch
from torch import Tensor

from supa.checks import check_int


@dataclass(frozen=True)
class SumOfSquares:
    """Sum of the squared activations (Hinton, arXiv 2212.13345, section 2)."""

    def __call__(self, h: Tensor) -> Tensor:
        """Compute the goodness of nodes.

        Args:
            h: (..., channels) float32 activations.

        Returns:
            (...) float32.
        """
        return h.square().sum(-1)


@dataclass(frozen=True)
class MeanOfSquares:
    """Mean of the squared activations, independent of the number of channels (SymBa, arXiv 2303.08418)."""

    def __call__(self, h: Tensor) -> Tensor:
        """Compute the goodness of nodes; see `SumOfSquares`."""
        return h.square().mean(-1)


@dataclass(frozen=True)
class MeanActivation:
    """Mean of the activations, not squared (DeeperForward, ICLR 2025)."""

    def __call__(self, h: Tensor) -> Tensor:
        """Compute the goodness of nodes; see `SumOfSquares`."""
        return h.mean(-1)


@dataclass(frozen=True)
class TopK:
    """Mean of the largest squared activations (arXiv 2604.13081).

    Args:
        k: their number; all, if there are fewer.
    """

    k: int = 8

    def __post_init__(self) -> None:
        check_int(1, 10**6, "k", self.k)

    def __call__(self, h: Tensor) -> Tensor:
        """Compute the goodness of nodes; see `SumOfSquares`."""
        return h.square().topk(min(self.k, h.shape[-1]), -1).values.mean(-1)


@dataclass(frozen=True)
class Entmax:
    """Squared activations weighted by 1.5-entmax of themselves (arXiv 2604.13081; entmax: Peters et al. 2019)."""

    def __call__(self, h: Tensor) -> Tensor:
        """Compute the goodness of nodes; see `SumOfSquares`."""
        energy = h.square()
        return (entmax15(energy) * energy).sum(-1)


def entmax15(scores: Tensor) -> Tensor:
    """Compute the sparse distribution 1.5-entmax over the last axis.

    p_i = max(z_i - tau, 0)^2 with z = scores / 2 and tau such that they sum to one; with z sorted downwards, mean
    M_k and sum of squared deviations S_k of the first k, tau_k = M_k - sqrt((1 - S_k) / k) for the largest k with
    tau_k <= z_k (Peters, Niculae and Martins, ACL 2019, algorithm 2).

    Args:
        scores: (..., n) float.

    Returns:
        (..., n) weights that sum to one.
    """
    z = (scores - scores.amax(-1, keepdim=True)) / 2
    ordered = z.sort(-1, descending=True).values
    k = torch.arange(1, z.shape[-1] + 1, device=z.device, dtype=z.dtype)
    mean = ordered.cumsum(-1) / k
    deviation = (ordered.square().cumsum(-1) / k - mean.square()) * k
    # The square root has no derivative at zero; candidates there are not chosen.
    tau = mean - ((1 - deviation) / k).clamp(min=1e-12).sqrt()
    support = (tau <= ordered).sum(-1, keepdim=True)
    return (z - tau.gather(-1, support - 1)).clamp(min=0).square()


NodeGoodness = SumOfSquares | MeanOfSquares | MeanActivation | TopK | Entmax
