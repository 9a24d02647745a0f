"""Inputs of the backends for steps with a buffer of inputs."""

from typing import NamedTuple

from torch import Tensor


class BufferedInputs(NamedTuple):
    """Inputs of the backends: K steps of each of M sequences, with one entry of dt, A, D and dt_bias per head.

    Args:
        state: (R, H, P, N) state table, with any strides, modified in place.
        buffer_x: (R, L, H, P) buffered inputs. All tensors of the buffer are contiguous and modified in place.
        buffer_dt: (R, L, H) buffered step sizes.
        buffer_B: (R, L, G, N) buffered input matrix.
        lengths: (R,) int64 number of buffered inputs of each slot.
        x: (M, K, H, P) inputs.
        dt: (M, K, H) step sizes before bias and softplus.
        A: (H,) decay rates; like D and dt_bias in the precision of the sums.
        B: (M, K, G, N) input matrix.
        C: (M, K, G, N) output matrix.
        D: (H,) skip weights.
        z: (M, K, H, P) gate.
        dt_bias: (H,) bias of the step sizes.
        slots: (M,) int64 slots of the sequences.
        dt_softplus: Whether to apply softplus to ``dt + dt_bias``.
    """

    state: Tensor
    buffer_x: Tensor
    buffer_dt: Tensor
    buffer_B: Tensor  # noqa: N815 the letter in the formulas
    lengths: Tensor
    x: Tensor
    dt: Tensor
    A: Tensor
    B: Tensor
    C: Tensor
    D: Tensor | None
    z: Tensor | None
    dt_bias: Tensor | None
    slots: Tensor
    dt_softplus: bool
