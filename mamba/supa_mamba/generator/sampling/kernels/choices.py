"""Triton kernels that choose the next hits. A program processes one row, which is a shower that is being sampled.

Choices are computed in float64 from the row's own random numbers, so they do not depend on other rows. A row with the
slot -1 has no shower: nothing of it is modified. The CPU has the same functions in ``compiled_kernels``.
"""

import triton
import triton.language as tl

from supa_mamba.generator.coding import FARTHEST
from supa_mamba.generator.sampling.kernels.math import (
    SCALE,
    SPREAD,
    TWO_PI,
    chosen_category,
    normal_quantile,
    of_mixture,
    scale_of,
    uniforms,
)
from supa_mamba.ops.kernel_math import LN_2, mask_if, sigmoid

_FARTHEST = tl.constexpr(FARTHEST)


@triton.jit
def energy_kernel(
    found_ptr, weight_ptr, bias_ptr, seed_ptr, index_ptr, slot_ptr, left_ptr, number_ptr, rest_ptr, energy_ptr,
    energy_logit_ptr, known_ptr,
    BITS: tl.constexpr, HITS: tl.constexpr, COMPONENTS: tl.constexpr, WIDTH: tl.constexpr, BLOCK: tl.constexpr,
    FEATURES: tl.constexpr,
):  # fmt: skip
    # The energy of the next hit, which is subtracted from the rest, and the input of the head for the position.
    m = tl.program_id(0).to(tl.int64)
    live = tl.load(slot_ptr + m) >= 0
    rest, left = tl.maximum(tl.load(rest_ptr + m), 1), tl.maximum(tl.load(left_ptr + m), 1)
    is_last = left == 1
    block = tl.load(number_ptr + m) * 2 + HITS
    of_choice, of_value, _, _ = uniforms(seed_ptr, tl.load(index_ptr + m), block)
    of_row = found_ptr + m * 3 * COMPONENTS
    share = sigmoid(of_mixture(of_row, of_choice, of_value, COMPONENTS, BLOCK))
    part = tl.floor(share * rest.to(tl.float64) + 0.5).to(tl.int64)
    part = tl.minimum(tl.maximum(part, 1), tl.maximum(rest - left + 1, 1))
    others = tl.maximum(rest - part, 1)
    logit = tl.where(is_last, 0.0, tl.log(part.to(tl.float64)) - tl.log(others.to(tl.float64))).to(tl.float32)
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
    found_ptr, seed_ptr, index_ptr, shower_ptr, energy_ptr, count_ptr, slice_energy_ptr,
    slot_ptr, slice_ptr, left_ptr, rest_ptr, position_ptr, number_ptr, number_in_slice_ptr, distance_ptr, sums_ptr,
    hits_ptr,
    HITS: tl.constexpr, SLICES: tl.constexpr, PLANE: tl.constexpr, RINGS: tl.constexpr, BLOCK: tl.constexpr,
    SLICES_BLOCK: tl.constexpr,
):  # fmt: skip
    # The position of the next hit, which is written with all that is known of it. Then the row advances to the next
    # hit, in the same slice or in the next one with hits. A row with its last hit becomes free.
    m = tl.program_id(0).to(tl.int64)
    live = tl.load(slot_ptr + m) >= 0
    number = tl.load(number_ptr + m)
    index, block = tl.load(index_ptr + m), number * 2 + HITS
    _, _, of_choice, of_first = uniforms(seed_ptr, index, block)
    of_second, _, _, _ = uniforms(seed_ptr, index, block + 1)
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
    away_x, away_y = x.to(tl.float32) - old_x.to(tl.float32), y.to(tl.float32) - old_y.to(tl.float32)
    distance = tl.where(number > 0, tl.sqrt(away_x * away_x + away_y * away_y), 0.0)
    energy = tl.load(energy_ptr + m)
    tl.store(sums_ptr + 3 * m, tl.load(sums_ptr + 3 * m) + energy, live)
    part = _times_position(energy, x)
    tl.store(sums_ptr + 3 * m + 1, tl.load(sums_ptr + 3 * m + 1) + part, live)
    part = _times_position(energy, y)
    tl.store(sums_ptr + 3 * m + 2, tl.load(sums_ptr + 3 * m + 2) + part, live)
    s = tl.arange(0, SLICES_BLOCK)
    here, left = tl.load(slice_ptr + m), tl.load(left_ptr + m) - 1
    count = tl.load(count_ptr + m * SLICES + s, s < SLICES, 0)
    following = tl.min(tl.where((s > here) & (count > 0), s, SLICES_BLOCK), 0).to(tl.int64)
    leaves = left <= 0
    is_last = leaves & (following >= SLICES)
    of_slice = tl.load(slice_energy_ptr + m * SLICES + s, s < SLICES, 0)
    advances = mask_if(mask_if(live, leaves), following < SLICES)
    tl.store(slice_ptr + m, following, advances)
    tl.store(left_ptr + m, tl.where(leaves, tl.sum(tl.where(s == following, count, 0), 0), left), live)
    tl.store(rest_ptr + m, tl.sum(tl.where(s == following, of_slice, 0), 0), advances)
    in_slice = tl.where(leaves, 0, tl.load(number_in_slice_ptr + m) + 1)
    tl.store(position_ptr + 2 * m, x.to(tl.float32), live)
    tl.store(position_ptr + 2 * m + 1, y.to(tl.float32), live)
    tl.store(distance_ptr + m, distance, live)
    tl.store(number_ptr + m, number + 1, live)
    tl.store(number_in_slice_ptr + m, in_slice, live)
    tl.store(slot_ptr + m, m * 0 - 1, mask_if(live, is_last))
    bits_x = x.to(tl.float32).to(tl.int32, bitcast=True).to(tl.int64)
    bits_y = y.to(tl.float32).to(tl.int32, bitcast=True).to(tl.int64)
    hit_ptr = hits_ptr + 4 * m
    tl.store(hit_ptr, tl.where(live, tl.load(shower_ptr + m), -1))
    tl.store(hit_ptr + 1, energy, live)
    tl.store(hit_ptr + 2, 2 * here + is_last.to(tl.int64), live)
    tl.store(hit_ptr + 3, (bits_y << 32) | (bits_x & 0xFFFFFFFF), live)


@triton.jit
def _times_position(energy, position):
    # See `weighted_positions` of the coding.
    clipped = tl.minimum(tl.maximum(position.to(tl.float32).to(tl.float64), -_FARTHEST), _FARTHEST)
    return tl.floor(energy.to(tl.float64) * clipped + 0.5).to(tl.int64)
