"""The Triton kernel of the convolution's steps: one program for one row and a block of channels.

Loops are written as ``while`` for the interpreter's sake, as in ``scan.kernels``. No argument depends on the number of
rows, so all may be specialised, and nothing is compiled anew.
"""

import triton
import triton.language as tl

from supa_mamba.kernel_math import sigmoid


@triton.jit
def window(state_ptr, cache_ptr, x_ptr, newest, taken, x_stride, channels, width, k, d, live_d, DTYPE: tl.constexpr):
    # Row k of the block is the input k steps before the newest. Steps count from the first cached input: the state
    # holds what lies before it, and the new inputs follow the cached ones that are taken.
    p = newest - k
    near, of_channels = k < width, d[None, :]
    places = state_ptr + of_channels * (width - 1) + (width - 1 + p)[:, None]
    block = tl.load(places, (near & (p < 0) & (p > -width))[:, None] & live_d[None, :], 0.0)
    block += tl.load(
        x_ptr + ((p - taken) * x_stride)[:, None] + of_channels, (near & (p >= taken))[:, None] & live_d[None, :], 0.0
    ).to(DTYPE)
    if cache_ptr is not None:
        cached = (near & (p >= 0) & (p < taken))[:, None] & live_d[None, :]
        block += tl.load(cache_ptr + (p * channels)[:, None] + of_channels, cached, 0.0).to(DTYPE)
    return block


@triton.jit
def step_kernel(
    state_ptr,
    cache_ptr,
    x_ptr,
    weight_ptr,
    bias_ptr,
    accepted_ptr,
    rows_ptr,
    y_ptr,
    x_stride,
    inputs,
    channels,
    width,
    SILU: tl.constexpr,
    BLOCK: tl.constexpr,
    TAPS: tl.constexpr,
    DTYPE: tl.constexpr,
):
    blocks = tl.cdiv(channels, BLOCK)
    m = (tl.program_id(0) // blocks).to(tl.int64)
    d = (tl.program_id(0) % blocks) * BLOCK + tl.arange(0, BLOCK)
    k = tl.arange(0, TAPS)
    row = tl.load(rows_ptr + m)
    # A finished row reads and changes nothing, and gives zeros.
    live_d = (d < channels) & (row >= 0)
    state_ptr += row * channels * (width - 1)
    x_ptr += m * inputs * x_stride
    taken = row * 0
    kept = taken + inputs
    if cache_ptr is not None:
        cache_ptr += row * inputs * channels
        taken = tl.load(accepted_ptr + m, row >= 0, 0)
        kept = taken
    weight = tl.load(
        weight_ptr + d[None, :] * width + (width - 1 - k)[:, None], (k < width)[:, None] & live_d[None, :], 0.0
    )
    bias = tl.zeros((BLOCK,), DTYPE)
    if bias_ptr is not None:
        bias += tl.load(bias_ptr + d, live_d, 0.0)

    i = row * 0
    while i < inputs:
        seen = window(
            state_ptr, cache_ptr, x_ptr, taken + i, taken, x_stride, channels, width, k, d, live_d, DTYPE
        )  # fmt: skip
        y = tl.sum(weight * seen, 0) + bias
        if SILU:
            y *= sigmoid(y)
        tl.store(y_ptr + (m * inputs + i) * channels + d, tl.where(row >= 0, y, 0.0), d < channels)
        i += 1
    seen = window(state_ptr, cache_ptr, x_ptr, kept - 1, taken, x_stride, channels, width, k, d, live_d, DTYPE)
    # What one lane overwrites another may read.
    tl.debug_barrier()
    tl.store(
        state_ptr + d[None, :] * (width - 1) + (width - 2 - k)[:, None],
        seen,
        (k < width - 1)[:, None] & live_d[None, :],
    )
    if cache_ptr is not None:
        i = row * 0
        while i < inputs:
            tl.store(cache_ptr + i * channels + d, tl.load(x_ptr + i * x_stride + d, live_d, 0.0), live_d)
            i += 1
