"""Inputs of the backends of the selective scan."""

from typing import NamedTuple

from torch import Tensor

from supa_mamba.ops.selective_scan import block_sizes


class ScanInputs(NamedTuple):
    """Tensors of `selective_scan`: packed, without groups, parameters and states in the precision of states.

    Args:
        u: (T, D) input.
        delta: (T, D) step sizes before bias and softplus.
        A: (N, D) decay rates, transposed for the kernels.
        B: (T, N) input matrix.
        C: (T, N) output matrix.
        D: (D,) skip weights.
        z: (T, D) gate.
        delta_bias: (D,) bias of the step sizes.
        offset: (S + 1,) int64 offsets.
        initial_states: (S, N, D) initial states, transposed for the kernels.
    """

    u: Tensor
    delta: Tensor
    A: Tensor
    B: Tensor
    C: Tensor
    D: Tensor | None
    z: Tensor | None
    delta_bias: Tensor | None
    offset: Tensor
    initial_states: Tensor | None

    def new_final_states(self, sequences: int) -> Tensor:
        """Return an uninitialised tensor of shape (sequences, N, D)."""
        return self.A.new_empty(sequences, *self.A.shape)

    def new_checkpoints(self, *, save: bool) -> Tensor:
        """Return an uninitialised tensor for the states at the starts of tiles, (T // TILE + 2 or 0, N, D)."""
        # Two of them are not used: torch.export would fix the number of rows of the example if the size were 0 or 1.
        return self.A.new_empty(self.u.shape[0] // block_sizes.TILE + 2 if save else 0, *self.A.shape)


class ScanOptions(NamedTuple):
    """Options of `selective_scan`.

    Args:
        reverse: Whether to process each sequence from its last row to its first.
        delta_softplus: Whether to apply softplus to ``delta + delta_bias``.
    """

    reverse: bool
    delta_softplus: bool
