"""Inputs of the recurrence of the selective scan on a CPU."""

from typing import NamedTuple

from torch import Tensor


class Walk(NamedTuple):
    """Inputs of the recurrence, without bias, softplus, skip connection and gate.

    Args:
        x: (T, D) input, in the precision of states, like all other tensors.
        step: (T, D) step sizes.
        A: (N, D) decay rates.
        B: (T, N) input matrix.
        C: (T, N) output matrix.
        initial_states: (S, N, D) initial states; None for zeros.
        offset: (S + 1,) int64 offsets.
    """

    x: Tensor
    step: Tensor
    A: Tensor
    B: Tensor
    C: Tensor
    initial_states: Tensor | None
    offset: Tensor
