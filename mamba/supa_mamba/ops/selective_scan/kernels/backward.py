"""Backward kernel of the selective scan."""

import triton
import triton.language as tl

from supa_mamba.ops.kernel_math import LN_2, LOG2_E, load, mask_if, sigmoid, softplus


@triton.jit
def sum_over_states(x):
    return tl.sum(tl.sum(tl.sum(x, 3, keep_dims=True), 2, keep_dims=True), 0, keep_dims=True)


@triton.jit
def sum_over_channels(x):
    return tl.sum(tl.sum(x, 4, keep_dims=True), 1, keep_dims=True)


@triton.jit
def of_step(scratch_ptr, i, ARRAY: tl.constexpr, TILE: tl.constexpr, BLOCK: tl.constexpr):
    # The scratch of a program holds five arrays of a tile: step sizes, delta u (later its gradient), gradients of y
    # before the gate, y before the gate, and gradients of log a.
    return scratch_ptr + (ARRAY * TILE + i) * BLOCK


@triton.jit
def load_step(
    scratch_ptr, B_ptr, C_ptr, i, t, B_stride, C_stride, d, n, live_n,
    TILE: tl.constexpr, BLOCK: tl.constexpr, WHOLE_N: tl.constexpr,
):  # fmt: skip
    step = tl.load(of_step(scratch_ptr, i, 0, TILE, BLOCK) + d)
    change = tl.load(of_step(scratch_ptr, i, 1, TILE, BLOCK) + d)
    grad = tl.load(of_step(scratch_ptr, i, 2, TILE, BLOCK) + d)
    b = load(B_ptr + t * B_stride + n, live_n, WHOLE_N)
    c = load(C_ptr + t * C_stride + n, live_n, WHOLE_N)
    return step, change, grad, b, c


@triton.jit(do_not_specialize=["rows"])
def scan_backward_kernel(
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
    groups,
    REVERSE: tl.constexpr,
    SOFTPLUS: tl.constexpr,
    TILE: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
    STATES: tl.constexpr,
    STATE_LANES: tl.constexpr,
    OUTER_STATES: tl.constexpr,
    WHOLE_N: tl.constexpr,
    ONE_BLOCK: tl.constexpr,
    DTYPE: tl.constexpr,
):
    # A state (n, d) has the shape (n lanes, d lanes, outer n, inner n, inner d). The registers of a lane hold the last
    # three axes, so that the sums over n and over d in every step cross few lanes. Triton assigns lanes to the first
    # axes unless they are contiguous in memory. Vectors over n or d are broadcast over the lanes of the other axis, so
    # that they share one layout with the states and only sums cross lanes.
    CHANNEL_LANES: tl.constexpr = 32 // STATE_LANES
    INNER_D: tl.constexpr = BLOCK // CHANNEL_LANES
    INNER_N: tl.constexpr = STATES // STATE_LANES // OUTER_STATES
    n_lane = tl.arange(0, STATE_LANES)[:, None, None, None, None]
    d_lane = tl.arange(0, CHANNEL_LANES)[None, :, None, None, None]
    d_each = d_lane * INNER_D + tl.arange(0, INNER_D)[None, None, None, None, :]
    n_each = n_lane * INNER_N + tl.arange(0, INNER_N)[None, None, None, :, None]
    n_each += tl.arange(0, OUTER_STATES)[None, None, :, None, None] * (STATE_LANES * INNER_N)
    d_lanes, n_lanes = d_each + n_lane * 0, n_each + d_lane * 0
    live_n = n_lanes < states
    first_of_n, first_of_d = (n_lane == 0) & (d_lanes >= 0), live_n & (d_lane == 0)
    row, column = tl.arange(0, ROWS)[:, None], tl.arange(0, BLOCK)[None, :]

    sequence = tl.load(order_ptr + tl.program_id(0) // groups)
    group = tl.program_id(0) % groups
    scratch_ptr += tl.program_id(0).to(tl.int64) * (5 * TILE * BLOCK)
    B_grad_ptr += group.to(tl.int64) * rows * states
    C_grad_ptr += group.to(tl.int64) * rows * states
    start, end = tl.load(offset_ptr + sequence), tl.load(offset_ptr + sequence + 1)
    length = (end - start).to(tl.int32)
    begin, way = start, 1
    if REVERSE:
        begin, way = end - 1, -1

    block = group
    while block < tl.cdiv(channels, BLOCK):
        live = (n_each < states) & (block * BLOCK + d_each < channels)
        of_state = n_each * channels + block * BLOCK + d_each
        of_sequence = sequence * channels * states + of_state
        d = block * BLOCK + column
        live_d = d < channels
        decay = tl.load(A_ptr + of_state, live, 0.0) * LOG2_E
        A_grad = tl.zeros_like(decay)
        h_grad = tl.zeros_like(decay)
        if final_grad_ptr is not None:
            h_grad += tl.load(final_grad_ptr + of_sequence, live, 0.0)
        D_grad = tl.zeros((ROWS, BLOCK), DTYPE)
        bias_grad = tl.zeros((ROWS, BLOCK), DTYPE)
        if D_ptr is not None:
            skip = tl.load(D_ptr + d, live_d, 0.0)
        if bias_ptr is not None:
            bias = tl.load(bias_ptr + d, live_d, 0.0)

        tile = (length + TILE - 1) // TILE - 1
        while tile >= 0:
            first = tile * TILE
            count = tl.minimum(TILE, length - first)
            t = begin + way * first
            slot = start // TILE + tile - 1
            h = tl.load(checkpoint_ptr + slot * states * channels + of_state, mask_if(tile > 0, live), 0.0)
            if initial_ptr is not None:
                h += tl.load(initial_ptr + of_sequence, mask_if(tile == 0, live), 0.0)
            r = count * 0
            while r < count:
                s = t + way * (r + row)
                valid = (r + row < count) & live_d
                x = tl.load(u_ptr + s * u_stride + d, valid, 0.0).to(DTYPE)
                step = tl.load(delta_ptr + s * delta_stride + d, valid, 0.0).to(DTYPE)
                grad = tl.load(y_grad_ptr + s * y_grad_stride + d, valid, 0.0).to(DTYPE)
                if z_ptr is not None:
                    gate = tl.load(z_ptr + s * z_stride + d, valid, 0.0).to(DTYPE)
                    grad *= gate * sigmoid(gate)
                if bias_ptr is not None:
                    step += bias
                if SOFTPLUS:
                    step = softplus(step)
                tl.store(of_step(scratch_ptr, r + row, 0, TILE, BLOCK) + column, step)
                tl.store(of_step(scratch_ptr, r + row, 1, TILE, BLOCK) + column, step * x)
                tl.store(of_step(scratch_ptr, r + row, 2, TILE, BLOCK) + column, grad)
                r += ROWS

            # Each lane reads scratch values that other lanes have written.
            tl.debug_barrier()
            elapsed = tl.zeros_like(d_lanes.to(DTYPE))
            step_ahead, change_ahead, grad_ahead, b_ahead, c_ahead = load_step(
                scratch_ptr, B_ptr, C_ptr, 0, t, B_stride, C_stride, d_lanes, n_lanes, live_n, TILE, BLOCK, WHOLE_N
            )
            i = count * 0
            while i < count:
                step, change, grad = step_ahead, change_ahead, grad_ahead
                b, c, here = b_ahead.to(DTYPE), c_ahead.to(DTYPE), t
                more = tl.where(i + 1 < count, 1, 0)
                t += more * way
                step_ahead, change_ahead, grad_ahead, b_ahead, c_ahead = load_step(
                    scratch_ptr, B_ptr, C_ptr, i + more, t, B_stride, C_stride, d_lanes, n_lanes, live_n,
                    TILE, BLOCK, WHOLE_N,
                )  # fmt: skip
                C_grads = C_grad_ptr + here * states + n_lanes
                if not ONE_BLOCK:
                    before = tl.load(C_grads, mask_if(block > group, first_of_d), 0.0)
                h = tl.exp2(step * decay) * h + change * b
                elapsed += step
                C_grad = sum_over_channels(h * grad) + tl.zeros_like(n_lanes.to(DTYPE))
                if not ONE_BLOCK:
                    C_grad += before
                tl.store(C_grads, C_grad, first_of_d)
                weighted = h * c
                A_grad += (elapsed * grad) * weighted
                if z_ptr is not None:
                    y = sum_over_states(weighted) + tl.zeros_like(elapsed)
                    tl.store(of_step(scratch_ptr, i, 3, TILE, BLOCK) + d_lanes, y, first_of_n)
                log_grad = grad * sum_over_states(decay * weighted)
                tl.store(of_step(scratch_ptr, i, 4, TILE, BLOCK) + d_lanes, log_grad, first_of_n)
                i += 1
            weighted = h * h_grad
            A_grad += elapsed * weighted
            later = sum_over_states(decay * weighted) + tl.zeros_like(elapsed)

            tl.debug_barrier()
            step_ahead, change_ahead, grad_ahead, b_ahead, c_ahead = load_step(
                scratch_ptr, B_ptr, C_ptr, i - 1, t, B_stride, C_stride, d_lanes, n_lanes, live_n, TILE, BLOCK, WHOLE_N
            )
            log_ahead = tl.load(of_step(scratch_ptr, i - 1, 4, TILE, BLOCK) + d_lanes)
            log_further = tl.load(of_step(scratch_ptr, tl.maximum(i - 2, 0), 4, TILE, BLOCK) + d_lanes)
            while i > 0:
                i -= 1
                step, change, grad = step_ahead, change_ahead, grad_ahead
                b, c, here = b_ahead.to(DTYPE), c_ahead.to(DTYPE), t
                later += log_ahead
                more = tl.where(i > 0, 1, 0)
                t -= more * way
                step_ahead, change_ahead, grad_ahead, b_ahead, c_ahead = load_step(
                    scratch_ptr, B_ptr, C_ptr, i - more, t, B_stride, C_stride, d_lanes, n_lanes, live_n,
                    TILE, BLOCK, WHOLE_N,
                )  # fmt: skip
                log_ahead = log_further
                log_further = tl.load(of_step(scratch_ptr, tl.maximum(i - 2, 0), 4, TILE, BLOCK) + d_lanes)
                B_grads = B_grad_ptr + here * states + n_lanes
                if not ONE_BLOCK:
                    before = tl.load(B_grads, mask_if(block > group, first_of_d), 0.0)
                h_grad += c * grad
                B_grad = sum_over_channels(change * h_grad) + tl.zeros_like(n_lanes.to(DTYPE))
                if not ONE_BLOCK:
                    B_grad += before
                tl.store(B_grads, B_grad, first_of_d)
                weighted = b * h_grad
                A_grad -= (elapsed * change) * weighted
                later -= change * sum_over_states(decay * weighted)
                change_grad = sum_over_states(weighted) + tl.zeros_like(elapsed)
                tl.store(of_step(scratch_ptr, i, 1, TILE, BLOCK) + d_lanes, change_grad, first_of_n)
                tl.store(of_step(scratch_ptr, i, 4, TILE, BLOCK) + d_lanes, later, first_of_n)
                h_grad *= tl.exp2(step * decay)
                elapsed -= step

            tl.debug_barrier()
            r = count * 0
            while r < count:
                s = t + way * (r + row)
                valid = (r + row < count) & live_d
                x = tl.load(u_ptr + s * u_stride + d, valid, 0.0).to(DTYPE)
                step = tl.load(of_step(scratch_ptr, r + row, 0, TILE, BLOCK) + column, valid, 0.0)
                change_grad = tl.load(of_step(scratch_ptr, r + row, 1, TILE, BLOCK) + column, valid, 0.0)
                grad = tl.load(of_step(scratch_ptr, r + row, 2, TILE, BLOCK) + column, valid, 0.0)
                log_grad = tl.load(of_step(scratch_ptr, r + row, 4, TILE, BLOCK) + column, valid, 0.0)
                # All loads come before the stores, because the compiler does not move loads across stores.
                if SOFTPLUS:
                    raw = tl.load(delta_ptr + s * delta_stride + d, valid, 0.0).to(DTYPE)
                if z_ptr is not None:
                    y = tl.load(of_step(scratch_ptr, r + row, 3, TILE, BLOCK) + column, valid, 0.0)
                    gate = tl.load(z_ptr + s * z_stride + d, valid, 0.0).to(DTYPE)
                    y_grad = tl.load(y_grad_ptr + s * y_grad_stride + d, valid, 0.0).to(DTYPE)
                u_grad = step * change_grad
                if D_ptr is not None:
                    u_grad += skip * grad
                    D_grad += grad * x
                step_grad = x * change_grad + log_grad * LN_2
                if SOFTPLUS:
                    if bias_ptr is not None:
                        raw += bias
                    step_grad *= sigmoid(raw)
                bias_grad += step_grad
                if z_ptr is not None:
                    if D_ptr is not None:
                        y += skip * x
                    open_ = sigmoid(gate)
                    z_grad = y_grad * y * open_ * (1.0 + gate * (1.0 - open_))
                    tl.store(z_grad_ptr + s * channels + d, z_grad, valid)
                tl.store(u_grad_ptr + s * channels + d, u_grad, valid)
                tl.store(delta_grad_ptr + s * channels + d, step_grad, valid)
                r += ROWS
            tl.debug_barrier()
            tile -= 1

        tl.store(A_grad_ptr + of_sequence, A_grad, live)
        if D_ptr is not None:
            tl.store(D_grad_ptr + sequence * channels + d, tl.sum(D_grad, 0)[None, :], live_d)
        if bias_ptr is not None:
            tl.store(bias_grad_ptr + sequence * channels + d, tl.sum(bias_grad, 0)[None, :], live_d)
        if initial_grad_ptr is not None:
            tl.store(initial_grad_ptr + of_sequence, h_grad, live)
        block += groups
