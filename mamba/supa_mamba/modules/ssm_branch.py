"""Mamba-1 between its two projections, in one direction of time."""

from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from supa_mamba.modules.initialisation import Device, init_dt_bias, rates, state_factory
from supa_mamba.modules.states import MambaState
from supa_mamba.ops.causal_conv1d.function import causal_conv1d
from supa_mamba.ops.causal_conv1d_update.function import causal_conv1d_update
from supa_mamba.ops.selective_scan.function import selective_scan
from supa_mamba.ops.selective_state_update.function import selective_state_update


class DtInit(NamedTuple):
    """How the steps of a mixer are drawn, with the names of mamba_ssm.

    Args:
        dt_rank: features from which all steps are computed.
        dt_min: the shortest step before training.
        dt_max: the longest step before training.
        dt_init_floor: shorter ones are lengthened to this.
    """

    dt_rank: int
    dt_min: float
    dt_max: float
    dt_init_floor: float


class SsmBranch(NamedTuple):
    """The parameters of one direction, which their module registers under names of its own.

    Args:
        conv1d: weight (E, 1, W) and bias (E,).
        x_proj: weight (R + 2N, E), to steps, B and C.
        dt_proj: weight (E, R) and bias (E,).
        A_log: (E, N).
        D: (E,).
    """

    conv1d: nn.Conv1d
    x_proj: nn.Linear
    dt_proj: nn.Linear
    A_log: nn.Parameter
    D: nn.Parameter

    @classmethod
    def create(
        cls,
        d_inner: int,
        d_state: int,
        d_conv: int,
        dt_init: DtInit,
        *,
        conv_bias: bool,
        device: Device,
        dtype: torch.dtype | None,
    ) -> "SsmBranch":
        """Draw the parameters.

        Args:
            d_inner: channels, E.
            d_state: states of a channel, N.
            d_conv: taps of the convolution, W.
            dt_init: how the steps are drawn.
            conv_bias: whether the convolution has a bias.
            device: of the parameters.
            dtype: of the parameters; rates and skips stay in the precision of states.

        Returns:
            The branch.

        Source: Mamba (arXiv 2312.00752), section 3.6.
        """
        rank = dt_init.dt_rank
        factory: dict[str, Any] = {"device": device, "dtype": dtype}
        of_states = state_factory(device, dtype)
        # Only its parameters are used, under the names and with the first values of mamba_ssm.
        conv1d = nn.Conv1d(d_inner, d_inner, d_conv, groups=d_inner, padding=d_conv - 1, bias=conv_bias, **factory)
        dt_proj = nn.Linear(rank, d_inner, **factory)
        nn.init.uniform_(dt_proj.weight, -(rank**-0.5), rank**-0.5)
        with torch.no_grad():
            dt_proj.bias.copy_(init_dt_bias(d_inner, *dt_init[1:], **of_states))
        A_log = torch.arange(1, d_state + 1, **of_states).log().repeat(d_inner, 1)
        return cls(
            conv1d,
            nn.Linear(d_inner, rank + 2 * d_state, bias=False, **factory),
            dt_proj,
            nn.Parameter(A_log),
            nn.Parameter(torch.ones(d_inner, **of_states)),
        )

    def forward(
        self, u: Tensor, z: Tensor, offset: Tensor, state: MambaState | None, *, reverse: bool, return_state: bool
    ) -> tuple[Tensor, MambaState | None]:
        """Walk over packed sequences.

        Args:
            u: (T, E) the half of the input projection that is mixed.
            z: (T, E) the half that gates.
            offset: (S + 1,) int64.
            state: the state before the first steps.
            reverse: whether each sequence runs from its own end to its start.
            return_state: whether to return the state.

        Returns:
            y (T, E), and the state after the last steps, or None.
        """
        conv_before, ssm_before = (None, None) if state is None else state
        convolve = partial(
            causal_conv1d, u, self.conv1d.weight.squeeze(1), self.conv1d.bias, offset=offset,
            initial_states=conv_before, reverse=reverse, activation="silu",
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
        # Steps want states whose rows lie in one piece.
        return y, MambaState(conv, ssm.contiguous())

    def step(self, u: Tensor, z: Tensor, state: MambaState, slots: Tensor | None) -> Tensor:
        """Take one step, and change the state in place.

        Args:
            u: (M, E) the half of the input projection that is mixed.
            z: (M, E) the half that gates.
            state: a table of R slots.
            slots: (M,) integers, the slot of each sequence, or None; see ``Mamba.step``.

        Returns:
            y (M, E).
        """
        u = causal_conv1d_update(
            u, state.conv, self.conv1d.weight.squeeze(1), self.conv1d.bias, "silu", conv_state_indices=slots
        )
        delta, B, C = self._selected(u)
        return selective_state_update(
            state.ssm, u, delta, rates(self.A_log), B, C, self.D, z, self.dt_proj.bias, dt_softplus=True,
            state_batch_indices=slots,
        )  # fmt: skip

    def _selected(self, u: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        states = self.A_log.shape[1]
        steps, B, C = self.x_proj(u).split([self.dt_proj.in_features, states, states], dim=-1)
        # The bias is added inside the scan, in the precision of states.
        return functional.linear(steps, self.dt_proj.weight), B, C
