"""Inputs of the backends for steps of the convolution."""

from typing import NamedTuple

from torch import Tensor


class ConvStepInputs(NamedTuple):
    """Inputs of the backends: K steps of each of M sequences.

    Without a cache the state advances past all K inputs. With a cache it advances past the accepted cached inputs, and
    the K inputs are stored in the cache. With ``begins`` (and without a cache) the state is a circular buffer.

    Args:
        state: (R, D, L) state table, L >= W - 1, with any strides, modified in place.
        cache: (R, K, D) cached inputs, contiguous, modified in place.
        x: (M, K, D) inputs, with any strides.
        weight: (D, W) kernel in the precision of the sums.
        bias: (D,) bias in the precision of the sums.
        accepted: (M,) int64 numbers of accepted cached inputs, with a cache.
        begins: (M,) int64 numbers of earlier steps; modulo L, the column of the first input.
        slots: (M,) int64 slots of the sequences.
        use_silu: Whether to apply SiLU.
    """

    state: Tensor
    cache: Tensor | None
    x: Tensor
    weight: Tensor
    bias: Tensor | None
    accepted: Tensor | None
    begins: Tensor | None
    slots: Tensor
    use_silu: bool
