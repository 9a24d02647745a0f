"""Triton kernels that choose the profile of showers, slice by slice. A program processes one shower.

Choices are computed in float64 from the shower's own random numbers, so they do not depend on other showers. The CPU
has the same functions in ``compiled_kernels``.
"""

import triton
import triton.language as tl

from supa_mamba.generator.profile import ENERGY_SCALE
from supa_mamba.generator.sampling.kernels.math import chosen_category, log1p_of_integer, of_mixture, uniforms
from supa_mamba.ops.kernel_math import LN_2, sigmoid

_ENERGY_SCALE = tl.constexpr(ENERGY_SCALE)


@triton.jit(do_not_specialize=["of_slice", "is_final"])  # one compilation for all slices
def number_kernel(
    found_ptr, edges_ptr, weight_ptr, bias_ptr, seed_ptr, index_ptr, rest_ptr, total_ptr, number_ptr, hidden_ptr,
    of_slice, is_final, most_hits,
    BINS: tl.constexpr, WIDTH: tl.constexpr, BLOCK: tl.constexpr, FEATURES: tl.constexpr,
):  # fmt: skip
    # The number of hits of a slice, and the input of the head for its energy.
    m = tl.program_id(0).to(tl.int64)
    of_choice, of_place, _, _ = uniforms(seed_ptr, tl.load(index_ptr + m), m * 0 + of_slice * 2 + 1)
    k = tl.arange(0, BLOCK)
    logits = tl.load(found_ptr + m * BINS + k, k < BINS, float("-inf")).to(tl.float64)
    logits = tl.where((k == 0) & (is_final > 0), float("-inf"), logits)
    chosen = chosen_category(logits, k, of_choice)
    first = tl.load(edges_ptr + chosen)
    width = (tl.load(edges_ptr + chosen + 1) - first).to(tl.float64)
    rest = tl.load(rest_ptr + m)
    number = first + tl.floor(of_place * width).to(tl.int64)
    number = tl.minimum(tl.minimum(number, most_hits - tl.load(total_ptr + m)), rest)
    number = tl.where(rest > 0, number, 0)
    tl.store(number_ptr + m, number)
    d = tl.arange(0, FEATURES)
    inside = d < WIDTH
    known = tl.load(hidden_ptr + m * WIDTH + d, inside, 0.0) + tl.load(bias_ptr + d, inside, 0.0)
    known += tl.load(weight_ptr + 3 * d, inside, 0.0) * log1p_of_integer(number)
    known += tl.load(weight_ptr + 3 * d + 1, inside, 0.0) * tl.where(number == 1, 1.0, 0.0)
    known += tl.load(weight_ptr + 3 * d + 2, inside, 0.0) * tl.where(number == 2, 1.0, 0.0)
    tl.store(hidden_ptr + m * WIDTH + d, known, inside)


@triton.jit(do_not_specialize=["of_slice", "is_final"])
def slice_energy_kernel(
    found_ptr, seed_ptr, index_ptr, rest_ptr, total_ptr, number_ptr, condition_ptr, count_ptr, energy_ptr, inputs_ptr,
    of_slice, is_final, most_hits, most_in_slice, deviation,
    BITS: tl.constexpr, SLICES: tl.constexpr, CONDITIONS: tl.constexpr, COMPONENTS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    # Whether a slice is the last one with hits, its energy, and the inputs of the network for the next slice.
    m = tl.program_id(0).to(tl.int64)
    index, block = tl.load(index_ptr + m), m * 0 + of_slice * 2 + 1
    _, _, of_end, of_choice = uniforms(seed_ptr, index, block)
    of_value, _, _, _ = uniforms(seed_ptr, index, block + 1)
    number, rest = tl.load(number_ptr + m), tl.load(rest_ptr + m)
    total = tl.load(total_ptr + m) + number
    of_row = found_ptr + m * (1 + 3 * COMPONENTS)
    # Each hit has at least one unit of energy.
    ends = (is_final > 0) | (total >= most_hits) | (rest < number + 1)
    ends = ends | (of_end < sigmoid(tl.load(of_row).to(tl.float64)))
    share = sigmoid(of_mixture(of_row + 1, of_choice, of_value, COMPONENTS, BLOCK))
    part = tl.floor(share * rest.to(tl.float64) + 0.5).to(tl.int64)
    energy = tl.where(ends, rest, tl.minimum(tl.maximum(part, number), rest - 1))
    energy = tl.where(number > 0, energy, 0)
    tl.store(total_ptr + m, total)
    tl.store(rest_ptr + m, rest - energy)
    tl.store(count_ptr + m * SLICES + of_slice, number)
    tl.store(energy_ptr + m * SLICES + of_slice, energy)
    inputs_ptr += m * (4 * SLICES + 2 + CONDITIONS)
    of_energy = (tl.log(tl.maximum(energy, 1).to(tl.float64)) - BITS * LN_2).to(tl.float32)
    tl.store(inputs_ptr + SLICES + of_slice, log1p_of_integer(number))
    tl.store(inputs_ptr + 2 * SLICES + of_slice, tl.where(number > 0, of_energy * _ENERGY_SCALE, 0.0))
    tl.store(inputs_ptr + 3 * SLICES + of_slice, number.to(tl.float32) / most_in_slice)
    remaining = (tl.log(tl.maximum(rest - energy, 1).to(tl.float64)) - BITS * LN_2).to(tl.float32)
    goes_on = rest > energy
    tl.store(inputs_ptr + 4 * SLICES, remaining, goes_on)
    absolute = remaining + tl.load(condition_ptr + m * CONDITIONS) * deviation
    tl.store(inputs_ptr + 4 * SLICES + 1, absolute, goes_on)
