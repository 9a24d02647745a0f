"""Bidirectional Mamba-1."""

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
    """Mix the rows of each sequence by Mamba-1 in both directions and add the results.

    The backward branch starts at the end of each sequence, without flipping or padding. The parameters of the forward
    branch have the names of `Mamba`. Those of the backward branch are ``conv1d_b``, ``x_proj_b``, ``dt_proj_b``,
    ``A_b_log`` and ``D_b``, as in Vision Mamba, and, with ``tied=False``, ``in_proj_b`` and ``out_proj_b``.

    Args:
        d_model: Number of features per row.
        d_state: Number of states per channel, from 1 to 256.
        d_conv: Width of the convolution kernel.
        expand: Expansion factor: the mixer has ``expand * d_model`` inner channels.
        dt_rank: Rank of the projection of the step sizes; ``"auto"`` is ``d_model / 16``, rounded up.
        dt_min: Smallest step size at initialisation.
        dt_max: Largest step size at initialisation.
        dt_init_floor: Lower limit of the step sizes at initialisation.
        conv_bias: Whether the convolutions have a bias.
        bias: Whether the input and output projections have a bias.
        tied: Whether both directions share the input and output projections.
        device: Device of the parameters.
        dtype: Dtype of the parameters. With half precision, ``A_log``, ``D``, ``A_b_log`` and ``D_b`` stay in float32.

    Raises:
        ValueError: If an argument is out of range.

    Example:
        >>> import torch
        >>> from supa_mamba import BiMamba
        >>> mixer = BiMamba(16, d_state=8)
        >>> x, offset = torch.randn(8, 16), torch.tensor([0, 3, 8])  # sequences of 3 and 5 rows
        >>> y = mixer(x, offset)
        >>> y.shape
        torch.Size([8, 16])
        >>> torch.allclose(y[:3], mixer(x[:3], torch.tensor([0, 3])), atol=1e-6)  # sequences do not mix
        True

    Source:
        Vision Mamba (arXiv 2401.09417), algorithm 1; shared projections as in Caduceus (arXiv 2403.03234).
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
        self.conv1d, self.x_proj, self.dt_proj, self.A_log, self.D = branch[:5]
        branch = SsmBranch.create(inner, d_state, d_conv, dt_init, conv_bias=conv_bias, **factory)
        self.conv1d_b, self.x_proj_b, self.dt_proj_b, self.A_b_log, self.D_b = branch[:5]
        self.out_proj = nn.Linear(inner, d_model, bias=bias, **factory)
        self.in_proj_b = None if tied else nn.Linear(d_model, 2 * inner, bias=bias, **factory)
        self.out_proj_b = None if tied else nn.Linear(inner, d_model, bias=bias, **factory)
        mark_no_weight_decay(self, self.no_weight_decay)

    def forward(
        self, x: Tensor, offset: Tensor | None = None, state: None = None, *, return_state: Literal[False] = False
    ) -> Tensor:
        """Mix the rows of each sequence.

        Args:
            x: (T, d_model) packed rows if ``offset`` is given, otherwise a (B, L, d_model) padded batch.
            offset: (S + 1,) integers. Sequence s consists of the rows ``offset[s]`` to ``offset[s + 1] - 1``.
            state: Must be None, because a bidirectional mixer has no state.
            return_state: Must be False.

        Returns:
            y, of the shape of ``x``.

        Raises:
            ValueError: If shapes, dtypes or devices do not match, or a state is passed or requested.
        """
        if state is not None or return_state:
            _refuse()
        rows, begins = packed_rows(x, offset, self.d_model)
        check_fits(rows, self.in_proj.weight)
        ahead, back = self._branches()
        u, z = self.in_proj(rows).chunk(2, dim=-1)
        u_b, z_b = (u, z) if self.in_proj_b is None else self.in_proj_b(rows).chunk(2, dim=-1)
        # Each scan applies the gate itself, which reads z twice but avoids another pass over the sum.
        y, _ = ahead.forward(u, z, begins, None, reverse=False, return_state=False)
        y_b, _ = back.forward(u_b, z_b, begins, None, reverse=True, return_state=False)
        mixed: Tensor = self.out_proj(y + y_b) if self.out_proj_b is None else self.out_proj(y) + self.out_proj_b(y_b)
        return mixed.reshape(x.shape)

    def step(self, x: Tensor, state: MambaState, slots: Tensor | None = None) -> NoReturn:
        """Raise an error, because the backward direction needs the following rows.

        Args:
            x: Not used.
            state: Not used.
            slots: Not used.

        Raises:
            ValueError: Always.
        """
        _refuse()

    def init_state(self, batch: int) -> NoReturn:
        """Raise an error, because a bidirectional mixer has no state.

        Args:
            batch: Not used.

        Raises:
            ValueError: Always.
        """
        _refuse()

    def extra_repr(self) -> str:
        """Return the options for the ``repr`` of the module."""
        numbers = f"d_model={self.d_model}, d_state={self.d_state}, expand={self.expand}, dt_rank={self.dt_rank}"
        return f"{numbers}, tied={self.tied}"

    def _branches(self) -> tuple[SsmBranch, SsmBranch]:
        ahead = SsmBranch(self.conv1d, self.x_proj, self.dt_proj, self.A_log, self.D)
        return ahead, SsmBranch(self.conv1d_b, self.x_proj_b, self.dt_proj_b, self.A_b_log, self.D_b)


def _refuse() -> NoReturn:
    raise ValueError(
        "BiMamba processes sequences in both directions, so it has no state and no single steps; "
        "use Mamba or Mamba2 to generate row by row."
    )
