"""The mixer of Mamba-1."""

from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from supa_mamba.modules.base import CausalMixer
from supa_mamba.modules.initialisation import Device, mark_no_weight_decay
from supa_mamba.modules.options import check_at_least, check_states, named_options, resolve_d_inner, resolve_dt_rank
from supa_mamba.modules.ssm_branch import DtInit, SsmBranch
from supa_mamba.modules.states import MambaState


class Mamba(CausalMixer):
    """Mix the rows of each sequence by Mamba-1: project, convolve, select, scan, gate, project.

    Names and shapes of parameters are those of mamba_ssm's ``Mamba``, so weights go both ways by ``load_state_dict``.
    So are names, order and defaults of the options.
    Under autocast the projections and the scan's inputs are half precision; parameters, steps, rates and states are
    not.

    Args:
        d_model: features of a row.
        d_state: states of a channel, 1 to 256.
        d_conv: taps of the convolution.
        expand: channels inside, as a multiple of ``d_model``.
        dt_rank: features from which steps are computed; "auto" is d_model / 16, rounded up.
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
            y = mixer.step(torch.randn(1, 16), state, slots=torch.tensor([1]))

    Source: Mamba (arXiv 2312.00752), section 3.4, and its first values from section 3.6.
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
        device: Device = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        check_states(d_state)
        check_at_least(1, d_conv=d_conv)
        rank = resolve_dt_rank(d_model, dt_rank)
        self.d_model, self.d_state, self.d_conv, self.expand, self.dt_rank = d_model, d_state, d_conv, expand, rank
        self.d_inner = resolve_d_inner(d_model, expand)
        factory: dict[str, Any] = {"device": device, "dtype": dtype}
        self.in_proj = nn.Linear(d_model, 2 * self.d_inner, bias=bias, **factory)
        dt_init = DtInit(rank, dt_min, dt_max, dt_init_floor)
        branch = SsmBranch.create(self.d_inner, d_state, d_conv, dt_init, conv_bias=conv_bias, **factory)
        self.conv1d, self.x_proj, self.dt_proj, self.A_log, self.D = branch
        self.out_proj = nn.Linear(self.d_inner, d_model, bias=bias, **factory)
        mark_no_weight_decay(self, self.no_weight_decay)

    def run(
        self, projected: Tensor, offset: Tensor, state: MambaState | None, *, reverse: bool, return_state: bool
    ) -> tuple[Tensor, MambaState | None]:
        """Run the branch over the rows of each sequence."""
        u, z = projected.chunk(2, dim=-1)
        return self._branch().forward(u, z, offset, state, reverse=reverse, return_state=return_state)

    def run_step(self, projected: Tensor, state: MambaState, slots: Tensor | None) -> Tensor:
        """Run one step of the branch."""
        u, z = projected.chunk(2, dim=-1)
        return self._branch().step(u, z, state, slots)

    def state_shapes(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Return the shapes of the states, without the dimension of slots."""
        return (self.d_inner, self.d_conv - 1), (self.d_inner, self.d_state)

    def extra_repr(self) -> str:
        """Return the sizes that the layers below do not show."""
        return f"d_model={self.d_model}, d_state={self.d_state}, expand={self.expand}, dt_rank={self.dt_rank}"

    def _branch(self) -> SsmBranch:
        return SsmBranch(self.conv1d, self.x_proj, self.dt_proj, self.A_log, self.D)
