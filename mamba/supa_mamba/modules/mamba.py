"""The mixer of Mamba-1."""

from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from supa_mamba.modules.base import CausalMixer
from supa_mamba.modules.initialisation import Device, mark_no_weight_decay
from supa_mamba.modules.norm import RMSNorm
from supa_mamba.modules.options import (
    Activation,
    check_activation,
    check_at_least,
    check_states,
    named_options,
    resolve_d_inner,
    resolve_dt_rank,
)
from supa_mamba.modules.ssm_branch import NORM_EPS, DtInit, SsmBranch
from supa_mamba.modules.states import MambaState


class Mamba(CausalMixer):
    """Mix the rows of each sequence by Mamba-1: input projection, convolution, selective scan, gate, output projection.

    The parameters have the names and shapes of mamba_ssm's ``Mamba``, so ``load_state_dict`` accepts its weights and
    vice versa. The arguments have the same names, order and defaults.

    Under autocast the projections and the inputs of the scan are in half precision; parameters, step sizes, decay rates
    and states are not.

    Args:
        d_model: Number of features per row.
        d_state: Number of states per channel, from 1 to 256.
        d_conv: Width of the convolution kernel.
        expand: Expansion factor: the mixer has ``expand * d_model`` inner channels.
        dt_rank: Rank of the projection of the step sizes; ``"auto"`` is ``d_model / 16``, rounded up.
        dt_min: Smallest step size at initialisation.
        dt_max: Largest step size at initialisation.
        dt_init_floor: Lower limit of the step sizes at initialisation.
        conv_bias: Whether the convolution has a bias.
        bias: Whether the input and output projections have a bias.
        ngroups: Number of groups of channels. The channels of a group share B and C.
        b_c_dt_norm: Whether B, C and the step sizes before their projection have RMS norms.
        activation: Function after the convolution: ``"silu"``, or ``"identity"`` for none.
        device: Device of the parameters.
        dtype: Dtype of the parameters. With half precision, ``A_log`` and ``D`` stay in float32.

    Raises:
        ValueError: If an argument is out of range, ``ngroups`` does not divide ``expand * d_model``, or the activation
            is unknown.

    Example:
        >>> import torch
        >>> from supa_mamba import Mamba
        >>> mixer = Mamba(16)
        >>> x, offset = torch.randn(8, 16), torch.tensor([0, 3, 8])  # two showers of 3 and 5 hits
        >>> y, state = mixer(x, offset, return_state=True)
        >>> y.shape
        torch.Size([8, 16])
        >>> mixer.step(torch.randn(1, 16), state, slots=torch.tensor([1])).shape  # one more hit of the second shower
        torch.Size([1, 16])

    Source:
        Mamba (arXiv 2312.00752), section 3.4, with the initialisation of section 3.6.
    """

    no_weight_decay: ClassVar[tuple[str, ...]] = ("A_log", "D")

    @named_options
    def __init__(
        self,
        d_model: int,
        d_state: int = 16,
        d_conv: int = 4,
        expand: float = 2,
        dt_rank: int | Literal["auto"] = "auto",
        dt_min: float = 0.001,
        dt_max: float = 0.1,
        *,
        dt_init_floor: float = 1e-4,
        conv_bias: bool = True,
        bias: bool = False,
        ngroups: int = 1,
        b_c_dt_norm: bool = False,
        activation: Activation = "silu",
        device: Device = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        check_states(d_state)
        check_at_least(1, d_conv=d_conv, ngroups=ngroups)
        check_activation(activation)
        rank = resolve_dt_rank(d_model, dt_rank)
        self.d_model, self.d_state, self.d_conv, self.expand, self.dt_rank = d_model, d_state, d_conv, expand, rank
        self.d_inner, self.ngroups, self.activation = resolve_d_inner(d_model, expand), ngroups, activation
        if self.d_inner % ngroups:
            raise ValueError(f"ngroups: {ngroups} was given, but it must divide expand * d_model, {self.d_inner}.")
        factory: dict[str, Any] = {"device": device, "dtype": dtype}
        self.in_proj = nn.Linear(d_model, 2 * self.d_inner, bias=bias, **factory)
        dt_init = DtInit(rank, dt_min, dt_max, dt_init_floor)
        branch = SsmBranch.create(
            self.d_inner, d_state, d_conv, dt_init, conv_bias=conv_bias, groups=ngroups, **factory
        )
        self.conv1d, self.x_proj, self.dt_proj, self.A_log, self.D = branch[:5]
        self.out_proj = nn.Linear(self.d_inner, d_model, bias=bias, **factory)
        sizes = {"dt_norm": rank, "B_norm": d_state, "C_norm": d_state}
        for name, size in sizes.items():
            self.register_module(name, RMSNorm(size, eps=NORM_EPS, **factory) if b_c_dt_norm else None)
        mark_no_weight_decay(self, self.no_weight_decay)

    @property
    def branch(self) -> SsmBranch:
        """The parameters between the projections."""
        return SsmBranch(self.conv1d, self.x_proj, self.dt_proj, self.A_log, self.D, self.norms, self.activation)

    def run(
        self, projected: Tensor, offset: Tensor, state: MambaState | None, *, reverse: bool, return_state: bool
    ) -> tuple[Tensor, MambaState | None]:
        """Apply convolution, scan and gate to packed sequences.

        Args:
            projected: (T, ...) rows after the input projection.
            offset: (S + 1,) int64 offsets.
            state: State before the first rows, or None for zeros.
            reverse: Whether to process each sequence from its last row to its first.
            return_state: Whether to return the state after the last rows.

        Returns:
            (T, d_inner) rows before the output projection, and the state or None.
        """
        u, z = projected.chunk(2, dim=-1)
        return self.branch.forward(u, z, offset, state, reverse=reverse, return_state=return_state)

    def run_step(self, projected: Tensor, state: MambaState, slots: Tensor | None) -> Tensor:
        """Apply one step of convolution, scan and gate.

        Args:
            projected: (M, ...) rows after the input projection.
            state: State table with R slots, updated in place.
            slots: (M,) integers, the slot of each sequence, or None; see `step`.

        Returns:
            (M, d_inner) rows before the output projection.
        """
        u, z = projected.chunk(2, dim=-1)
        return self.branch.step(u, z, state, slots)

    def state_shapes(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Return the shapes of the states, without the dimension of slots.

        Returns:
            Shapes of ``conv`` and ``ssm`` of `MambaState`.
        """
        return (self.d_inner, self.d_conv - 1), (self.d_inner, self.d_state)

    def extra_repr(self) -> str:
        """Return the options for the ``repr`` of the module."""
        numbers = f"d_model={self.d_model}, d_state={self.d_state}, expand={self.expand}"
        return f"{numbers}, dt_rank={self.dt_rank}, ngroups={self.ngroups}"
