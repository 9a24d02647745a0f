"""Triton kernels that let new showers enter free rows, clear their states, and write the inputs of the model.

A row is a shower that is being sampled. A row with the slot -1 is free.
"""

import triton
import triton.language as tl

from supa_mamba.generator.coding import SHARE_BITS
from supa_mamba.generator.model import MOST_MOMENT, SHORTEST
from supa_mamba.generator.sampling.kernels.math import log1p_of_integer
from supa_mamba.ops.kernel_math import LN_2, mask_if

_SHORTEST = tl.constexpr(SHORTEST)
_MOST_MOMENT = tl.constexpr(MOST_MOMENT)
_SHARE = tl.constexpr(2.0**-SHARE_BITS)


@triton.jit
def enter_kernel(
    head_ptr, tail_ptr, queue_shower_ptr, queue_index_ptr, shower_ptr, index_ptr, slot_ptr, place_ptr, rows, capacity,
    BLOCK: tl.constexpr,
):  # fmt: skip
    # One program, so that showers enter in order. ``head`` and ``tail`` count the showers that have left and entered
    # the queue, a ring of ``capacity`` places. The place of a row without a new shower becomes -1.
    head = tl.load(head_ptr)
    waiting = tl.load(tail_ptr) - head
    entered = waiting * 0
    first = rows * 0
    while first < rows:
        m = first + tl.arange(0, BLOCK)
        live = m < rows
        idle = (tl.load(slot_ptr + m, live, 0) < 0).to(tl.int64)
        rank = entered + tl.cumsum(idle, 0) - idle
        enters = (idle > 0) & (rank < waiting)
        place = (head + rank) % capacity
        tl.store(shower_ptr + m, tl.load(queue_shower_ptr + place, enters, 0), enters)
        tl.store(index_ptr + m, tl.load(queue_index_ptr + place, enters, 0), enters)
        tl.store(slot_ptr + m, m.to(tl.int64), enters)
        tl.store(place_ptr + m, tl.where(enters, place, -1), live)
        entered += tl.sum(idle, 0)
        first += BLOCK
    tl.store(head_ptr, head + tl.minimum(entered, waiting))


@triton.jit
def begin_kernel(
    place_ptr, queue_condition_ptr, queue_count_ptr, queue_energy_ptr, queue_profile_ptr,
    condition_ptr, count_ptr, energy_ptr, profile_ptr, slice_ptr, left_ptr, rest_ptr, number_ptr, number_in_slice_ptr,
    position_ptr, energy_logit_ptr, distance_ptr, sums_ptr,
    SLICES: tl.constexpr, CONDITIONS: tl.constexpr, BLOCK: tl.constexpr, CONDITIONS_BLOCK: tl.constexpr,
):  # fmt: skip
    # What is known of a new shower before its first hit.
    m = tl.program_id(0).to(tl.int64)
    place = tl.load(place_ptr + m)
    begins = place >= 0
    place = tl.maximum(place, 0)
    s = tl.arange(0, BLOCK)
    mask = mask_if(begins, s < SLICES)
    count = tl.load(queue_count_ptr + place * SLICES + s, mask, 0)
    energy = tl.load(queue_energy_ptr + place * SLICES + s, mask, 0)
    tl.store(count_ptr + m * SLICES + s, count, mask)
    tl.store(energy_ptr + m * SLICES + s, energy, mask)
    for part in tl.static_range(2):
        here = part * SLICES + s
        of_part = tl.load(queue_profile_ptr + place * 2 * SLICES + here, mask, 0.0)
        tl.store(profile_ptr + m * 2 * SLICES + here, of_part, mask)
    c = tl.arange(0, CONDITIONS_BLOCK)
    of_condition = mask_if(begins, c < CONDITIONS)
    condition = tl.load(queue_condition_ptr + place * CONDITIONS + c, of_condition, 0.0)
    tl.store(condition_ptr + m * CONDITIONS + c, condition, of_condition)
    first = tl.min(tl.where(count > 0, s, BLOCK), 0)
    tl.store(slice_ptr + m, first.to(tl.int64), begins)
    tl.store(left_ptr + m, tl.sum(tl.where(s == first, count, 0), 0), begins)
    tl.store(rest_ptr + m, tl.sum(tl.where(s == first, energy, 0), 0), begins)
    nothing = tl.sum(condition, 0) * 0.0
    tl.store(number_ptr + m, m * 0, begins)
    tl.store(number_in_slice_ptr + m, m * 0, begins)
    tl.store(position_ptr + 2 * m, nothing, begins)
    tl.store(position_ptr + 2 * m + 1, nothing, begins)
    tl.store(energy_logit_ptr + m, nothing, begins)
    tl.store(distance_ptr + m, nothing, begins)
    for k in tl.static_range(3):
        tl.store(sums_ptr + 3 * m + k, m * 0, begins)


@triton.jit
def clear_kernel(state_ptr, place_ptr, size, BLOCK: tl.constexpr):
    # One program clears the ``size`` values of a row, if a shower enters it.
    m = tl.program_id(0).to(tl.int64)
    left = tl.where(tl.load(place_ptr + m) >= 0, size, 0)
    state_ptr += m * size
    zero = tl.zeros((BLOCK,), state_ptr.dtype.element_ty)
    first = left * 0
    while first < left:
        place = first + tl.arange(0, BLOCK)
        tl.store(state_ptr + place, zero, place < left)
        first += BLOCK


@triton.jit
def input_kernel(
    slice_ptr, left_ptr, rest_ptr, number_ptr, number_in_slice_ptr, position_ptr, energy_logit_ptr, distance_ptr,
    sums_ptr, profile_ptr, condition_ptr, inputs_ptr, deviation,
    BITS: tl.constexpr, SLICES: tl.constexpr, FEATURES: tl.constexpr, CONDITIONS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    # See `ShowerGenerator.embed`. Columns that come later overwrite those before.
    m = tl.program_id(0).to(tl.int64)
    f = tl.arange(0, BLOCK)
    number, in_slice = tl.load(number_ptr + m), tl.load(number_in_slice_ptr + m)
    left, rest = tl.maximum(tl.load(left_ptr + m), 1), tl.maximum(tl.load(rest_ptr + m), 1)
    remaining = (tl.log(rest.to(tl.float64)) - BITS * LN_2).to(tl.float32)
    x = tl.where(f == tl.load(slice_ptr + m), 1.0, 0.0)
    x = tl.where(f == SLICES, tl.load(position_ptr + 2 * m), x)
    x = tl.where(f == SLICES + 1, tl.load(position_ptr + 2 * m + 1), x)
    x = tl.where(f == SLICES + 2, tl.load(energy_logit_ptr + m), x)
    x = tl.where(f == SLICES + 3, remaining, x)
    x = tl.where(f == SLICES + 4, remaining + tl.load(condition_ptr + m * CONDITIONS) * deviation, x)
    x = tl.where(f == SLICES + 5, log1p_of_integer(number), x)
    x = tl.where(f == SLICES + 6, log1p_of_integer(in_slice), x)
    x = tl.where(f == SLICES + 7, tl.where(number == 0, 1.0, 0.0), x)
    x = tl.where(f == SLICES + 8, tl.where(left == 1, 1.0, 0.0), x)
    x = tl.where(f == SLICES + 9, (left % 2).to(tl.float32), x)
    x = tl.where(f == SLICES + 10, (in_slice % 2).to(tl.float32), x)
    x = tl.where(f == SLICES + 11, tl.log(left.to(tl.float64)).to(tl.float32), x)
    x = tl.where(f == SLICES + 12, tl.log(tl.load(distance_ptr + m) + _SHORTEST), x)
    # A free row has no remaining energy.
    others = tl.maximum(((rest * 0 + 1) << BITS) - tl.load(sums_ptr + 3 * m), 1)
    for axis in tl.static_range(2):
        moment = tl.load(sums_ptr + 3 * m + 1 + axis).to(tl.float64)
        balance = tl.minimum(tl.maximum(-moment / others.to(tl.float64), -_MOST_MOMENT), _MOST_MOMENT)
        of_hits = tl.minimum(tl.maximum(moment * _SHARE, -_MOST_MOMENT), _MOST_MOMENT)
        x = tl.where(f == SLICES + 13 + axis, of_hits.to(tl.float32), x)
        x = tl.where(f == SLICES + 15 + axis, balance.to(tl.float32), x)
    first = SLICES + 17
    profile = tl.load(profile_ptr + m * 2 * SLICES + f - first, (f >= first) & (f < first + 2 * SLICES), 0.0)
    x = tl.where(f >= first, profile, x)
    first = FEATURES - CONDITIONS
    condition = tl.load(condition_ptr + m * CONDITIONS + f - first, (f >= first) & (f < FEATURES), 0.0)
    tl.store(inputs_ptr + m * FEATURES + f, tl.where(f >= first, condition, x), f < FEATURES)
