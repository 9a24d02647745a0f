"""Root-mean-square norms, whatever the precisions."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from supa_mamba.modules.initialisation import Device
from supa_mamba.ops.dtypes import state_dtype


class RMSNorm(nn.RMSNorm):
    """Divide each row by its root mean square, in the row's precision; the result has that of the weight.

    Args:
        normalized_shape: features of a row.
        eps: added to the mean square.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Normalise.

        Args:
            x: (..., features).

        Returns:
            The same shape.
        """
        # PyTorch's fused kernel wants the row and the weight in one precision.
        weight = self.weight.to(x.dtype)
        return functional.rms_norm(x, self.normalized_shape, weight, self.eps).to(self.weight.dtype)


class GatedRMSNorm(nn.Module):
    """Gate each row, and divide each group of its channels by their root mean square, in float32 or float64.

    Args:
        channels: of a row.
        groups: how many groups; they share the channels equally.
        eps: added to the mean square.
        norm_before_gate: whether the gate multiplies the normalised row instead of the row itself.
        device: of the weight.
        dtype: of the weight.

    Source: Mamba-2 (arXiv 2405.21060), section 7; groups as in mamba_ssm's ``RMSNormGated``.
    """

    def __init__(
        self,
        channels: int,
        groups: int,
        eps: float = 1e-5,
        *,
        norm_before_gate: bool = False,
        device: Device = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.groups, self.eps, self.norm_before_gate = groups, eps, norm_before_gate
        self.weight = nn.Parameter(torch.ones(channels, device=device, dtype=dtype))

    def forward(self, x: Tensor, gate: Tensor) -> Tensor:
        """Gate and normalise.

        Args:
            x: (rows, channels).
            gate: (rows, channels).

        Returns:
            x silu(gate), normalised, or with ``norm_before_gate`` x, normalised, times silu(gate); of the shape and
            the dtype of x.
        """
        dtype = state_dtype(x, gate, self.weight)
        rows, channels = x.shape
        factor = functional.silu(gate.to(dtype))
        given = x.to(dtype) if self.norm_before_gate else x.to(dtype) * factor
        grouped = given.reshape(rows, self.groups, channels // self.groups)
        y = functional.rms_norm(grouped, grouped.shape[2:], eps=self.eps).flatten(1) * self.weight
        return (y * factor if self.norm_before_gate else y).to(x.dtype)

    def extra_repr(self) -> str:
        """Return the sizes."""
        return f"{len(self.weight)}, groups={self.groups}, eps={self.eps}, norm_before_gate={self.norm_before_gate}"
