"""The mixer of Mamba-2."""

import math
from dataclasses import replace
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from supa_mamba.modules.base import CausalMixer
from supa_mamba.modules.initialisation import Device, init_dt_bias, mark_no_weight_decay, rates, state_factory
from supa_mamba.modules.norm import GatedRMSNorm, RMSNorm
from supa_mamba.modules.options import (
    Activation,
    check_activation,
    check_at_least,
    check_states,
    convolution_activation,
    named_options,
    resolve_d_inner,
)
from supa_mamba.modules.ssm_branch import NORM_EPS, normalised
from supa_mamba.modules.states import BufferedMambaState, MambaState
from supa_mamba.ops.buffered_state_update.buffer import InputBuffer
from supa_mamba.ops.buffered_state_update.function import buffered_state_update
from supa_mamba.ops.causal_conv1d.function import causal_conv1d
from supa_mamba.ops.causal_conv1d_update.function import causal_conv1d_update
from supa_mamba.ops.conv_ssd_norm.columns import Columns, Selected
from supa_mamba.ops.conv_ssd_norm.function import conv_ssd_norm
from supa_mamba.ops.conv_ssd_norm.inputs import MixerInputs, MixerOptions
from supa_mamba.ops.dtypes import state_dtype
from supa_mamba.ops.selective_state_update.function import selective_state_update
from supa_mamba.ops.ssd.function import check_limits, ssd


class Mamba2(CausalMixer):
    """Mix the rows of each sequence by Mamba-2: projection, convolution, `ssd`, gate, norm, output projection.

    The parameters have the names and shapes of mamba_ssm's ``Mamba2``, so ``load_state_dict`` accepts its weights and
    vice versa. The arguments have the same names, order and defaults.

    Under autocast the projections and the inputs of `ssd` are in half precision; parameters, step sizes, decay rates
    and states are not.

    Args:
        d_model: Number of features per row.
        d_state: Number of states per channel, from 1 to 256.
        d_conv: Width of the convolution kernel.
        expand: Expansion factor: the mixer has ``expand * d_model`` inner channels.
        headdim: Number of channels per head. The channels of a head share one decay rate.
        ngroups: Number of groups of heads. The heads of a group share B and C.
        A_init_range: Range of the absolute decay rates at initialisation.
        dt_min: Smallest step size at initialisation.
        dt_max: Largest step size at initialisation.
        dt_init_floor: Lower limit of the step sizes at initialisation.
        conv_bias: Whether the convolution has a bias.
        bias: Whether the input and output projections have a bias.
        norm_before_gate: Whether to apply the norm before the gate instead of after it.
        rmsnorm: Whether there is a norm. Without it, ``norm`` is None.
        rmsnorm_eps: Epsilon of the RMS norm.
        activation: Function after the convolution: ``"silu"``, or ``"identity"`` for none.
        dt_limit: Lower and upper limit of the step sizes in `forward` and `step`.
        b_c_dt_norm: Whether B, C and the step sizes before their bias have RMS norms.
        device: Device of the parameters.
        dtype: Dtype of the parameters. With half precision, ``A_log``, ``D`` and ``dt_bias`` stay in float32.

    Raises:
        ValueError: If an argument is out of range, ``headdim`` does not divide ``expand * d_model``, ``ngroups`` does
            not divide the number of heads, or the activation is unknown.

    Example:
        >>> import torch
        >>> from supa_mamba import Mamba2
        >>> mixer = Mamba2(32, d_state=16, headdim=16)  # 64 inner channels in 4 heads
        >>> x, offset = torch.randn(8, 32), torch.tensor([0, 3, 8])  # two showers of 3 and 5 hits
        >>> y, state = mixer(x, offset, return_state=True)
        >>> y.shape, state.ssm.shape
        (torch.Size([8, 32]), torch.Size([2, 4, 16, 16]))
        >>> mixer.step(torch.randn(2, 32), state).shape  # one more hit of each shower
        torch.Size([2, 32])

    Source:
        Mamba-2 (arXiv 2405.21060), section 7, figure 6.
    """

    no_weight_decay: ClassVar[tuple[str, ...]] = ("A_log", "D", "dt_bias")

    @named_options
    def __init__(
        self,
        d_model: int,
        d_state: int = 128,
        d_conv: int = 4,
        *,
        expand: float = 2,
        headdim: int = 64,
        ngroups: int = 1,
        A_init_range: tuple[float, float] = (1, 16),
        dt_min: float = 0.001,
        dt_max: float = 0.1,
        dt_init_floor: float = 1e-4,
        conv_bias: bool = True,
        bias: bool = False,
        norm_before_gate: bool = False,
        rmsnorm: bool = True,
        rmsnorm_eps: float = 1e-5,
        activation: Activation = "silu",
        dt_limit: tuple[float, float] = (0.0, math.inf),
        b_c_dt_norm: bool = False,
        device: Device = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        check_states(d_state)
        check_at_least(1, d_model=d_model, d_conv=d_conv, headdim=headdim, ngroups=ngroups)
        self.d_model, self.d_state, self.d_conv, self.expand = d_model, d_state, d_conv, expand
        self.headdim, self.ngroups, self.d_inner = headdim, ngroups, resolve_d_inner(d_model, expand)
        if self.d_inner % headdim:
            raise ValueError(f"headdim: {headdim} was given, but it must divide expand * d_model, {self.d_inner}.")
        self.nheads = self.d_inner // headdim
        if self.nheads % ngroups:
            raise ValueError(f"ngroups: {ngroups} was given, but it must divide the number of heads, {self.nheads}.")
        if not 0 < A_init_range[0] <= A_init_range[1]:
            raise ValueError(f"A_init_range: {A_init_range} was given, but it must be positive and ascending.")
        check_activation(activation)
        self.activation, self.dt_limit = activation, check_limits(dt_limit)
        factory: dict[str, Any] = {"device": device, "dtype": dtype}
        of_states = state_factory(device, dtype)
        mixed = self.d_inner + 2 * ngroups * d_state
        self.in_proj = nn.Linear(d_model, self.d_inner + mixed + self.nheads, bias=bias, **factory)
        # Only the parameters are used, with the names and the initialisation of mamba_ssm.
        self.conv1d = nn.Conv1d(mixed, mixed, d_conv, groups=mixed, padding=d_conv - 1, bias=conv_bias, **factory)
        self.dt_bias = nn.Parameter(init_dt_bias(self.nheads, dt_min, dt_max, dt_init_floor, **of_states))
        self.A_log = nn.Parameter(torch.empty(self.nheads, **of_states).uniform_(*A_init_range).log())
        self.D = nn.Parameter(torch.ones(self.nheads, **of_states))
        self.norm = (
            GatedRMSNorm(self.d_inner, ngroups, rmsnorm_eps, norm_before_gate=norm_before_gate, **factory)
            if rmsnorm
            else None
        )
        self.out_proj = nn.Linear(self.d_inner, d_model, bias=bias, **factory)
        sizes = {"dt_norm": self.nheads, "B_norm": d_state, "C_norm": d_state}
        for name, size in sizes.items():
            self.register_module(name, RMSNorm(size, eps=NORM_EPS, **factory) if b_c_dt_norm else None)
        mark_no_weight_decay(self, self.no_weight_decay)

    def run(
        self, projected: Tensor, offset: Tensor, state: MambaState | None, *, reverse: bool, return_state: bool
    ) -> tuple[Tensor, MambaState | None]:
        """Apply convolution, recurrence, gate and norm to packed sequences.

        Args:
            projected: (T, ...) rows after the input projection.
            offset: (S + 1,) int64 offsets.
            state: State before the first rows, or None for zeros.
            reverse: Whether to process each sequence from its last row to its first.
            return_state: Whether to return the state after the last rows.

        Returns:
            (T, d_inner) rows before the output projection, and the state or None.
        """
        if isinstance(state, BufferedMambaState):
            raise ValueError(
                "state: it has a buffer of inputs, but forward needs the state after all inputs; process the rows with "
                "step, or call forward before with_buffer."
            )
        if self.norm is None or self.activation != "silu" or self.norms is not None:
            return self._run_separately(projected, offset, state, reverse=reverse, return_state=return_state)
        inputs = MixerInputs(
            projected, self.conv1d.weight.squeeze(1), self.conv1d.bias, rates(self.A_log), self.D, self.dt_bias,
            self.norm.weight, offset,
        )  # fmt: skip
        options = MixerOptions(self.ngroups, reverse, *self.dt_limit, self.norm.eps, self.norm.norm_before_gate)
        before = (None, None) if state is None else state
        y, after = conv_ssd_norm(inputs, options, before, return_final_states=return_state)
        return y, None if after is None else MambaState(*after)

    def with_buffer(self, state: MambaState, length: int) -> BufferedMambaState:
        """Add a buffer of inputs to a state, so that `step` writes ``ssm`` only about once in ``length`` rows.

        On an H200 this makes steps in float32 faster for thousands of sequences with ``d_state`` of at least 64. See
        `buffered_state_update`.

        Args:
            state: State from `init_state` or `forward`. The returned state shares its memory.
            length: Maximum number of inputs in the buffer, from 1 to 32.

        Returns:
            The state with an empty buffer, for `step`. Its inputs have the dtype of autocast if it is enabled,
            otherwise that of the parameters.

        Raises:
            ValueError: If the length is out of range, or the state already has a buffer.

        Example:
            >>> import torch
            >>> from supa_mamba import Mamba2
            >>> mixer = Mamba2(32, d_state=16, headdim=16)
            >>> state = mixer.with_buffer(mixer.init_state(2), 16)
            >>> mixer.step(torch.randn(2, 32), state).shape
            torch.Size([2, 32])
            >>> state.buffer.lengths
            tensor([1, 1])
        """
        if isinstance(state, BufferedMambaState):
            raise ValueError("state: it already has a buffer of inputs; pass a state from init_state or forward.")
        weight = self.in_proj.weight
        kind = weight.device.type
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else weight.dtype
        buffer = InputBuffer.empty(state.ssm, length, groups=self.ngroups, dtype=dtype)
        if self._limited():  # the step sizes are computed before they are stored
            buffer = replace(buffer, dt=buffer.dt.to(state_dtype(weight)))
        return BufferedMambaState(*state, buffer)

    def run_step(self, projected: Tensor, state: MambaState | BufferedMambaState, slots: Tensor | None) -> Tensor:
        """Apply one step of convolution, recurrence, gate and norm.

        Args:
            projected: (M, ...) rows after the input projection.
            state: State table with R slots, updated in place.
            slots: (M,) integers, the slot of each sequence, or None; see `step`.

        Returns:
            (M, d_inner) rows before the output projection.
        """
        z, mixed, delta = Columns.of(projected, self.d_inner, self.conv1d.in_channels)
        mixed = causal_conv1d_update(
            mixed, state.conv, self.conv1d.weight.squeeze(1), self.conv1d.bias, convolution_activation(self.activation),
            conv_state_indices=slots,
        )  # fmt: skip
        u, B, C = Selected.of(mixed, self.d_inner, self.nheads, self.ngroups)
        if self.norms is not None:
            delta, B, C = normalised(self.norms, delta, B, C)
        limited = self._limited()
        if limited:  # selective_state_update has no limits, so the step sizes are computed here
            delta = functional.softplus(delta.to(state_dtype(delta)) + self.dt_bias).clamp(*self.dt_limit)
        inputs = (u, delta, rates(self.A_log), B, C, self.D)
        options: dict[str, Any] = {
            "dt_bias": None if limited else self.dt_bias, "dt_softplus": not limited, "state_batch_indices": slots
        }  # fmt: skip
        if isinstance(state, BufferedMambaState):
            y = buffered_state_update(state.ssm, state.buffer, *inputs, **options)
        else:
            y = selective_state_update(state.ssm, *inputs, **options)
        return self._gated(y.flatten(1), z)

    def state_shapes(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Return the shapes of the states, without the dimension of slots.

        Returns:
            Shapes of ``conv`` and ``ssm`` of `MambaState`.
        """
        return (self.conv1d.in_channels, self.d_conv - 1), (self.nheads, self.headdim, self.d_state)

    def extra_repr(self) -> str:
        """Return the options for the ``repr`` of the module."""
        numbers = f"d_model={self.d_model}, d_state={self.d_state}, expand={self.expand}"
        return f"{numbers}, headdim={self.headdim}, ngroups={self.ngroups}"

    def _run_separately(
        self, projected: Tensor, offset: Tensor, state: MambaState | None, *, reverse: bool, return_state: bool
    ) -> tuple[Tensor, MambaState | None]:
        """Apply the operations of `run` one after another, in any combination of norm and activation."""
        conv_before, ssm_before = (None, None) if state is None else state
        z, mixed, delta = Columns.of(projected, self.d_inner, self.conv1d.in_channels)
        convolve = partial(
            causal_conv1d, mixed, self.conv1d.weight.squeeze(1), self.conv1d.bias, offset=offset,
            initial_states=conv_before, reverse=reverse, activation=convolution_activation(self.activation),
        )  # fmt: skip
        mixed, conv = convolve(return_final_states=True) if return_state else (convolve(), None)
        u, B, C = Selected.of(mixed, self.d_inner, self.nheads, self.ngroups)
        if self.norms is not None:
            delta, B, C = normalised(self.norms, delta, B, C)
        recur = partial(
            ssd, u, delta, rates(self.A_log), B, C, D=self.D, dt_bias=self.dt_bias, dt_softplus=True,
            dt_limit=self.dt_limit, offset=offset, initial_states=ssm_before, reverse=reverse,
        )  # fmt: skip
        if conv is None:
            return self._gated(recur().flatten(1), z), None
        y, ssm = recur(return_final_states=True)
        return self._gated(y.flatten(1), z), MambaState(conv, ssm)

    def _gated(self, y: Tensor, z: Tensor) -> Tensor:
        gated: Tensor = y * functional.silu(z) if self.norm is None else self.norm(y, z)
        return gated

    def _limited(self) -> bool:
        return self.dt_limit != (0.0, math.inf)
