"""Start the Triton kernel of the convolution's steps. Nothing here waits for the device."""

import torch
from torch import Tensor

from supa_mamba.ops.causal_conv1d_update import kernels
from supa_mamba.ops.kernel_inputs import contiguous, power_of_two, triton_dtype

BLOCK = 64
"""Channels of one program: two for each lane of its warp."""

MOST_COLUMNS = 8
"""Columns of a state that are shifted at once, at most."""


def step(
    state: Tensor,
    cache: Tensor | None,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    accepted: Tensor | None,
    begins: Tensor | None,
    rows: Tensor,
    use_silu: bool,
) -> Tensor:
    """Convolve the inputs of rows in place.

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
        rows: (M,) int64.
        use_silu: Whether silu follows.

    Returns:
        y (M, K, D), contiguous.
    """
    (count, inputs, channels), width, columns = x.shape, weight.shape[1], state.shape[2]
    y = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    programs = count * -(-channels // BLOCK)
    if programs:
        kernels.step_kernel[(programs,)](
            state, cache, x, weight.contiguous(), contiguous(bias), contiguous(accepted), contiguous(begins), rows, y,
            *state.stride(), *x.stride(), inputs, channels, width, columns,
            SILU=use_silu, CIRCULAR=begins is not None, BLOCK=BLOCK, TAPS=power_of_two(width),
            COLUMNS=min(power_of_two(max(columns, 1)), MOST_COLUMNS), AT_ONCE=columns <= MOST_COLUMNS,
            DTYPE=triton_dtype(weight), num_warps=1,
        )  # fmt: skip
    return y
