"""Inputs of the backends of the recurrence of Mamba-2."""

from typing import NamedTuple

from torch import Tensor

from supa_mamba.ops import backend
from supa_mamba.ops.ssd import block_sizes


class SsdInputs(NamedTuple):
    """Tensors of `ssd`: packed, parameters and states in the precision of states.

    Args:
        x: (T, H, P) input.
        dt: (T, H) step sizes before bias, softplus and limits.
        A: (H,) decay rates.
        B: (T, G, N) input matrix.
        C: (T, G, N) output matrix.
        D: (H,) skip weights.
        dt_bias: (H,) bias of the step sizes.
        offset: (S + 1,) int64 offsets.
        initial_states: (S, H, P, N) initial states.
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
        """Return an uninitialised tensor of shape (sequences, H, P, N)."""
        return self.A.new_empty(sequences, *self.x.shape[1:], self.B.shape[2])

    def new_checkpoints(self, *, save: bool) -> Tensor:
        """Return an uninitialised tensor for the states at the starts of chunks.

        It is (T // chunk or 0, H, P, N) on a GPU, and (T // CPU_TILE + 2 or 0, N, H P) on a CPU.
        """
        (rows, heads, width), (groups, states) = self.x.shape, self.B.shape[1:]
        if not backend.is_cuda(self.x):
            # Two of them are not used; see `ScanInputs.new_checkpoints`.
            return self.A.new_empty(rows // block_sizes.CPU_TILE + 2 if save else 0, states, heads * width)
        operand, _ = block_sizes.operands(self.x, self.A, self.B, self.C)
        count = rows // block_sizes.pairs_blocks(heads // groups, width, states, operand).chunk if save else 0
        return self.x.new_empty(count, heads, width, states, dtype=operand)


class SsdOptions(NamedTuple):
    """Options of `ssd`.

    Args:
        reverse: Whether to process each sequence from its last row to its first.
        dt_softplus: Whether to apply softplus to ``dt + dt_bias``.
        dt_min: Smallest step size.
        dt_max: Largest step size.
    """

    reverse: bool
    dt_softplus: bool
    dt_min: float
    dt_max: float
