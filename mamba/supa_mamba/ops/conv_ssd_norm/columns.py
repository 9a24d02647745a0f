"""Views of the columns of a row of Mamba-2: after the input projection, and after the convolution."""

from typing import NamedTuple

import torch
from torch import Tensor


class Columns(NamedTuple):
    """Views of the columns of the input projection, or of its gradient.

    Args:
        gate: (T, E) gate before SiLU.
        mixed: (T, M) inputs of the convolution.
        dt: (T, H) step sizes before bias and softplus.
    """

    gate: Tensor
    mixed: Tensor
    dt: Tensor

    @classmethod
    def of(cls, projected: Tensor, inner: int, mixed: int) -> "Columns":
        """Split the columns of the input projection.

        Args:
            projected: (T, E + M + H) rows.
            inner: Number of inner channels, E.
            mixed: Number of inputs of the convolution, M.

        Returns:
            The views.
        """
        return cls(*torch.split(projected, [inner, mixed, projected.shape[1] - inner - mixed], dim=-1))


class Selected(NamedTuple):
    """Views of the columns of the result of the convolution, or of its gradient.

    Args:
        x: (T, H, P) input of the recurrence.
        B: (T, G, N) input matrix.
        C: (T, G, N) output matrix.
    """

    x: Tensor
    B: Tensor
    C: Tensor

    @classmethod
    def of(cls, mixed: Tensor, inner: int, heads: int, groups: int) -> "Selected":
        """Split the columns of the result of the convolution.

        Args:
            mixed: (T, M) rows.
            inner: Number of inner channels, H P.
            heads: Number of heads, H.
            groups: Number of groups of heads, G.

        Returns:
            The views.
        """
        of_matrix = (mixed.shape[1] - inner) // 2
        parts = zip(torch.split(mixed, [inner, of_matrix, of_matrix], dim=-1), (heads, groups, groups), strict=True)
        return cls(*(v.view(v.shape[0], k, v.shape[1] // k) for v, k in parts))
