"""The inputs of the scan's backends."""

from typing import NamedTuple

from torch import Tensor

from supa_mamba.ops.selective_scan import block_sizes


class ScanInputs(NamedTuple):
    """Tensors, as in ``selective_scan``: packed, without groups, parameters and states in the states' precision.

    Args:
        u: (T, D).
        delta: (T, D).
        A: (N, D), transposed, as the kernels read it.
        B: (T, N).
        C: (T, N).
        D: (D,).
        z: (T, D).
        delta_bias: (D,).
        offset: (S + 1,) int64.
        initial_states: (S, N, D), transposed, too.
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
        """Return an uninitialized tensor (sequences, N, D)."""
        return self.A.new_empty(sequences, *self.A.shape)

    def new_checkpoints(self, *, save: bool) -> Tensor:
        """Return an uninitialized tensor for the states at the starts of tiles, (T // TILE or 0, N, D)."""
        return self.A.new_empty(self.u.shape[0] // block_sizes.TILE if save else 0, *self.A.shape)


class ScanOptions(NamedTuple):
    """Options, as in ``selective_scan``.

    Args:
        reverse: Whether each sequence runs from its own end to its start.
        delta_softplus: Whether a step is softplus of delta plus bias, or that sum itself.
    """

    reverse: bool
    delta_softplus: bool
