"""What the mixers with selective states have in common."""

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from supa_mamba.modules.initialisation import mark_no_weight_decay
from supa_mamba.modules.inputs import check_fits, check_step_rows, packed_rows
from supa_mamba.modules.options import check_at_least
from supa_mamba.modules.states import MambaState
from supa_mamba.ops.dtypes import state_dtype


class StateSpaceMixer(nn.Module):
    """A mixer some of whose parameters weight decay must leave alone."""

    no_weight_decay: ClassVar[tuple[str, ...]]

    def __setstate__(self, state: dict[str, Any]) -> None:
        # A deep copy of a parameter forgets how the parameter was marked.
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        mark_no_weight_decay(self, self.no_weight_decay)


class CausalMixer(StateSpaceMixer):
    """A mixer that projects rows, runs a convolution and a recurrence with states over them, and projects the result.

    A subclass registers the parameters, and defines ``run``, ``run_step`` and ``state_shapes``.
    """

    d_model: int
    in_proj: nn.Linear
    out_proj: nn.Linear
    A_log: nn.Parameter

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
            offset: (S + 1,) integers, where each packed sequence begins, and the number of rows.
            state: The state before the first rows, as returned by an earlier call, which is not changed; zeros if not
                given.
            reverse: Whether each sequence runs from its own end to its start.
            return_state: Whether to return the state after the last rows, too.

        Returns:
            y, of the shape of x, and with ``return_state`` the state in S slots. Gradients flow through both.

        Raises:
            ValueError: Shapes, dtypes or devices do not fit.
        """
        rows, begins = packed_rows(x, offset, self.d_model)
        check_fits(rows, self.in_proj.weight)
        # States are large, so they are returned on request only.
        y, after = self.run(self.in_proj(rows), begins, state, reverse=reverse, return_state=return_state)
        y = self.out_proj(y).reshape(x.shape)
        return y if after is None else (y, after)

    @torch.no_grad()
    def step(self, x: Tensor, state: MambaState, slots: Tensor | None = None) -> Tensor:
        """Mix one more row of each of M sequences, and change their states in place. No gradients flow.

        Args:
            x: (M, d_model).
            state: A table of R slots, of ``init_state`` or ``forward``.
            slots: (M,) integers, the slot of each sequence in the table, each at most once; negative for a sequence
                that has finished, whose output means nothing. 0 to M - 1 if not given.

        Returns:
            y (M, d_model).

        Raises:
            ValueError: Shapes, dtypes or devices do not fit.
        """
        check_step_rows(x, self.d_model)
        check_fits(x, self.in_proj.weight)
        y: Tensor = self.out_proj(self.run_step(self.in_proj(x), state, slots))
        return y

    def init_state(self, batch: int, *, dtype: torch.dtype | None = None) -> MambaState:
        """Return the state of sequences that have not begun.

        Args:
            batch: The number of slots in the table, R.
            dtype: Of the states; float32, or float64 where the parameters are, if not given.

        Returns:
            Zeros, on the device of the parameters.

        Raises:
            ValueError: The batch is not an integer of at least 0.
        """
        check_at_least(0, batch=batch)
        dtype = dtype or state_dtype(self.A_log)
        return MambaState(*(self.A_log.new_zeros(batch, *shape, dtype=dtype) for shape in self.state_shapes()))

    def run(
        self, projected: Tensor, offset: Tensor, state: MambaState | None, *, reverse: bool, return_state: bool
    ) -> tuple[Tensor, MambaState | None]:
        """Compute the rows (T, d_inner) before the last projection, and on request the state."""
        raise NotImplementedError

    def run_step(self, projected: Tensor, state: MambaState, slots: Tensor | None) -> Tensor:
        """Compute one row (M, d_inner) of each sequence before the last projection; change the state in place."""
        raise NotImplementedError

    def state_shapes(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Return the shapes of ``MambaState``, without the dimension of slots."""
        raise NotImplementedError
