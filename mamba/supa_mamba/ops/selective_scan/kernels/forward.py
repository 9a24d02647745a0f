"""Forward kernel of the selective scan."""

import triton
import triton.language as tl

from supa_mamba.ops.kernel_math import LOG2_E, load, sigmoid, softplus


@triton.jit
def scan_forward_kernel(
    u_ptr,
    delta_ptr,
    A_ptr,
    B_ptr,
    C_ptr,
    D_ptr,
    z_ptr,
    bias_ptr,
    offset_ptr,
    order_ptr,
    initial_ptr,
    y_ptr,
    final_ptr,
    checkpoint_ptr,
    u_stride,
    delta_stride,
    B_stride,
    C_stride,
    z_stride,
    channels,
    states,
    REVERSE: tl.constexpr,
    SOFTPLUS: tl.constexpr,
    TILE: tl.constexpr,
    BLOCK: tl.constexpr,
    STATES: tl.constexpr,
    WHOLE_D: tl.constexpr,
    WHOLE_N: tl.constexpr,
    DTYPE: tl.constexpr,
):
    blocks = tl.cdiv(channels, BLOCK)
    sequence = tl.load(order_ptr + tl.program_id(0) // blocks)
    d = (tl.program_id(0) % blocks) * BLOCK + tl.arange(0, BLOCK)
    n = tl.arange(0, STATES)
    live_d, live_n = d < channels, n < states
    live = live_n[:, None] & live_d[None, :]
    of_state = n[:, None] * channels + d[None, :]
    start, end = tl.load(offset_ptr + sequence), tl.load(offset_ptr + sequence + 1)
    length = (end - start).to(tl.int32)

    decay = tl.load(A_ptr + of_state, live, 0.0) * LOG2_E
    if D_ptr is not None:
        skip = tl.load(D_ptr + d, live_d, 0.0)
    if bias_ptr is not None:
        bias = tl.load(bias_ptr + d, live_d, 0.0)
    h = tl.zeros((STATES, BLOCK), DTYPE)
    if initial_ptr is not None:
        h += tl.load(initial_ptr + sequence * channels * states + of_state, live, 0.0)

    t, way = start, 1
    if REVERSE:
        t, way = end - 1, -1
    i = length * 0
    if length > 0:
        x_ahead = load(u_ptr + t * u_stride + d, live_d, WHOLE_D)
        step_ahead = load(delta_ptr + t * delta_stride + d, live_d, WHOLE_D)
        gate_ahead = x_ahead
        if z_ptr is not None:
            gate_ahead = load(z_ptr + t * z_stride + d, live_d, WHOLE_D)
        b_ahead = load(B_ptr + t * B_stride + n, live_n, WHOLE_N)
        c_ahead = load(C_ptr + t * C_stride + n, live_n, WHOLE_N)
        while i < length:
            if checkpoint_ptr is not None:  # noqa: SIM102 constant at compile time
                if i > 0:
                    slot = start // TILE + i // TILE - 1
                    tl.store(checkpoint_ptr + slot * states * channels + of_state, h, live)
            stop = tl.minimum(i + TILE, length)
            while i < stop:
                x, step, gate = x_ahead.to(DTYPE), step_ahead.to(DTYPE), gate_ahead.to(DTYPE)
                b, c, here = b_ahead.to(DTYPE), c_ahead.to(DTYPE), t
                t += tl.where(i + 1 < length, way, 0)  # the last row is loaded twice
                x_ahead = load(u_ptr + t * u_stride + d, live_d, WHOLE_D)
                step_ahead = load(delta_ptr + t * delta_stride + d, live_d, WHOLE_D)
                gate_ahead = x_ahead
                if z_ptr is not None:
                    gate_ahead = load(z_ptr + t * z_stride + d, live_d, WHOLE_D)
                b_ahead = load(B_ptr + t * B_stride + n, live_n, WHOLE_N)
                c_ahead = load(C_ptr + t * C_stride + n, live_n, WHOLE_N)
                if bias_ptr is not None:
                    step += bias
                if SOFTPLUS:
                    step = softplus(step)
                h = tl.exp2(step[None, :] * decay) * h + (step * x)[None, :] * b[:, None]
                y = tl.sum(h * c[:, None], 0)
                if D_ptr is not None:
                    y += skip * x
                if z_ptr is not None:
                    y *= gate * sigmoid(gate)
                if WHOLE_D:
                    tl.store(y_ptr + here * channels + d, y)
                else:
                    tl.store(y_ptr + here * channels + d, y, live_d)
                i += 1
    if final_ptr is not None:
        tl.store(final_ptr + sequence * channels * states + of_state, h, live)
