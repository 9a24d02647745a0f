"""Triton kernels of the selective scan: one program walks over one sequence with a block of channels.

The state of a block lives in registers. Every tile of steps the forward kernel stores it, so that the backward kernel
can walk over a tile again. With log a_t = delta_t A, the gradient with respect to log a_t is
G_t = sum over s >= t of (h_s C_s dy_s - b_s dh_s) + h_T dh_T, where b_s = delta_s u_s B_s and dh_s is the gradient
with respect to the whole state; delta and A need only sums of it, so that no step's state is stored. All sums run in
one order, without atomics.

Loops are written as ``while``: Triton 3.6's interpreter cannot count to a loaded number with ``range`` under NumPy 2.4.
"""

import triton
import triton.language as tl

from supa_mamba.kernel_math import sigmoid, softplus

LOG2_E = tl.constexpr(1.4426950408889634)
LN_2 = tl.constexpr(0.6931471805599453)


@triton.jit(do_not_specialize=["u_stride", "delta_stride", "B_stride", "C_stride", "z_stride", "channels", "states"])
def forward_kernel(
    u_ptr,
    delta_ptr,
    A_ptr,
    B_ptr,
    C_ptr,
    D_ptr,
    z_ptr,
    bias_ptr,
    offset_ptr,
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
    DTYPE: tl.constexpr,
):
    blocks = tl.cdiv(channels, BLOCK)
    sequence = tl.program_id(0).to(tl.int64) // blocks
    d = (tl.program_id(0) % blocks) * BLOCK + tl.arange(0, BLOCK)
    n = tl.arange(0, STATES)
    live_d, live_n = d < channels, n < states
    live = live_n[:, None] & live_d[None, :]
    of_state = n[:, None] * channels + d[None, :]
    start, end = tl.load(offset_ptr + sequence), tl.load(offset_ptr + sequence + 1)
    length = end - start

    decay = tl.load(A_ptr + of_state, live, 0.0) * LOG2_E
    if D_ptr is not None:
        skip = tl.load(D_ptr + d, live_d, 0.0)
    if bias_ptr is not None:
        bias = tl.load(bias_ptr + d, live_d, 0.0)
    h = tl.zeros((STATES, BLOCK), DTYPE)
    if initial_ptr is not None:
        h += tl.load(initial_ptr + sequence * channels * states + of_state, live, 0.0)

    # What comes from far memory is asked for one step ahead, so that its way is covered by the work on this step.
    i = length * 0
    t = start
    if REVERSE:
        t = end - 1
    waiting = live_d & (length > 0)
    x_ahead = tl.load(u_ptr + t * u_stride + d, waiting, 0.0)
    step_ahead = tl.load(delta_ptr + t * delta_stride + d, waiting, 0.0)
    gate_ahead = x_ahead
    if z_ptr is not None:
        gate_ahead = tl.load(z_ptr + t * z_stride + d, waiting, 0.0)
    while i < length:
        x, step, gate = x_ahead.to(DTYPE), step_ahead.to(DTYPE), gate_ahead.to(DTYPE)
        here = t
        b = tl.load(B_ptr + here * B_stride + n, live_n, 0.0).to(DTYPE)
        c = tl.load(C_ptr + here * C_stride + n, live_n, 0.0).to(DTYPE)
        if REVERSE:
            t -= 1
        else:
            t += 1
        waiting = live_d & (i + 1 < length)
        x_ahead = tl.load(u_ptr + t * u_stride + d, waiting, 0.0)
        step_ahead = tl.load(delta_ptr + t * delta_stride + d, waiting, 0.0)
        gate_ahead = x_ahead
        if z_ptr is not None:
            gate_ahead = tl.load(z_ptr + t * z_stride + d, waiting, 0.0)
        if bias_ptr is not None:
            step += bias
        if SOFTPLUS:
            step = softplus(step)
        if checkpoint_ptr is not None:  # noqa: SIM102 settled when the kernel is compiled
            if (i % TILE == 0) & (i > 0):
                slot = start // TILE + i // TILE - 1
                tl.store(checkpoint_ptr + slot * states * channels + of_state, h, live)
        h = tl.exp2(step[None, :] * decay) * h + (step * x)[None, :] * b[:, None]
        y = tl.sum(h * c[:, None], 0)
        if D_ptr is not None:
            y += skip * x
        if z_ptr is not None:
            y *= gate * sigmoid(gate)
        tl.store(y_ptr + here * channels + d, y, live_d)
        i += 1
    tl.store(final_ptr + sequence * channels * states + of_state, h, live)


@triton.jit
def sum_over_states(x):
    return tl.sum(tl.sum(x, 1), 0)


@triton.jit
def sum_over_channels(x):
    return tl.sum(tl.sum(x, 2), 2)


@triton.jit
def spread_channels(x):
    return x[None, None, :, :]


@triton.jit
def spread_states(x):
    return x[:, :, None, None]


@triton.jit(
    do_not_specialize=[
        "u_stride", "delta_stride", "B_stride", "C_stride", "z_stride", "y_grad_stride", "rows", "channels", "states",
    ]
)  # fmt: skip
def backward_kernel(
    u_ptr,
    delta_ptr,
    A_ptr,
    B_ptr,
    C_ptr,
    D_ptr,
    z_ptr,
    bias_ptr,
    offset_ptr,
    initial_ptr,
    checkpoint_ptr,
    y_grad_ptr,
    final_grad_ptr,
    scratch_ptr,
    u_grad_ptr,
    delta_grad_ptr,
    A_grad_ptr,
    B_grad_ptr,
    C_grad_ptr,
    D_grad_ptr,
    z_grad_ptr,
    bias_grad_ptr,
    initial_grad_ptr,
    u_stride,
    delta_stride,
    B_stride,
    C_stride,
    z_stride,
    y_grad_stride,
    rows,
    channels,
    states,
    REVERSE: tl.constexpr,
    SOFTPLUS: tl.constexpr,
    TILE: tl.constexpr,
    BLOCK: tl.constexpr,
    STATES: tl.constexpr,
    STATE_LANES: tl.constexpr,
    DTYPE: tl.constexpr,
):
    # A state (n, d) is held as (n inner, n outer, d outer, d inner), where the inner axes are the 32 lanes of the one
    # warp and the outer axes its registers: Triton gives lanes to the axis that is contiguous in memory, then to the
    # first axis. So the sums over n and those over d, both made every step, cross few lanes.
    CHANNEL_LANES: tl.constexpr = 32 // STATE_LANES
    blocks = tl.cdiv(channels, BLOCK)
    sequence = tl.program_id(0).to(tl.int64) // blocks
    block = tl.program_id(0) % blocks
    d = tl.arange(0, BLOCK // CHANNEL_LANES)[:, None] * CHANNEL_LANES + tl.arange(0, CHANNEL_LANES)[None, :]
    d += block * BLOCK
    n = tl.arange(0, STATE_LANES)[:, None] + tl.arange(0, STATES // STATE_LANES)[None, :] * STATE_LANES
    live_d, live_n = d < channels, n < states
    live = spread_states(live_n) & spread_channels(live_d)
    of_state = spread_states(n) * channels + spread_channels(d)
    of_sequence = sequence * channels * states + of_state
    start, end = tl.load(offset_ptr + sequence), tl.load(offset_ptr + sequence + 1)
    length = end - start
    of_partial = block.to(tl.int64) * rows

    decay = tl.load(A_ptr + of_state, live, 0.0) * LOG2_E
    A_grad = tl.zeros_like(decay)
    h_grad = tl.zeros_like(decay)
    if final_grad_ptr is not None:
        h_grad += tl.load(final_grad_ptr + of_sequence, live, 0.0)
    D_grad = tl.zeros((BLOCK // CHANNEL_LANES, CHANNEL_LANES), DTYPE)
    bias_grad = tl.zeros_like(D_grad)
    if D_ptr is not None:
        skip = tl.load(D_ptr + d, live_d, 0.0)
    if bias_ptr is not None:
        bias = tl.load(bias_ptr + d, live_d, 0.0)

    tile = (length + TILE - 1) // TILE - 1
    while tile >= 0:
        first = tile * TILE
        last = tl.minimum(first + TILE, length)
        slot = start // TILE + tile - 1
        h = tl.load(checkpoint_ptr + slot * states * channels + of_state, live & (tile > 0), 0.0)
        if initial_ptr is not None:
            h += tl.load(initial_ptr + of_sequence, live & (tile == 0), 0.0)

        elapsed = tl.zeros_like(D_grad)
        i = first
        while i < last:
            t = start + i
            if REVERSE:
                t = end - 1 - i
            x = tl.load(u_ptr + t * u_stride + d, live_d, 0.0).to(DTYPE)
            step = tl.load(delta_ptr + t * delta_stride + d, live_d, 0.0).to(DTYPE)
            b = tl.load(B_ptr + t * B_stride + n, live_n, 0.0).to(DTYPE)
            c = tl.load(C_ptr + t * C_stride + n, live_n, 0.0).to(DTYPE)
            y_grad = tl.load(y_grad_ptr + t * y_grad_stride + d, live_d, 0.0).to(DTYPE)
            if z_ptr is not None:
                gate = tl.load(z_ptr + t * z_stride + d, live_d, 0.0).to(DTYPE)
            if bias_ptr is not None:
                step += bias
            if SOFTPLUS:
                step = softplus(step)
            h = tl.exp2(spread_channels(step) * decay) * h + spread_channels(step * x) * spread_states(b)
            if z_ptr is not None:
                y = sum_over_states(h * spread_states(c))
                if D_ptr is not None:
                    y += skip * x
                open_ = sigmoid(gate)
                z_grad = y_grad * y * open_ * (1.0 + gate * (1.0 - open_))
                tl.store(z_grad_ptr + t * channels + d, z_grad, live_d)
                y_grad *= gate * open_
            elapsed += step
            D_grad += y_grad * x
            weighted = h * spread_channels(y_grad)
            tl.store(C_grad_ptr + (of_partial + t) * states + n, sum_over_channels(weighted), live_n)
            weighted *= spread_states(c)
            A_grad += spread_channels(elapsed) * weighted
            tl.store(scratch_ptr + t * channels + d, sum_over_states(decay * weighted), live_d)
            i += 1
        weighted = h * h_grad
        A_grad += spread_channels(elapsed) * weighted
        later = sum_over_states(decay * weighted)

        # The scratch was written by other lanes than those which read it now.
        tl.debug_barrier()
        i = last - 1
        while i >= first:
            t = start + i
            if REVERSE:
                t = end - 1 - i
            x = tl.load(u_ptr + t * u_stride + d, live_d, 0.0).to(DTYPE)
            raw = tl.load(delta_ptr + t * delta_stride + d, live_d, 0.0).to(DTYPE)
            b = tl.load(B_ptr + t * B_stride + n, live_n, 0.0).to(DTYPE)
            c = tl.load(C_ptr + t * C_stride + n, live_n, 0.0).to(DTYPE)
            y_grad = tl.load(y_grad_ptr + t * y_grad_stride + d, live_d, 0.0).to(DTYPE)
            later += tl.load(scratch_ptr + t * channels + d, live_d, 0.0)
            if z_ptr is not None:
                gate = tl.load(z_ptr + t * z_stride + d, live_d, 0.0).to(DTYPE)
                y_grad *= gate * sigmoid(gate)
            if bias_ptr is not None:
                raw += bias
            step = raw
            if SOFTPLUS:
                step = softplus(raw)
            h_grad += spread_states(c) * spread_channels(y_grad)
            tl.store(
                B_grad_ptr + (of_partial + t) * states + n,
                sum_over_channels(spread_channels(step * x) * h_grad),
                live_n,
            )
            weighted = spread_states(b) * h_grad
            A_grad -= spread_channels(elapsed * step * x) * weighted
            change_grad = sum_over_states(weighted)
            later -= step * x * sum_over_states(decay * weighted)
            u_grad = step * change_grad
            if D_ptr is not None:
                u_grad += skip * y_grad
            tl.store(u_grad_ptr + t * channels + d, u_grad, live_d)
            step_grad = x * change_grad + later * LN_2
            if SOFTPLUS:
                step_grad *= tl.where(raw > 20.0, 1.0, sigmoid(raw))
            bias_grad += step_grad
            tl.store(delta_grad_ptr + t * channels + d, step_grad, live_d)
            h_grad *= tl.exp2(spread_channels(step) * decay)
            elapsed -= step
            i -= 1
        tile -= 1

    tl.store(A_grad_ptr + of_sequence, A_grad, live)
    tl.store(D_grad_ptr + sequence * channels + d, D_grad, live_d)
    tl.store(bias_grad_ptr + sequence * channels + d, bias_grad, live_d)
    tl.store(initial_grad_ptr + of_sequence, h_grad, live)
