"""Triton kernels of steps with buffered inputs. One program handles a few heads, or blocks of channels, of one slot.

The state of a head stays in registers, and it is written only if it advances. The loads of a head precede its stores
and loops, so their latencies overlap. With one decay rate per head, y is a sum over the buffered and the new inputs:
each pair of inputs needs one product of C and B, and no state between the inputs is computed. Lengths are loaded by
each program, so there is no synchronisation with the host. No argument depends on the number of slots, so
specialisation of the arguments causes no recompilation.
"""

import triton
import triton.language as tl

from supa_mamba.ops.kernel_math import LOG2_E, mask_if, sigmoid, softplus


@triton.jit
def step_sizes(dt, bias, live, SOFTPLUS: tl.constexpr):
    step = dt + bias
    if SOFTPLUS:
        step = softplus(step)
    return tl.where(live, step, 0.0)


@triton.jit
def step_kernel(
    state_ptr,
    buffer_x_ptr,
    buffer_dt_ptr,
    buffer_B_ptr,
    lengths_ptr,
    x_ptr,
    dt_ptr,
    A_ptr,
    B_ptr,
    C_ptr,
    D_ptr,
    z_ptr,
    bias_ptr,
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
    heads,
    of_group,
    width,
    states,
    SOFTPLUS: tl.constexpr,
    SLOTS_CONTIGUOUS: tl.constexpr,
    REPLAY: tl.constexpr,
    INPUTS: tl.constexpr,
    LENGTH: tl.constexpr,
    NEW: tl.constexpr,
    HELD: tl.constexpr,
    PARTS: tl.constexpr,
    BLOCK: tl.constexpr,
    STATES: tl.constexpr,
    DTYPE: tl.constexpr,
):
    blocks = tl.cdiv(width, BLOCK)
    programs = heads * blocks // PARTS
    m = (tl.program_id(0) // programs).to(tl.int64)
    part = tl.program_id(0) % programs * PARTS
    last = part + PARTS
    group, groups, channels = part // (blocks * of_group), heads // of_group, heads * width
    n, j, k = tl.arange(0, STATES), tl.arange(0, HELD), tl.arange(0, NEW)
    slot = tl.load(slots_ptr + m)
    # A replay accepts a number of inputs of each sequence, and stores the new inputs instead of the earlier ones.
    if REPLAY:
        length = tl.load(lengths_ptr + m, slot >= 0, 0)
        full = length > 0
        begin = slot * LENGTH
    else:
        length = tl.load(lengths_ptr + slot, slot >= 0, 0)
        full = length + INPUTS > LENGTH
        begin = slot * LENGTH + tl.where(full, 0, length)
    # A finished slot reads and modifies nothing, and its y is zero.
    live_n, new, held = n < states, mask_if(slot >= 0, k < INPUTS), j < length
    t, row, of_B = m * INPUTS + k, slot * LENGTH + j, group * states + n

    # Products of C and B, which the heads of a group share.
    b = tl.load(B_ptr + t[:, None] * B_stride + of_B[None, :], new[:, None] & live_n[None, :], 0.0).to(DTYPE)
    c = tl.load(C_ptr + t[:, None] * C_stride + of_B[None, :], new[:, None] & live_n[None, :], 0.0).to(DTYPE)
    b_before = tl.load(
        buffer_B_ptr + (row * groups * states)[:, None] + of_B[None, :], held[:, None] & live_n[None, :], 0.0
    ).to(DTYPE)
    pairs = tl.sum(c[:, None, :] * b[None, :, :], 2)
    pairs_before = tl.zeros((NEW, HELD), DTYPE)
    for i in tl.static_range(INPUTS):
        c_row = tl.load(C_ptr + (m * INPUTS + i) * C_stride + of_B, mask_if(slot >= 0, live_n), 0.0).to(DTYPE)
        products = tl.sum(b_before * c_row[None, :], 1)
        pairs_before = tl.where((k == i)[:, None], products[None, :], pairs_before)

    while part < last:
        head = part // blocks
        p = part % blocks * BLOCK + tl.arange(0, BLOCK)
        d = head * width + p
        live_p = mask_if(slot >= 0, p < width)
        live = live_p[:, None] & live_n[None, :]
        if SLOTS_CONTIGUOUS:
            of_state = d[:, None] * states + n[None, :]
        else:
            of_channel = head.to(tl.int64) * head_stride + p.to(tl.int64) * channel_stride
            of_state = of_channel[:, None] + n.to(tl.int64)[None, :] * state_stride
        states_ptr = state_ptr + slot * slot_stride + of_state
        h = tl.load(states_ptr, live, 0.0).to(DTYPE)
        of_x = new[:, None] & live_p[None, :]
        x = tl.load(x_ptr + t[:, None] * x_stride + d[None, :], of_x, 0.0).to(DTYPE)
        dt = tl.load(dt_ptr + t * dt_stride + head, new, 0.0).to(DTYPE)
        x_before = tl.load(
            buffer_x_ptr + (row * channels)[:, None] + d[None, :], held[:, None] & live_p[None, :], 0.0
        ).to(DTYPE)
        dt_before = tl.load(buffer_dt_ptr + row * heads + head, held, 0.0).to(DTYPE)
        rate = tl.load(A_ptr + head) * LOG2_E
        bias = rate * 0.0
        if bias_ptr is not None:
            bias = tl.load(bias_ptr + head)
        skip = rate * 0.0
        if D_ptr is not None:
            skip = tl.load(D_ptr + head)

        step_before, step = step_sizes(dt_before, bias, held, SOFTPLUS), step_sizes(dt, bias, new, SOFTPLUS)
        since, total = tl.cumsum(step, 0), tl.sum(step_before, 0)
        kept, grown = tl.exp2(rate * total), tl.exp2(rate * since)[:, None]
        of_before = step_before * tl.exp2(rate * (tl.cumsum(step_before, 0, reverse=True) - step_before))
        weight = pairs * tl.exp2(rate * (since[:, None] - since[None, :])) * step[None, :]
        weight = tl.where(k[:, None] >= k[None, :], weight, 0.0) + tl.where(k[:, None] == k[None, :], skip, 0.0)
        weight_before = pairs_before * of_before[None, :] * grown
        y = tl.sum(weight[:, :, None] * x[None, :, :], 1) + tl.sum(weight_before[:, :, None] * x_before[None, :, :], 1)
        for i in tl.static_range(INPUTS):
            c_now = tl.load(C_ptr + (m * INPUTS + i) * C_stride + of_B, mask_if(slot >= 0, live_n), 0.0).to(DTYPE)
            found = kept * tl.sum(h * c_now[None, :], 1)
            y += tl.where((k == i)[:, None], grown * found[None, :], 0.0)
        if z_ptr is not None:
            gate = tl.load(z_ptr + t[:, None] * z_stride + d[None, :], of_x, 0.0).to(DTYPE)
            y *= gate * sigmoid(gate)

        if full:
            # From the last buffered input to the first. Their values are in the first cache.
            h *= kept
            after = total * 0.0
            at = length
            while at > 0:
                at -= 1
                place = slot * LENGTH + at
                dt_at = tl.load(buffer_dt_ptr + place * heads + head).to(DTYPE)
                x_at = tl.load(buffer_x_ptr + place * channels + d, live_p, 0.0).to(DTYPE)
                b_at = tl.load(buffer_B_ptr + place * groups * states + of_B, live_n, 0.0).to(DTYPE)
                step_at = step_sizes(dt_at, bias, True, SOFTPLUS)
                h += (step_at * tl.exp2(rate * after) * x_at)[:, None] * b_at[None, :]
                after += step_at
            tl.store(states_ptr, h, live)
        # One lane may read a buffered value that another lane overwrites.
        tl.debug_barrier()
        tl.store(buffer_x_ptr + ((begin + k) * channels)[:, None] + d[None, :], x, of_x)
        written = (k < INPUTS)[:, None] & (p < width)[None, :]
        tl.store(y_ptr + (t * channels)[:, None] + d[None, :], tl.where(slot >= 0, y, 0.0), written)
        part += 1


@triton.jit
def append(table_ptr, new_ptr, begin, m, new_stride, inputs, values, BLOCK: tl.constexpr):
    first = 0 * inputs
    while first < inputs * values:
        v = first + tl.arange(0, BLOCK)
        live = v < inputs * values
        new = tl.load(new_ptr + (m * inputs + v // values) * new_stride + v % values, live, 0.0)
        tl.store(table_ptr + begin * values + v, new, live)
        first += BLOCK


@triton.jit
def append_kernel(
    buffer_dt_ptr, buffer_B_ptr, lengths_ptr, dt_ptr, B_ptr, slots_ptr, dt_stride, B_stride, inputs, dts, of_B, length,
    BLOCK: tl.constexpr,
):  # fmt: skip
    # Several programs of the other kernels read these values and the lengths, so a second kernel overwrites them.
    m = tl.program_id(0).to(tl.int64)
    slot = tl.load(slots_ptr + m)
    if slot >= 0:
        begin = slot * 0
        if lengths_ptr is not None:
            before = tl.load(lengths_ptr + slot)
            begin = tl.where(before + inputs > length, 0, before)
            tl.store(lengths_ptr + slot, begin + inputs)
        begin += slot * length
        append(buffer_dt_ptr, dt_ptr, begin, m, dt_stride, inputs, dts, BLOCK)
        append(buffer_B_ptr, B_ptr, begin, m, B_stride, inputs, of_B, BLOCK)
