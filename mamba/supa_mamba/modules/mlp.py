"""Gated multi-layer perceptron of a block."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from supa_mamba.modules.initialisation import Device
from supa_mamba.ops.row_linear.function import gated_rows, step_linear


class GatedMLP(nn.Module):
    """Transform each row by a perceptron with one hidden layer and a SiLU gate: ``fc2(a * silu(b))``.

    The halves of ``fc1(x)`` are a and b. The parameters have the names and shapes of mamba_ssm's ``GatedMLP``.

    Args:
        d_model: Number of features per row.
        d_intermediate: Number of hidden features.
        device: Device of the parameters.
        dtype: Dtype of the parameters.

    Source:
        GLU Variants Improve Transformer (arXiv 2002.05202), equation 6.
    """

    def __init__(
        self, d_model: int, d_intermediate: int, *, device: Device = None, dtype: torch.dtype | None = None
    ) -> None:
        super().__init__()
        self.fc1 = nn.Linear(d_model, 2 * d_intermediate, bias=False, device=device, dtype=dtype)
        self.fc2 = nn.Linear(d_intermediate, d_model, bias=False, device=device, dtype=dtype)

    def forward(self, x: Tensor) -> Tensor:
        """Transform each row.

        Args:
            x: (..., d_model) rows.

        Returns:
            (..., d_model) rows.
        """
        hidden, gate = self.fc1(x).chunk(2, dim=-1)
        y: Tensor = self.fc2(hidden * functional.silu(gate))
        return y

    @torch.no_grad()
    def step(self, x: Tensor) -> Tensor:
        """Transform one more row of each of M sequences, without gradients.

        Args:
            x: (M, d_model) rows.

        Returns:
            (M, d_model) rows. On a CPU, and in float32 on a GPU, the bits of a row do not depend on the other rows.
        """
        return step_linear(self.fc2, gated_rows(step_linear(self.fc1, x)))
