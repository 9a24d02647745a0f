"""Root-mean-square norms for inputs and weights of different precision."""

import torch
from torch import Tensor, nn

from supa_mamba.modules.initialisation import Device
from supa_mamba.ops.add_rms_norm.function import add_rms_norm
from supa_mamba.ops.dtypes import state_dtype
from supa_mamba.ops.gated_rms_norm.function import gated_rms_norm


class RMSNorm(nn.RMSNorm):
    """RMS norm of the sum of a residual and an update, computed in float32 or float64.

    Args:
        normalized_shape: Number of features per row.
        eps: Value added to the mean square.
    """

    eps: float

    def forward(  # type: ignore[override]
        self, residual: Tensor, update: Tensor | None = None, *, autocast: bool = False
    ) -> tuple[Tensor, Tensor]:
        """Add the update and normalise the rows.

        Args:
            residual: (..., features) residual.
            update: Update of the same shape, or None.
            autocast: Whether the rows are in the half precision of autocast while it is enabled. A projection that
                follows then needs no cast of its own.

        Returns:
            Normalised rows in the dtype of the weight, or of autocast, and the sum in float32 or float64. Both have the
            shape of ``residual``.
        """
        weight = self.weight
        dtype, device = weight.dtype, residual.device.type
        # Autocast does not convert float64.
        if autocast and torch.is_autocast_enabled(device) and dtype != torch.float64:
            dtype = torch.get_autocast_dtype(device)
        return add_rms_norm(residual, update, weight, self.eps, dtype)


class ResidualSum(nn.Module):
    """Sum of a residual and an update, in place of `RMSNorm` in a block without norms."""

    def forward(
        self, residual: Tensor, update: Tensor | None = None, *, autocast: bool = False
    ) -> tuple[Tensor, Tensor]:
        """Add the update.

        Args:
            residual: (..., features) residual.
            update: Update of the same shape, or None.
            autocast: Without effect: the projection that follows converts the rows.

        Returns:
            The sum in float32 or float64, twice: as rows and as the residual.
        """
        total = residual.to(state_dtype(residual))
        total = total if update is None else total + update
        return total, total


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
        return gated_rms_norm(x, gate, self.weight, self.groups, self.eps, norm_before_gate=self.norm_before_gate)

    def extra_repr(self) -> str:
        """Return the options for the ``repr`` of the module."""
        return f"{len(self.weight)}, groups={self.groups}, eps={self.eps}, norm_before_gate={self.norm_before_gate}"
