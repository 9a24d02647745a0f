"""Goodness functions of node activations. Training raises the goodness of positive labels and lowers that of others."""

from dataclasses import dataclass

import torch
from torch import Tensor

from supa.checks import check_int


@dataclass(frozen=True)
class SumOfSquares:
    """Sum of the squared activations (Hinton, arXiv 2212.13345, section 2).

    Example:
        >>> import torch
        >>> from supa_gff.goodness import SumOfSquares
        >>> SumOfSquares()(torch.tensor([[1.0, 2.0, 2.0]]))
        tensor([9.])
    """

    def __call__(self, h: Tensor) -> Tensor:
        """Compute the goodness of nodes.

        Args:
            h: (..., channels) float32 activations.

        Returns:
            (...) float32 goodness.
        """
        return h.square().sum(-1)


@dataclass(frozen=True)
class MeanOfSquares:
    """Mean of the squared activations, independent of the number of channels (SymBa, arXiv 2303.08418).

    Example:
        >>> import torch
        >>> from supa_gff.goodness import MeanOfSquares
        >>> MeanOfSquares()(torch.tensor([[1.0, 2.0, 2.0]]))
        tensor([3.])
    """

    def __call__(self, h: Tensor) -> Tensor:
        """Compute the goodness of nodes; see `SumOfSquares`."""
        return h.square().mean(-1)


@dataclass(frozen=True)
class MeanActivation:
    """Mean of the activations, without squaring (DeeperForward, ICLR 2025).

    Example:
        >>> import torch
        >>> from supa_gff.goodness import MeanActivation
        >>> MeanActivation()(torch.tensor([[1.0, 2.0, 3.0]]))
        tensor([2.])
    """

    def __call__(self, h: Tensor) -> Tensor:
        """Compute the goodness of nodes; see `SumOfSquares`."""
        return h.mean(-1)


@dataclass(frozen=True)
class TopK:
    """Mean of the largest squared activations (arXiv 2604.13081).

    Args:
        k: Number of squared activations. If there are fewer channels, all are used.

    Example:
        >>> import torch
        >>> from supa_gff.goodness import TopK
        >>> TopK(k=2)(torch.tensor([[1.0, 2.0, 4.0]]))
        tensor([10.])
    """

    k: int = 8

    def __post_init__(self) -> None:
        check_int(1, 10**6, "k", self.k)

    def __call__(self, h: Tensor) -> Tensor:
        """Compute the goodness of nodes; see `SumOfSquares`."""
        return h.square().topk(min(self.k, h.shape[-1]), -1).values.mean(-1)


@dataclass(frozen=True)
class Entmax:
    """Mean of the squared activations, weighted by their 1.5-entmax (arXiv 2604.13081; entmax: Peters et al. 2019).

    Example:
        >>> import torch
        >>> from supa_gff.goodness import Entmax
        >>> Entmax()(torch.tensor([[0.0, 0.0, 3.0]]))
        tensor([9.])
    """

    def __call__(self, h: Tensor) -> Tensor:
        """Compute the goodness of nodes; see `SumOfSquares`."""
        energy = h.square()
        return (entmax15(energy) * energy).sum(-1)


def entmax15(scores: Tensor) -> Tensor:
    """Compute 1.5-entmax, a sparse alternative to softmax, over the last axis.

    The weights are p_i = max(z_i - tau, 0)^2 with z = scores / 2, where tau makes them sum to one. Let z be sorted in
    descending order, and let M_k and S_k be the mean and the sum of squared deviations of its first k elements. Then
    tau = M_k - sqrt((1 - S_k) / k) for the largest k for which this value is at most z_k.

    Args:
        scores: (..., n) float scores.

    Returns:
        (..., n) weights that sum to one.

    Source:
        Peters, Niculae and Martins, ACL 2019, algorithm 2.
    """
    z = (scores - scores.amax(-1, keepdim=True)) / 2
    ordered = z.sort(-1, descending=True).values
    k = torch.arange(1, z.shape[-1] + 1, device=z.device, dtype=z.dtype)
    mean = ordered.cumsum(-1) / k
    deviation = (ordered.square().cumsum(-1) / k - mean.square()) * k
    # The square root has no derivative at zero. The clamp only affects candidates that are not chosen.
    tau = mean - ((1 - deviation) / k).clamp(min=1e-12).sqrt()
    support = (tau <= ordered).sum(-1, keepdim=True)
    return (z - tau.gather(-1, support - 1)).clamp(min=0).square()


NodeGoodness = SumOfSquares | MeanOfSquares | MeanActivation | TopK | Entmax
