"""The inputs of the backends of the convolution's steps."""

from typing import NamedTuple

from torch import Tensor


class ConvStepInputs(NamedTuple):
    """What the backends take: M sequences, K steps of each.

    Without a cache the state moves past all K inputs; with one it moves past the accepted cached ones, and the K inputs
    are cached. With ``begins`` (and without a cache) the columns of the state are a circular buffer.

    Args:
        state: (R, D, L), L >= W - 1, with any strides, changed in place.
        cache: (R, K, D), contiguous, changed in place.
        x: (M, K, D), with any strides.
        weight: (D, W), as bias in the precision of the sums.
        bias: (D,).
        accepted: (M,) int64, with a cache.
        begins: (M,) int64, the steps before this call, modulo L the column of the first input.
        slots: (M,) int64.
        use_silu: Whether silu follows.
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
