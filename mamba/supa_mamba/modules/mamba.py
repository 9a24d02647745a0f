"""The mixer of Mamba-1."""

from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from supa_mamba.modules.base import StateSpaceMixer
from supa_mamba.modules.inputs import check_fits, check_step_rows, packed_rows
from supa_mamba.modules.options import check_at_least, check_states, inner_width, named_options, step_rank
from supa_mamba.modules.ssm_branch import Direction, Steps
from supa_mamba.modules.states import MambaState
from supa_mamba.modules.weights import Device, leave_undecayed
from supa_mamba.ops.dtypes import state_dtype


class Mamba(StateSpaceMixer):
    """Mix the rows of each sequence by Mamba-1: project, convolve, select, scan, gate, project.

    Names and shapes of parameters are those of mamba_ssm's ``Mamba``, so weights go both ways by ``load_state_dict``.
    Under autocast the projections and the scan's inputs are half precision; parameters, steps, rates and states are
    not.

    Args:
        d_model: features of a row.
        d_state: states of a channel, 1 to 256.
        d_conv: taps of the convolution.
        expand: channels inside, as a multiple of ``d_model``.
        dt_rank: numbers of a row that its steps are made of; "auto" is d_model / 16, rounded up.
        dt_min: the shortest step before training.
        dt_max: the longest step before training.
        dt_init_floor: shorter steps are lengthened to this.
        conv_bias: whether the convolution has a bias.
        bias: whether the outer projections have one.
        device: of the parameters.
        dtype: of the parameters; ``A_log`` and ``D`` stay in float32 where it is half precision.

    Raises:
        ValueError: a number is out of range.

    Example:
        Two showers, of 3 and 5 hits, and a sixth hit of the second one::

            mixer = Mamba(16)
            y, state = mixer(torch.randn(8, 16), torch.tensor([0, 3, 8]), return_state=True)
            y = mixer.step(torch.randn(1, 16), state, rows=torch.tensor([1]))

    Source: Mamba (arXiv 2312.00752), section 3.4, and its first values from section 3.6.
    """

    undecayed: ClassVar[tuple[str, ...]] = ("A_log", "D")

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
        dt_init_floor: float = 1e-4,
        conv_bias: bool = True,
        bias: bool = False,
        *,
        device: Device = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        check_states(d_state)
        check_at_least(1, d_conv=d_conv)
        rank = step_rank(d_model, dt_rank)
        self.d_model, self.d_state, self.d_conv, self.expand, self.dt_rank = d_model, d_state, d_conv, expand, rank
        self.d_inner = inner_width(d_model, expand)
        self.in_proj = nn.Linear(d_model, 2 * self.d_inner, bias=bias, device=device, dtype=dtype)
        steps = Steps(rank, dt_min, dt_max, dt_init_floor)
        made = Direction.made(self.d_inner, d_state, d_conv, steps, conv_bias=conv_bias, device=device, dtype=dtype)
        self.conv1d, self.x_proj, self.dt_proj, self.A_log, self.D = made
        self.out_proj = nn.Linear(self.d_inner, d_model, bias=bias, device=device, dtype=dtype)
        leave_undecayed(self, self.undecayed)

    def forward(
        self,
        x: Tensor,
        offset: Tensor | None = None,
        state: MambaState | None = None,
        *,
        reverse: bool = False,
        return_state: bool = False,
    ) -> Tensor | tuple[Tensor, MambaState]:
        """Mix the rows of each sequence.

        Args:
            x: (T, d_model) packed with an offset, or (B, L, d_model) padded without.
            offset: (S + 1,) int64, where each packed sequence begins, and the number of rows.
            state: what was before the first rows, as given by an earlier call; it is not changed. Nothing if not given.
            reverse: whether each sequence is walked from its own end to its start.
            return_state: whether to give the state after the last rows, too.

        Returns:
            y, of the shape of x, and with ``return_state`` the state of S rows. Gradients flow through both.

        Raises:
            ValueError: shapes, kinds or devices do not fit.
        """
        rows, begins = packed_rows(x, offset, self.d_model)
        check_fits(rows, self.in_proj.weight)
        u, z = self.in_proj(rows).chunk(2, dim=-1)
        y, after = self._direction().forward(u, z, begins, state, reverse=reverse, return_state=return_state)
        y = self.out_proj(y).reshape(x.shape)
        return y if after is None else (y, after)

    @torch.no_grad()
    def step(self, x: Tensor, state: MambaState, rows: Tensor | None = None) -> Tensor:
        """Mix one more row of each of M sequences, and change their states in place. No gradients flow.

        Args:
            x: (M, d_model).
            state: a table of R rows, of ``init_state`` or ``forward``.
            rows: (M,) int64, which row of the table belongs to each sequence, at most once; negative for one that has
                finished: its output means nothing. 0 to M - 1 if not given.

        Returns:
            y (M, d_model).

        Raises:
            ValueError: shapes, kinds or devices do not fit.
        """
        check_step_rows(x, self.d_model)
        check_fits(x, self.in_proj.weight)
        u, z = self.in_proj(x).chunk(2, dim=-1)
        y: Tensor = self.out_proj(self._direction().step(u, z, state, rows))
        return y

    def init_state(self, batch: int, *, dtype: torch.dtype | None = None) -> MambaState:
        """Give the state of sequences that have not begun.

        Args:
            batch: how many rows the table has, R.
            dtype: of the states; float32, or float64 where the parameters are, if not given.

        Returns:
            Zeros, on the device of the parameters.

        Raises:
            ValueError: the number is no whole number of at least 0.
        """
        check_at_least(0, batch=batch)
        dtype = dtype or state_dtype(self.A_log)
        conv = self.A_log.new_zeros(batch, self.d_inner, self.d_conv - 1, dtype=dtype)
        return MambaState(conv, self.A_log.new_zeros(batch, self.d_inner, self.d_state, dtype=dtype))

    def extra_repr(self) -> str:
        """Say what the layers below do not."""
        return f"d_model={self.d_model}, d_state={self.d_state}, expand={self.expand}, dt_rank={self.dt_rank}"

    def _direction(self) -> Direction:
        return Direction(self.conv1d, self.x_proj, self.dt_proj, self.A_log, self.D)
