"""Mamba-1 between its input and output projections, in one direction."""

from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from supa_mamba.modules.initialisation import Device, init_dt_bias, rates, state_factory
from supa_mamba.modules.norm import RMSNorm
from supa_mamba.modules.options import Activation, convolution_activation
from supa_mamba.modules.states import MambaState
from supa_mamba.ops.causal_conv1d.function import causal_conv1d
from supa_mamba.ops.causal_conv1d_update.function import causal_conv1d_update
from supa_mamba.ops.row_linear.function import row_linear, step_linear
from supa_mamba.ops.selective_scan.function import selective_scan
from supa_mamba.ops.selective_state_update.function import selective_state_update

NORM_EPS = 1e-5
"""Epsilon of the norms of step sizes, B and C."""


def normalised(
    norms: tuple[RMSNorm, RMSNorm, RMSNorm], steps: Tensor, B: Tensor, C: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Normalise step sizes before their bias, B and C.

    Args:
        norms: The norms of each of them.
        steps: (T, R) step sizes.
        B: (T, N) or (T, G, N) input matrix.
        C: Output matrix, of the shape of ``B``.

    Returns:
        The normalised tensors, in half precision under autocast.
    """
    of_steps, of_B, of_C = (norm(x, autocast=True)[0] for norm, x in zip(norms, (steps, B, C), strict=True))
    return of_steps, of_B, of_C


class DtInit(NamedTuple):
    """Initialisation parameters of the step sizes, with the names of mamba_ssm.

    Args:
        dt_rank: Rank of the projection of the step sizes.
        dt_min: Smallest step size.
        dt_max: Largest step size.
        dt_init_floor: Lower limit to which smaller step sizes are raised.
    """

    dt_rank: int
    dt_min: float
    dt_max: float
    dt_init_floor: float


class SsmBranch(NamedTuple):
    """Parameters of one direction. The module that owns them registers them under its own names.

    Args:
        conv1d: Convolution with weight (E, 1, W) and bias (E,).
        x_proj: Projection to step sizes, B and C with weight (R + 2GN, E) for G groups of channels.
        dt_proj: Projection of the step sizes with weight (E, R) and bias (E,).
        A_log: (E, N) logarithms of the negative decay rates.
        D: (E,) skip weights.
        norms: Norms of step sizes, B and C after ``x_proj``, or None.
        activation: Function after the convolution.
    """

    conv1d: nn.Conv1d
    x_proj: nn.Linear
    dt_proj: nn.Linear
    A_log: nn.Parameter
    D: nn.Parameter
    norms: tuple[RMSNorm, RMSNorm, RMSNorm] | None = None
    activation: Activation = "silu"

    @classmethod
    def create(
        cls,
        d_inner: int,
        d_state: int,
        d_conv: int,
        dt_init: DtInit,
        *,
        conv_bias: bool,
        groups: int = 1,
        device: Device,
        dtype: torch.dtype | None,
    ) -> "SsmBranch":
        """Create and initialise the parameters.

        Args:
            d_inner: Number of channels, E.
            d_state: Number of states per channel, N.
            d_conv: Width of the convolution kernel, W.
            dt_init: Initialisation parameters of the step sizes.
            conv_bias: Whether the convolution has a bias.
            groups: Number of groups of channels, G, each with its own B and C.
            device: Device of the parameters.
            dtype: Dtype of the parameters. ``A_log`` and ``D`` have the precision of states.

        Returns:
            The branch.

        Source:
            Mamba (arXiv 2312.00752), section 3.6.
        """
        rank = dt_init.dt_rank
        factory: dict[str, Any] = {"device": device, "dtype": dtype}
        of_states = state_factory(device, dtype)
        # Only the parameters are used, with the names and the initialisation of mamba_ssm.
        conv1d = nn.Conv1d(d_inner, d_inner, d_conv, groups=d_inner, padding=d_conv - 1, bias=conv_bias, **factory)
        dt_proj = nn.Linear(rank, d_inner, **factory)
        nn.init.uniform_(dt_proj.weight, -(rank**-0.5), rank**-0.5)
        with torch.no_grad():
            dt_proj.bias.copy_(init_dt_bias(d_inner, *dt_init[1:], **of_states))
        A_log = torch.arange(1, d_state + 1, **of_states).log().repeat(d_inner, 1)
        return cls(
            conv1d,
            nn.Linear(d_inner, rank + 2 * groups * d_state, bias=False, **factory),
            dt_proj,
            nn.Parameter(A_log),
            nn.Parameter(torch.ones(d_inner, **of_states)),
        )

    def forward(
        self, u: Tensor, z: Tensor, offset: Tensor, state: MambaState | None, *, reverse: bool, return_state: bool
    ) -> tuple[Tensor, MambaState | None]:
        """Process packed sequences.

        Args:
            u: (T, E) first half of the input projection.
            z: (T, E) gate, the second half of the input projection.
            offset: (S + 1,) int64 offsets.
            state: State before the first rows.
            reverse: Whether to process each sequence from its last row to its first.
            return_state: Whether to return the state.

        Returns:
            y (T, E), and the state after the last rows, or None.
        """
        conv_before, ssm_before = (None, None) if state is None else state
        convolve = partial(
            causal_conv1d, u, self.conv1d.weight.squeeze(1), self.conv1d.bias, offset=offset,
            initial_states=conv_before, reverse=reverse, activation=convolution_activation(self.activation),
        )  # fmt: skip
        u, conv = convolve(return_final_states=True) if return_state else (convolve(), None)
        delta, B, C = self._selected(u)
        scan = partial(
            selective_scan, u, delta, rates(self.A_log), B, C, self.D, z, self.dt_proj.bias, True, offset=offset,
            initial_states=ssm_before, reverse=reverse,
        )  # fmt: skip
        if conv is None:
            return scan(), None
        y, ssm = scan(return_final_states=True)
        # Single steps have a faster path for contiguous states.
        return y, MambaState(conv, ssm.contiguous())

    def step(self, u: Tensor, z: Tensor, state: MambaState, slots: Tensor | None) -> Tensor:
        """Take one step and update the state in place.

        Args:
            u: (M, E) first half of the input projection.
            z: (M, E) gate, the second half of the input projection.
            state: State table with R slots.
            slots: (M,) integers, the slot of each sequence, or None; see `Mamba.step`.

        Returns:
            y (M, E).
        """
        u = causal_conv1d_update(
            u, state.conv, self.conv1d.weight.squeeze(1), self.conv1d.bias, convolution_activation(self.activation),
            conv_state_indices=slots,
        )  # fmt: skip
        steps, B, C = self.split(step_linear(self.x_proj, u))
        delta = row_linear(steps, self.dt_proj.weight)
        return selective_state_update(
            state.ssm, u, delta, rates(self.A_log), B, C, self.D, z, self.dt_proj.bias, dt_softplus=True,
            state_batch_indices=slots,
        )  # fmt: skip

    def split(self, selected: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Divide the results of ``x_proj``.

        Args:
            selected: (rows, R + 2GN) results.

        Returns:
            (rows, R) step sizes before ``dt_proj``, and B and C, (rows, N), or (rows, G, N) for several groups; all
            normalised if there are norms.
        """
        rank, states = self.dt_proj.in_features, self.A_log.shape[1]
        each = (self.x_proj.out_features - rank) // 2
        steps, B, C = torch.split(selected, [rank, each, each], dim=-1)
        if each > states:
            B, C = (x.reshape(-1, each // states, states) for x in (B, C))
        return (steps, B, C) if self.norms is None else normalised(self.norms, steps, B, C)

    def _selected(self, u: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        steps, B, C = self.split(self.x_proj(u))
        # The bias is added inside the scan, in the precision of states.
        return functional.linear(steps, self.dt_proj.weight), B, C
