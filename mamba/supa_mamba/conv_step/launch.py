"""Start the Triton kernel of the convolution's steps. Nothing here waits for the device."""

import torch
from torch import Tensor

from supa_mamba.conv_step import kernels
from supa_mamba.kernel_inputs import contiguous, power_of_two, triton_dtype, with_unit_stride

BLOCK = 64
"""Channels of one program: two for each lane of its warp."""


def step(
    state: Tensor,
    cache: Tensor | None,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    accepted: Tensor | None,
    rows: Tensor,
    use_silu: bool,
) -> Tensor:
    """Convolve the inputs of rows in place.

    Without a cache the state moves past all K inputs; with one it moves past the accepted cached ones, and the K inputs
    are cached.

    Args:
        state: (R, D, W - 1), changed in place.
        cache: (R, K, D), changed in place.
        x: (M, K, D).
        weight: (D, W), as bias in the precision of the state.
        bias: (D,).
        accepted: (M,) int64, with a cache.
        rows: (M,) int64.
        use_silu: whether silu follows.

    Returns:
        y (M, K, D).
    """
    (count, inputs, channels), width = x.shape, weight.shape[1]
    y = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    flat = with_unit_stride(x.reshape(count * inputs, channels))
    programs = count * -(-channels // BLOCK)
    if programs:
        kernels.step_kernel[(programs,)](
            state, cache, flat, weight.contiguous(), contiguous(bias), contiguous(accepted), rows, y,
            flat.stride(0), inputs, channels, width,
            SILU=use_silu, BLOCK=BLOCK, TAPS=power_of_two(width), DTYPE=triton_dtype(state), num_warps=1,
        )  # fmt: skip
    return y
