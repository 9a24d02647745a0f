"""Mamba-1 in both directions of time."""

from typing import Any, ClassVar, Literal, NoReturn

import torch
from torch import Tensor, nn

from supa_mamba.modules.base import StateSpaceMixer
from supa_mamba.modules.initialisation import Device, mark_no_weight_decay
from supa_mamba.modules.inputs import check_fits, packed_rows
from supa_mamba.modules.options import check_at_least, check_states, named_options, resolve_d_inner, resolve_dt_rank
from supa_mamba.modules.ssm_branch import DtInit, SsmBranch
from supa_mamba.modules.states import MambaState


class BiMamba(StateSpaceMixer):
    """Mix the rows of each sequence by Mamba-1 from its start and from its end, and add both.

    The backward branch begins at each sequence's own end; nothing is flipped or padded. The forward branch's parameters
    have the names of ``Mamba``, those of the backward branch are ``conv1d_b``, ``x_proj_b``, ``dt_proj_b``,
    ``A_b_log`` and ``D_b``, as in Vision Mamba; untied there are ``in_proj_b`` and ``out_proj_b``, too.

    Args:
        d_model: features of a row.
        d_state: states of a channel, 1 to 256.
        d_conv: taps of the convolution.
        expand: channels inside, as a multiple of ``d_model``.
        dt_rank: features from which steps are computed; "auto" is d_model / 16, rounded up.
        dt_min: the shortest step before training.
        dt_max: the longest step before training.
        dt_init_floor: shorter steps are lengthened to this.
        conv_bias: whether the convolutions have a bias.
        bias: whether the outer projections have one.
        tied: whether both directions share their outer projections.
        device: of the parameters.
        dtype: of the parameters; rates and skips stay in float32 where it is half precision.

    Raises:
        ValueError: a number is out of range.

    Source: Vision Mamba (arXiv 2401.09417), algorithm 1; shared projections as in Caduceus (arXiv 2403.03234).
    """

    no_weight_decay: ClassVar[tuple[str, ...]] = ("A_log", "D", "A_b_log", "D_b")

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
        tied: bool = True,
        device: Device = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        check_states(d_state)
        check_at_least(1, d_conv=d_conv)
        rank = resolve_dt_rank(d_model, dt_rank)
        self.d_model, self.d_state, self.expand, self.dt_rank, self.tied = d_model, d_state, expand, rank, tied
        inner = resolve_d_inner(d_model, expand)
        dt_init = DtInit(rank, dt_min, dt_max, dt_init_floor)
        factory: dict[str, Any] = {"device": device, "dtype": dtype}
        self.in_proj = nn.Linear(d_model, 2 * inner, bias=bias, **factory)
        branch = SsmBranch.create(inner, d_state, d_conv, dt_init, conv_bias=conv_bias, **factory)
        self.conv1d, self.x_proj, self.dt_proj, self.A_log, self.D = branch
        branch = SsmBranch.create(inner, d_state, d_conv, dt_init, conv_bias=conv_bias, **factory)
        self.conv1d_b, self.x_proj_b, self.dt_proj_b, self.A_b_log, self.D_b = branch
        self.out_proj = nn.Linear(inner, d_model, bias=bias, **factory)
        self.in_proj_b = None if tied else nn.Linear(d_model, 2 * inner, bias=bias, **factory)
        self.out_proj_b = None if tied else nn.Linear(inner, d_model, bias=bias, **factory)
        mark_no_weight_decay(self, self.no_weight_decay)

    def forward(
        self, x: Tensor, offset: Tensor | None = None, state: None = None, *, return_state: Literal[False] = False
    ) -> Tensor:
        """Mix the rows of each sequence.

        Args:
            x: (T, d_model) packed with an offset, or (B, L, d_model) padded without.
            offset: (S + 1,) int64, where each packed sequence begins, and the number of rows.
            state: must be None, as what follows is not known while a sequence grows.
            return_state: must be False.

        Returns:
            y, of the shape of x.

        Raises:
            ValueError: Shapes, dtypes or devices do not fit, or a state is given or requested.
        """
        if state is not None or return_state:
            _refuse()
        rows, begins = packed_rows(x, offset, self.d_model)
        check_fits(rows, self.in_proj.weight)
        ahead, back = self._branches()
        u, z = self.in_proj(rows).chunk(2, dim=-1)
        u_b, z_b = (u, z) if self.in_proj_b is None else self.in_proj_b(rows).chunk(2, dim=-1)
        # Each scan gates for itself: that reads z twice, but spares a pass over the sum.
        y, _ = ahead.forward(u, z, begins, None, reverse=False, return_state=False)
        y_b, _ = back.forward(u_b, z_b, begins, None, reverse=True, return_state=False)
        mixed: Tensor = self.out_proj(y + y_b) if self.out_proj_b is None else self.out_proj(y) + self.out_proj_b(y_b)
        return mixed.reshape(x.shape)

    def step(self, x: Tensor, state: MambaState, slots: Tensor | None = None) -> NoReturn:
        """Refuse: a step would need the rows that are still to come.

        Raises:
            ValueError: Always.
        """
        _refuse()

    def init_state(self, batch: int) -> NoReturn:
        """Refuse, as ``step`` does.

        Raises:
            ValueError: Always.
        """
        _refuse()

    def extra_repr(self) -> str:
        """Return the sizes that the layers below do not show."""
        numbers = f"d_model={self.d_model}, d_state={self.d_state}, expand={self.expand}, dt_rank={self.dt_rank}"
        return f"{numbers}, tied={self.tied}"

    def _branches(self) -> tuple[SsmBranch, SsmBranch]:
        ahead = SsmBranch(self.conv1d, self.x_proj, self.dt_proj, self.A_log, self.D)
        return ahead, SsmBranch(self.conv1d_b, self.x_proj_b, self.dt_proj_b, self.A_b_log, self.D_b)


def _refuse() -> NoReturn:
    raise ValueError(
        "BiMamba reads sequences from both ends, so it keeps no state and takes no single steps; "
        "to generate row by row use Mamba or Mamba2."
    )
