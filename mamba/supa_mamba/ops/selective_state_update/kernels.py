"""Triton kernel of steps. One program handles one slot and a block of channels, with its states in registers.

The next input is loaded before the state advances past the current one, so the latencies of the loads overlap with the
computation. Several inputs of Mamba-2 with one decay rate per head have a faster kernel in ``buffered_state_update``.

Loops use ``while`` because of Triton's interpreter; see ``selective_scan.kernels``. No argument depends on the number
of slots, so specialisation of the arguments causes no recompilation. Multiples of 16 allow vectorised loads.
"""

import triton
import triton.language as tl

from supa_mamba.ops.kernel_math import LOG2_E, mask_if, sigmoid, softplus


@triton.jit
def advance(h, x, dt, b, decay, bias, SOFTPLUS: tl.constexpr):
    step = dt + bias
    if SOFTPLUS:
        step = softplus(step)
    # The decay rates are multiplied by log2(e): unlike exp, exp2 is a single instruction.
    return tl.exp2(step[:, None] * decay) * h + (step * x)[:, None] * b[None, :]


@triton.jit
def load_input(
    x_ptr, dt_ptr, B_ptr, t, x_stride, dt_stride, B_stride, d, of_dt, of_B, live_d, live_n, DTYPE: tl.constexpr
):  # fmt: skip
    x = tl.load(x_ptr + t * x_stride + d, live_d, 0.0).to(DTYPE)
    dt = tl.load(dt_ptr + t * dt_stride + of_dt, live_d, 0.0).to(DTYPE)
    b = tl.load(B_ptr + t * B_stride + of_B, live_n, 0.0).to(DTYPE)
    return x, dt, b


@triton.jit
def step_kernel(
    state_ptr,
    cache_x_ptr,
    cache_dt_ptr,
    cache_B_ptr,
    x_ptr,
    dt_ptr,
    A_ptr,
    B_ptr,
    C_ptr,
    D_ptr,
    z_ptr,
    bias_ptr,
    accepted_ptr,
    slots_ptr,
    y_ptr,
    slot_stride,
    head_stride,
    channel_stride,
    state_stride,
    x_stride,
    dt_stride,
    B_stride,
    C_stride,
    z_stride,
    inputs,
    groups,
    of_group,
    of_head,
    states,
    SOFTPLUS: tl.constexpr,
    SLOTS_CONTIGUOUS: tl.constexpr,
    ONE_DECAY: tl.constexpr,
    DT_OF_HEAD: tl.constexpr,
    A_OF_HEAD: tl.constexpr,
    D_OF_HEAD: tl.constexpr,
    BIAS_OF_HEAD: tl.constexpr,
    BLOCK: tl.constexpr,
    STATES: tl.constexpr,
    DTYPE: tl.constexpr,
):
    # A block of channels stays within one group, so that all its channels share B and C.
    blocks = tl.cdiv(of_group, BLOCK)
    m = (tl.program_id(0) // (blocks * groups)).to(tl.int64)
    group = tl.program_id(0) // blocks % groups
    place = tl.program_id(0) % blocks * BLOCK + tl.arange(0, BLOCK)
    n = tl.arange(0, STATES)
    channels = groups * of_group
    d = group * of_group + place
    head = d // of_head
    slot = tl.load(slots_ptr + m)
    # A finished slot reads and modifies nothing, and its y is zero.
    live_d, live_n = mask_if(slot >= 0, place < of_group), n < states
    live = live_d[:, None] & live_n[None, :]
    if SLOTS_CONTIGUOUS:
        of_state = d[:, None] * states + n[None, :]
    else:
        of_channel = head.to(tl.int64) * head_stride + (d % of_head).to(tl.int64) * channel_stride
        of_state = of_channel[:, None] + n.to(tl.int64)[None, :] * state_stride
    states_ptr = state_ptr + slot * slot_stride + of_state

    # Index of the entry of each channel: one entry per head, or one per channel.
    of_dt = head if DT_OF_HEAD else d
    of_A = head if A_OF_HEAD else d
    of_D = head if D_OF_HEAD else d
    of_bias = head if BIAS_OF_HEAD else d
    dts = channels // of_head if DT_OF_HEAD else channels
    if ONE_DECAY:
        decay = tl.load(A_ptr + of_A, live_d, 0.0)[:, None]
    else:
        decay = tl.load(A_ptr + of_A[:, None] * states + n[None, :], live, 0.0)
    decay *= LOG2_E
    bias = tl.zeros((BLOCK,), DTYPE)
    if bias_ptr is not None:
        bias += tl.load(bias_ptr + of_bias, live_d, 0.0)
    h = tl.load(states_ptr, live, 0.0).to(DTYPE)
    of_B = group * states + n
    t = m * inputs
    x, dt, b = load_input(
        x_ptr, dt_ptr, B_ptr, t, x_stride, dt_stride, B_stride, d, of_dt, of_B, live_d, live_n, DTYPE
    )  # fmt: skip
    c = tl.load(C_ptr + t * C_stride + of_B, live_n, 0.0).to(DTYPE)
    if z_ptr is not None:
        gate = tl.load(z_ptr + t * z_stride + d, live_d, 0.0).to(DTYPE)
    if cache_x_ptr is not None:
        taken = tl.load(accepted_ptr + m, slot >= 0, 0)
        cached = slot * inputs
        x_before, dt_before, b_before = load_input(
            cache_x_ptr, cache_dt_ptr, cache_B_ptr, cached, channels, dts, groups * states, d, of_dt, of_B,
            mask_if(taken > 0, live_d), mask_if(taken > 0, live_n), DTYPE,
        )  # fmt: skip
        i = slot * 0
        while i < taken:
            i += 1
            next_x, next_dt, next_b = load_input(
                cache_x_ptr, cache_dt_ptr, cache_B_ptr, cached + i, channels, dts, groups * states, d, of_dt, of_B,
                mask_if(i < taken, live_d), mask_if(i < taken, live_n), DTYPE,
            )  # fmt: skip
            h = advance(h, x_before, dt_before, b_before, decay, bias, SOFTPLUS)
            x_before, dt_before, b_before = next_x, next_dt, next_b
        tl.store(states_ptr, h, live)
        # One lane may read a cached value that another lane overwrites.
        tl.debug_barrier()
    i = slot * 0
    while i < inputs:
        i += 1
        next_x, next_dt, next_b = load_input(
            x_ptr, dt_ptr, B_ptr, t + i, x_stride, dt_stride, B_stride, d, of_dt, of_B,
            mask_if(i < inputs, live_d), mask_if(i < inputs, live_n), DTYPE,
        )  # fmt: skip
        next_c = tl.load(C_ptr + (t + i) * C_stride + of_B, mask_if(i < inputs, live_n), 0.0).to(DTYPE)
        if cache_x_ptr is not None:
            tl.store(cache_x_ptr + (slot * inputs + i - 1) * channels + d, x, live_d)
        h = advance(h, x, dt, b, decay, bias, SOFTPLUS)
        y = tl.sum(h * c[None, :], 1)
        if D_ptr is not None:
            y += tl.load(D_ptr + of_D, live_d, 0.0) * x
        if z_ptr is not None:
            y *= gate * sigmoid(gate)
            gate = tl.load(z_ptr + (t + i) * z_stride + d, mask_if(i < inputs, live_d), 0.0).to(DTYPE)
        tl.store(y_ptr + (t + i - 1) * channels + d, tl.where(slot >= 0, y, 0.0), place < of_group)
        x, dt, b, c = next_x, next_dt, next_b, next_c
    if cache_x_ptr is None:
        tl.store(states_ptr, h, live)
