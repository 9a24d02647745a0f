"""The inputs of the backends of Mamba-2's recurrence."""

from typing import NamedTuple

from torch import Tensor

from supa_mamba.ops.ssd import block_sizes


class SsdInputs(NamedTuple):
    """Tensors, as in ``ssd``: packed, parameters and states in the states' precision.

    Args:
        x: (T, H, P).
        dt: (T, H).
        A: (H,).
        B: (T, G, N).
        C: (T, G, N).
        D: (H,).
        dt_bias: (H,).
        offset: (S + 1,) int64.
        initial_states: (S, H, P, N).
    """

    x: Tensor
    dt: Tensor
    A: Tensor
    B: Tensor
    C: Tensor
    D: Tensor | None
    dt_bias: Tensor | None
    offset: Tensor
    initial_states: Tensor | None

    def new_final_states(self, sequences: int) -> Tensor:
        """Return an uninitialized tensor (sequences, H, P, N)."""
        return self.A.new_empty(sequences, *self.x.shape[1:], self.B.shape[2])

    def new_checkpoints(self, *, save: bool) -> Tensor:
        """Return an uninitialized tensor for the states at the starts of chunks, (T // chunk or 0, H, P, N)."""
        (rows, heads, width), (groups, states) = self.x.shape, self.B.shape[1:]
        operand, _ = block_sizes.operands(self.x, self.A, self.B, self.C)
        count = rows // block_sizes.pairs_blocks(heads // groups, width, states, operand).chunk if save else 0
        return self.x.new_empty(count, heads, width, states, dtype=operand)


class SsdOptions(NamedTuple):
    """Options, as in ``ssd``.

    Args:
        reverse: Whether each sequence runs from its own end to its start.
        dt_softplus: Whether a step is softplus of dt plus bias, or that sum itself.
        dt_min: The shortest step.
        dt_max: The longest step.
    """

    reverse: bool
    dt_softplus: bool
    dt_min: float
    dt_max: float
