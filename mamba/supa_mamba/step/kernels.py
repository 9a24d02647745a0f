"""The Triton kernel of one step: one program for one row and a block of channels."""

import triton
import triton.language as tl

from supa_mamba.kernel_math import sigmoid, softplus


@triton.jit(do_not_specialize=["x_stride", "delta_stride", "B_stride", "C_stride", "z_stride", "channels", "states"])
def step_kernel(
    state_ptr,
    x_ptr,
    delta_ptr,
    A_ptr,
    B_ptr,
    C_ptr,
    D_ptr,
    z_ptr,
    bias_ptr,
    rows_ptr,
    y_ptr,
    x_stride,
    delta_stride,
    B_stride,
    C_stride,
    z_stride,
    channels,
    states,
    SOFTPLUS: tl.constexpr,
    BLOCK: tl.constexpr,
    STATES: tl.constexpr,
    DTYPE: tl.constexpr,
):
    blocks = tl.cdiv(channels, BLOCK)
    m = tl.program_id(0).to(tl.int64) // blocks
    d = (tl.program_id(0) % blocks) * BLOCK + tl.arange(0, BLOCK)
    n = tl.arange(0, STATES)
    row = tl.load(rows_ptr + m)
    # A finished row reads and changes nothing, and gives zeros.
    live_d, live_n = (d < channels) & (row >= 0), n < states
    live = live_d[:, None] & live_n[None, :]
    of_state = d[:, None] * states + n[None, :]
    places = state_ptr + row * channels * states + of_state

    x = tl.load(x_ptr + m * x_stride + d, live_d, 0.0).to(DTYPE)
    step = tl.load(delta_ptr + m * delta_stride + d, live_d, 0.0).to(DTYPE)
    b = tl.load(B_ptr + m * B_stride + n, live_n, 0.0).to(DTYPE)
    c = tl.load(C_ptr + m * C_stride + n, live_n, 0.0).to(DTYPE)
    if bias_ptr is not None:
        step += tl.load(bias_ptr + d, live_d, 0.0)
    if SOFTPLUS:
        step = softplus(step)
    h = tl.exp(step[:, None] * tl.load(A_ptr + of_state, live, 0.0)) * tl.load(places, live, 0.0)
    h += (step * x)[:, None] * b[None, :]
    tl.store(places, h, live)
    y = tl.sum(h * c[None, :], 1)
    if D_ptr is not None:
        y += tl.load(D_ptr + d, live_d, 0.0) * x
    if z_ptr is not None:
        gate = tl.load(z_ptr + m * z_stride + d, live_d, 0.0).to(DTYPE)
        y *= gate * sigmoid(gate)
    tl.store(y_ptr + m * channels + d, tl.where(row >= 0, y, 0.0), d < channels)
