"""Triton kernels that choose the next hits. A program processes one row, which is a shower that is being sampled.

Choices are computed in float64 from the row's own random numbers, so they do not depend on other rows. A row with the
slot -1 has no shower: nothing of it is modified. The CPU has the same functions in ``compiled_kernels``.
"""

import triton
import triton.language as tl

from supa_mamba.generator.sampling.kernels.math import (
    SCALE,
    SPREAD,
    TWO_PI,
    chosen_category,
    normal_quantile,
    scale_of,
    uniforms,
)
from supa_mamba.ops.kernel_math import LN_2, mask_if, sigmoid


@triton.jit
def next_kernel(
    found_ptr, hidden_ptr, of_slice_ptr, bias_ptr, order_ptr, seed_ptr, index_ptr, slot_ptr, rest_ptr,
    previous_slice_ptr, number_ptr, chosen_ptr, is_last_ptr, known_ptr, most_hits,
    SLICES: tl.constexpr, WIDTH: tl.constexpr, BLOCK: tl.constexpr, FEATURES: tl.constexpr,
):  # fmt: skip
    # The slice of the next hit, whether it is the last one, and `ShowerGenerator.add_choice`.
    m = tl.program_id(0).to(tl.int64)
    live = tl.load(slot_ptr + m) >= 0
    number, rest = tl.load(number_ptr + m), tl.load(rest_ptr + m)
    of_end, of_choice, _, _ = uniforms(seed_ptr, tl.load(index_ptr + m), 2 * (number + 1))
    # A unit of energy cannot be divided.
    ends = (rest < 2) | (number + 1 >= most_hits)
    is_last = ends | (of_end < sigmoid(tl.load(found_ptr + m * (SLICES + 1)).to(tl.float64)))
    s = tl.arange(0, BLOCK)
    previous = tl.load(previous_slice_ptr + m)
    first = tl.where(previous < SLICES, previous, 0)
    allowed = (s < SLICES) & (tl.load(order_ptr + s, s < SLICES, -1) >= first)
    logits = tl.load(found_ptr + m * (SLICES + 1) + 1 + s, s < SLICES, 0.0).to(tl.float64)
    chosen = chosen_category(tl.where(allowed, logits, float("-inf")), s, of_choice)
    tl.store(chosen_ptr + m, chosen.to(tl.int64), live)
    tl.store(is_last_ptr + m, is_last.to(tl.int8), live)
    d = tl.arange(0, FEATURES)
    inside = d < WIDTH
    last = tl.where(is_last, 1.0, 0.0)
    known = tl.load(hidden_ptr + m * WIDTH + d, inside, 0.0) + tl.load(bias_ptr + d, inside, 0.0)
    known += tl.load(of_slice_ptr + chosen * WIDTH + d, inside, 0.0)
    known += last * tl.load(of_slice_ptr + SLICES * WIDTH + d, inside, 0.0)
    tl.store(known_ptr + m * WIDTH + d, known, inside)


@triton.jit
def energy_kernel(
    found_ptr, weight_ptr, bias_ptr, seed_ptr, index_ptr, slot_ptr, number_ptr, is_last_ptr, rest_ptr,
    energy_ptr, energy_logit_ptr, known_ptr,
    BITS: tl.constexpr, COMPONENTS: tl.constexpr, WIDTH: tl.constexpr, BLOCK: tl.constexpr, FEATURES: tl.constexpr,
):  # fmt: skip
    # The energy of the next hit, which is subtracted from the rest, and the input of the head for the position.
    m = tl.program_id(0).to(tl.int64)
    live = tl.load(slot_ptr + m) >= 0
    rest, is_last = tl.maximum(tl.load(rest_ptr + m), 1), tl.load(is_last_ptr + m) > 0
    _, _, of_choice, of_value = uniforms(seed_ptr, tl.load(index_ptr + m), 2 * (tl.load(number_ptr + m) + 1))
    k = tl.arange(0, BLOCK)
    of_row = found_ptr + m * 3 * COMPONENTS
    logits = tl.load(of_row + k, k < COMPONENTS, float("-inf")).to(tl.float64)
    chosen = chosen_category(logits, k, of_choice)
    mean = tl.load(of_row + COMPONENTS + chosen).to(tl.float64)
    share = sigmoid(mean + scale_of(tl.load(of_row + 2 * COMPONENTS + chosen), SCALE) * normal_quantile(of_value))
    part = tl.floor(share * rest.to(tl.float64) + 0.5).to(tl.int64)
    part = tl.minimum(tl.maximum(part, 1), tl.maximum(rest - 1, 1))
    left = tl.maximum(rest - part, 1)
    logit = tl.where(is_last, 0.0, tl.log(part.to(tl.float64)) - tl.log(left.to(tl.float64))).to(tl.float32)
    energy = tl.where(is_last, rest, part)
    of_energy = (tl.log(energy.to(tl.float64)) - BITS * LN_2).to(tl.float32)
    tl.store(energy_ptr + m, energy, live)
    tl.store(rest_ptr + m, rest - energy, live)
    tl.store(energy_logit_ptr + m, logit, live)
    d = tl.arange(0, FEATURES)
    inside = d < WIDTH
    known = tl.load(known_ptr + m * WIDTH + d, inside, 0.0) + tl.load(bias_ptr + d, inside, 0.0)
    known += tl.load(weight_ptr + 2 * d, inside, 0.0) * logit
    known += tl.load(weight_ptr + 2 * d + 1, inside, 0.0) * of_energy
    tl.store(known_ptr + m * WIDTH + d, known, inside)


@triton.jit
def position_kernel(
    found_ptr, seed_ptr, index_ptr, shower_ptr, chosen_ptr, is_last_ptr, energy_ptr,
    slot_ptr, previous_slice_ptr, position_ptr, number_ptr, number_in_slice_ptr, distance_ptr, hits_ptr,
    PLANE: tl.constexpr, RINGS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    # The position of the next hit, which is written with all that is known of it. A row with its last hit becomes free.
    m = tl.program_id(0).to(tl.int64)
    live = tl.load(slot_ptr + m) >= 0
    number = tl.load(number_ptr + m)
    of_choice, of_first, of_second, _ = uniforms(seed_ptr, tl.load(index_ptr + m), 2 * (number + 1) + 1)
    k = tl.arange(0, BLOCK)
    of_row = found_ptr + m * (PLANE * 7 + RINGS * 5)
    # The logits of the rings follow all values of the other components.
    logits = tl.load(of_row + tl.where(k < PLANE, k, 6 * PLANE + k), k < PLANE + RINGS, float("-inf"))
    chosen = chosen_category(logits.to(tl.float64), k, of_choice)
    old_x, old_y = tl.load(position_ptr + 2 * m).to(tl.float64), tl.load(position_ptr + 2 * m + 1).to(tl.float64)
    if chosen < PLANE:
        of_component = of_row + chosen
        part = sigmoid(tl.load(of_component + 3 * PLANE).to(tl.float64))
        slope = tl.load(of_component + 6 * PLANE).to(tl.float64)
        first, second = normal_quantile(of_first), normal_quantile(of_second)
        x = tl.load(of_component + PLANE) + part * old_x + scale_of(tl.load(of_component + 4 * PLANE), SCALE) * first
        y = tl.load(of_component + 2 * PLANE) + part * old_y
        y += scale_of(tl.load(of_component + 5 * PLANE), SCALE) * (second + slope * first)
    else:
        of_component = of_row + 7 * PLANE + chosen - PLANE
        slope = tl.load(of_component + 3 * RINGS).to(tl.float64)
        radius = tl.exp(scale_of(tl.load(of_component + 4 * RINGS), SPREAD) * normal_quantile(of_first))
        angle = of_second * TWO_PI
        first, second = radius * tl.cos(angle), radius * tl.sin(angle)
        x = old_x + scale_of(tl.load(of_component + RINGS), SCALE) * first
        y = old_y + scale_of(tl.load(of_component + 2 * RINGS), SCALE) * (second + slope * first)
    slices, is_last = tl.load(chosen_ptr + m), tl.load(is_last_ptr + m) > 0
    in_slice = tl.where(slices == tl.load(previous_slice_ptr + m), tl.load(number_in_slice_ptr + m), 0) + 1
    away_x, away_y = x.to(tl.float32) - old_x.to(tl.float32), y.to(tl.float32) - old_y.to(tl.float32)
    distance = tl.where(number > 0, tl.sqrt(away_x * away_x + away_y * away_y), 0.0)
    tl.store(position_ptr + 2 * m, x.to(tl.float32), live)
    tl.store(position_ptr + 2 * m + 1, y.to(tl.float32), live)
    tl.store(distance_ptr + m, distance, live)
    tl.store(previous_slice_ptr + m, slices, live)
    tl.store(number_ptr + m, number + 1, live)
    tl.store(number_in_slice_ptr + m, in_slice, live)
    tl.store(slot_ptr + m, m * 0 - 1, mask_if(live, is_last))
    bits_x = x.to(tl.float32).to(tl.int32, bitcast=True).to(tl.int64)
    bits_y = y.to(tl.float32).to(tl.int32, bitcast=True).to(tl.int64)
    hit_ptr = hits_ptr + 4 * m
    tl.store(hit_ptr, tl.where(live, tl.load(shower_ptr + m), -1))
    tl.store(hit_ptr + 1, tl.load(energy_ptr + m), live)
    tl.store(hit_ptr + 2, 2 * slices + is_last.to(tl.int64), live)
    tl.store(hit_ptr + 3, (bits_y << 32) | (bits_x & 0xFFFFFFFF), live)
