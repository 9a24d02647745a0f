"""Base classes of the mixers with selective state spaces."""

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from supa_mamba.modules.initialisation import mark_no_weight_decay
from supa_mamba.modules.inputs import check_fits, check_step_rows, packed_rows
from supa_mamba.modules.norm import RMSNorm
from supa_mamba.modules.options import check_at_least
from supa_mamba.modules.states import BufferedMambaState, MambaState
from supa_mamba.ops.dtypes import state_dtype
from supa_mamba.ops.row_linear.function import step_linear


class StateSpaceMixer(nn.Module):
    """Base class of mixers with parameters that are excluded from weight decay."""

    no_weight_decay: ClassVar[tuple[str, ...]]

    def __setstate__(self, state: dict[str, Any]) -> None:
        # A deep copy of a parameter loses its attribute _no_weight_decay.
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        mark_no_weight_decay(self, self.no_weight_decay)


class CausalMixer(StateSpaceMixer):
    """Base class of causal mixers: input projection, causal convolution, recurrence with states, output projection.

    Subclasses register the parameters and implement `run`, `run_step` and `state_shapes`.
    """

    d_model: int
    in_proj: nn.Linear
    out_proj: nn.Linear
    A_log: nn.Parameter
    dt_norm: RMSNorm | None
    B_norm: RMSNorm | None
    C_norm: RMSNorm | None

    @property
    def norms(self) -> tuple[RMSNorm, RMSNorm, RMSNorm] | None:
        """The norms of step sizes, B and C, or None."""
        if self.dt_norm is None or self.B_norm is None or self.C_norm is None:
            return None
        return self.dt_norm, self.B_norm, self.C_norm

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
            x: (T, d_model) packed rows if ``offset`` is given, otherwise a (B, L, d_model) padded batch.
            offset: (S + 1,) integers. Sequence s consists of the rows ``offset[s]`` to ``offset[s + 1] - 1``.
            state: State before the first rows, as returned by an earlier call. It is not modified. Zeros by default.
            reverse: Whether to process each sequence from its last row to its first.
            return_state: Whether to also return the state after the last rows.

        Returns:
            y, of the shape of ``x``, and with ``return_state`` the state with S slots. Gradients flow through both.

        Raises:
            ValueError: If shapes, dtypes or devices do not match.
        """
        rows, begins = packed_rows(x, offset, self.d_model)
        check_fits(rows, self.in_proj.weight)
        y, after = self.run(self.in_proj(rows), begins, state, reverse=reverse, return_state=return_state)
        y = self.out_proj(y).reshape(x.shape)
        return y if after is None else (y, after)

    @torch.no_grad()
    def step(self, x: Tensor, state: MambaState | BufferedMambaState, slots: Tensor | None = None) -> Tensor:
        """Mix one more row of each of M sequences and update their states in place, without gradients.

        Args:
            x: (M, d_model) rows.
            state: State table with R slots, from `init_state` or `forward`; for `Mamba2` also from `with_buffer`.
            slots: (M,) integers, the slot of each sequence, without duplicates. A negative slot marks a finished
                sequence: its state is not updated, and its output is undefined. 0 to M - 1 by default.

        Returns:
            (M, d_model) mixed rows.

        Raises:
            ValueError: If shapes, dtypes or devices do not match.
        """
        check_step_rows(x, self.d_model)
        check_fits(x, self.in_proj.weight)
        return step_linear(self.out_proj, self.run_step(step_linear(self.in_proj, x), state, slots))

    def init_state(self, batch: int, *, dtype: torch.dtype | None = None) -> MambaState:
        """Return the initial state of empty sequences.

        Args:
            batch: Number of slots, R.
            dtype: Dtype of the states. The default is float32, or float64 if the parameters are float64.

        Returns:
            A state of zeros on the device of the parameters.

        Raises:
            ValueError: If ``batch`` is not an integer of at least 0.
        """
        check_at_least(0, batch=batch)
        dtype = dtype or state_dtype(self.A_log)
        return MambaState(*(self.A_log.new_zeros(batch, *shape, dtype=dtype) for shape in self.state_shapes()))

    def run(
        self, projected: Tensor, offset: Tensor, state: MambaState | None, *, reverse: bool, return_state: bool
    ) -> tuple[Tensor, MambaState | None]:
        """Apply convolution and recurrence to packed sequences.

        Args:
            projected: (T, ...) rows after the input projection.
            offset: (S + 1,) int64 offsets.
            state: State before the first rows, or None for zeros.
            reverse: Whether to process each sequence from its last row to its first.
            return_state: Whether to return the state after the last rows.

        Returns:
            (T, d_inner) rows before the output projection, and the state or None.
        """
        raise NotImplementedError

    def run_step(self, projected: Tensor, state: Any, slots: Tensor | None) -> Tensor:
        """Apply one step of convolution and recurrence.

        Args:
            projected: (M, ...) rows after the input projection.
            state: State table with R slots, updated in place.
            slots: (M,) integers, the slot of each sequence, or None; see `step`.

        Returns:
            (M, d_inner) rows before the output projection.
        """
        raise NotImplementedError

    def state_shapes(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Return the shapes of the states, without the dimension of slots.

        Returns:
            Shapes of ``conv`` and ``ssm`` of `MambaState`.
        """
        raise NotImplementedError
