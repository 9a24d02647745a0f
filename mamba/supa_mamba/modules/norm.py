"""Root-mean-square norms for inputs and weights of different precision."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from supa_mamba.modules.initialisation import Device
from supa_mamba.ops.dtypes import state_dtype


class RMSNorm(nn.RMSNorm):
    """RMS norm that computes in the precision of the input and returns the dtype of the weight.

    Args:
        normalized_shape: Number of features per row.
        eps: Value added to the mean square.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Normalise the rows.

        Args:
            x: (..., features) rows.

        Returns:
            Normalised rows of the same shape.
        """
        # PyTorch's fused kernel requires the same dtype for rows and weight.
        weight = self.weight.to(x.dtype)
        return functional.rms_norm(x, self.normalized_shape, weight, self.eps).to(self.weight.dtype)


class GatedRMSNorm(nn.Module):
    """RMS norm over groups of channels with a SiLU gate, computed in float32 or float64.

    Args:
        channels: Number of channels per row.
        groups: Number of groups of equal size.
        eps: Value added to the mean square.
        norm_before_gate: Whether to apply the gate after the norm instead of before it.
        device: Device of the weight.
        dtype: Dtype of the weight.

    Source:
        Mamba-2 (arXiv 2405.21060), section 7; groups as in mamba_ssm's ``RMSNormGated``.
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
        """Apply gate and norm.

        Args:
            x: (rows, channels) input.
            gate: (rows, channels) gate before SiLU.

        Returns:
            norm(x * silu(gate)), or norm(x) * silu(gate) with ``norm_before_gate``, in the dtype of ``x``.
        """
        dtype = state_dtype(x, gate, self.weight)
        rows, channels = x.shape
        factor = functional.silu(gate.to(dtype))
        given = x.to(dtype) if self.norm_before_gate else x.to(dtype) * factor
        grouped = given.reshape(rows, self.groups, channels // self.groups)
        y = functional.rms_norm(grouped, grouped.shape[2:], eps=self.eps).flatten(1) * self.weight
        return (y * factor if self.norm_before_gate else y).to(x.dtype)

    def extra_repr(self) -> str:
        """Return the options for the ``repr`` of the module."""
        return f"{len(self.weight)}, groups={self.groups}, eps={self.eps}, norm_before_gate={self.norm_before_gate}"
