"""Triton kernels that let new showers enter free rows, clear their states, and write the inputs of the model.

A row is a shower that is being sampled. A row with the slot -1 is free.
"""

import triton
import triton.language as tl

from supa_mamba.generator.model import SHORTEST
from supa_mamba.generator.sampling.kernels.math import log1p_of_integer
from supa_mamba.ops.kernel_math import LN_2

_SHORTEST = tl.constexpr(SHORTEST)


@triton.jit
def enter_kernel(
    head_ptr, tail_ptr, queue_shower_ptr, queue_index_ptr, queue_rest_ptr, queue_condition_ptr,
    shower_ptr, index_ptr, slot_ptr, rest_ptr, condition_ptr, previous_slice_ptr, position_ptr, energy_logit_ptr,
    number_ptr, number_in_slice_ptr, distance_ptr, enters_ptr, rows, capacity,
    SLICES: tl.constexpr, CONDITIONS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    # One program, so that showers enter in order. ``head`` and ``tail`` count the showers that have left and entered
    # the queue, a ring of ``capacity`` places.
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
        tl.store(rest_ptr + m, tl.load(queue_rest_ptr + place, enters, 0), enters)
        for c in tl.static_range(CONDITIONS):
            value = tl.load(queue_condition_ptr + place * CONDITIONS + c, enters, 0.0)
            tl.store(condition_ptr + m * CONDITIONS + c, value, enters)
        tl.store(slot_ptr + m, m.to(tl.int64), enters)
        tl.store(previous_slice_ptr + m, tl.full((BLOCK,), SLICES, tl.int64), enters)
        nothing, zero = tl.zeros((BLOCK,), tl.float32), tl.zeros((BLOCK,), tl.int64)
        tl.store(position_ptr + 2 * m, nothing, enters)
        tl.store(position_ptr + 2 * m + 1, nothing, enters)
        tl.store(energy_logit_ptr + m, nothing, enters)
        tl.store(distance_ptr + m, nothing, enters)
        tl.store(number_ptr + m, zero, enters)
        tl.store(number_in_slice_ptr + m, zero, enters)
        tl.store(enters_ptr + m, enters.to(tl.int8), live)
        entered += tl.sum(idle, 0)
        first += BLOCK
    tl.store(head_ptr, head + tl.minimum(entered, waiting))


@triton.jit
def clear_kernel(state_ptr, enters_ptr, size, BLOCK: tl.constexpr):
    # One program clears the ``size`` values of a row, if a shower enters it.
    m = tl.program_id(0).to(tl.int64)
    left = tl.where(tl.load(enters_ptr + m) > 0, size, 0)
    state_ptr += m * size
    zero = tl.zeros((BLOCK,), state_ptr.dtype.element_ty)
    first = left * 0
    while first < left:
        place = first + tl.arange(0, BLOCK)
        tl.store(state_ptr + place, zero, place < left)
        first += BLOCK


@triton.jit
def input_kernel(
    previous_slice_ptr, position_ptr, energy_logit_ptr, rest_ptr, number_ptr, number_in_slice_ptr, distance_ptr,
    condition_ptr, inputs_ptr, deviation,
    BITS: tl.constexpr, SLICES: tl.constexpr, FEATURES: tl.constexpr, CONDITIONS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    # See `ShowerGenerator.embed`. Columns that come later overwrite those before.
    m = tl.program_id(0).to(tl.int64)
    f = tl.arange(0, BLOCK)
    number, in_slice = tl.load(number_ptr + m), tl.load(number_in_slice_ptr + m)
    rest = tl.maximum(tl.load(rest_ptr + m), 1)
    remaining = (tl.log(rest.to(tl.float64)) - BITS * LN_2).to(tl.float32)
    x = tl.where(f == tl.load(previous_slice_ptr + m), 1.0, 0.0)
    x = tl.where(f == SLICES, tl.load(position_ptr + 2 * m), x)
    x = tl.where(f == SLICES + 1, tl.load(position_ptr + 2 * m + 1), x)
    x = tl.where(f == SLICES + 2, tl.load(energy_logit_ptr + m), x)
    x = tl.where(f == SLICES + 3, remaining, x)
    x = tl.where(f == SLICES + 4, remaining + tl.load(condition_ptr + m * CONDITIONS) * deviation, x)
    x = tl.where(f == SLICES + 5, log1p_of_integer(number), x)
    x = tl.where(f == SLICES + 6, log1p_of_integer(in_slice), x)
    x = tl.where(f == SLICES + 7, tl.where(number == 0, 1.0, 0.0), x)
    x = tl.where(f == SLICES + 8, (number % 2).to(tl.float32), x)
    x = tl.where(f == SLICES + 9, (in_slice % 2).to(tl.float32), x)
    x = tl.where(f == SLICES + 10, tl.log(tl.load(distance_ptr + m) + _SHORTEST), x)
    first = FEATURES - CONDITIONS
    condition = tl.load(condition_ptr + m * CONDITIONS + f - first, (f >= first) & (f < FEATURES), 0.0)
    tl.store(inputs_ptr + m * FEATURES + f, tl.where(f >= first, condition, x), f < FEATURES)
