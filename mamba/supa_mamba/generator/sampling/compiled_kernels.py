"""Compiled loops that write the inputs of the model and choose leaks, profiles and hits on a CPU.

A row is a shower that is being sampled. Choices are computed in float64. Each row has its own random numbers, so its
choices do not depend on other rows.
"""

import math
from typing import Any

import numpy as np

from supa.compiler import kernel, stage
from supa_mamba.generator.coding import FARTHEST
from supa_mamba.generator.mixtures import HIGHEST_LOG_SCALE, HIGHEST_LOG_SPREAD, LOWEST_LOG_SCALE
from supa_mamba.generator.model import MOST_MOMENT, SHORTEST
from supa_mamba.generator.sampling.normal_quantile import normal_quantile


@kernel
def write_inputs(
    of_slice: Any, left: Any, rest: Any, number: Any, number_in_slice: Any, position: Any, energy_logit: Any,
    distance: Any, sums: Any, profile: Any, condition: Any, deviation: float, bits: int, rows: Any,
) -> None:  # fmt: skip
    """Write the inputs of the model; see `ShowerGenerator.embed`.

    Args:
        of_slice: (M,) int64 slice of the hit.
        left: (M,) int64 number of this and all later hits of the slice.
        rest: (M,) int64 their energy.
        number: (M,) int64 number of earlier hits.
        number_in_slice: (M,) int64 number of earlier hits in the slice.
        position: (M, 2) float32 position of the previous hit.
        energy_logit: (M,) float32 energy logit of the previous hit.
        distance: (M,) float32 distance between the last two hits, or 0.
        sums: (M, 3) int64 sums of e, e x and e y over the earlier hits.
        profile: (M, 2 L) float32 profile.
        condition: (M, C) float32 conditions.
        deviation: Standard deviation of the logarithm of the incident energy.
        bits: Number of bits of the incident energy.
        rows: (M, 3 L + 17 + C) float32 inputs, which are written.
    """
    slices, unit = profile.shape[1] // 2, bits * math.log(2.0)
    for m in range(len(rows)):
        row = rows[m]
        row[:slices] = 0.0
        row[of_slice[m]] = 1.0
        row[slices], row[slices + 1], row[slices + 2] = position[m, 0], position[m, 1], energy_logit[m]
        remaining = np.float32(math.log(rest[m]) - unit)
        row[slices + 3], row[slices + 4] = remaining, remaining + condition[m, 0] * np.float32(deviation)
        row[slices + 5], row[slices + 6] = math.log1p(number[m]), math.log1p(number_in_slice[m])
        row[slices + 7], row[slices + 8] = 1.0 if number[m] == 0 else 0.0, 1.0 if left[m] == 1 else 0.0
        row[slices + 9], row[slices + 10] = left[m] % 2, number_in_slice[m] % 2
        row[slices + 11], row[slices + 12] = math.log(left[m]), math.log(distance[m] + np.float32(SHORTEST))
        others = max((1 << bits) - sums[m, 0], 1)
        for axis in range(2):
            moment = np.float64(sums[m, 1 + axis])
            row[slices + 13 + axis] = min(max(moment / (1 << bits), -MOST_MOMENT), MOST_MOMENT)
            row[slices + 15 + axis] = min(max(-moment / others, -MOST_MOMENT), MOST_MOMENT)
        row[slices + 17 : 3 * slices + 17] = profile[m]
        row[3 * slices + 17 :] = condition[m]


@kernel
def choose_leaks(found: Any, uniform: Any, bits: int, leak: Any, energy: Any) -> None:
    """Choose whether energy leaks, and how much.

    Args:
        found: (M, 3 + 3 K) float32 results of the head.
        uniform: (M, 3) random numbers.
        bits: Number of bits of the incident energy.
        leak: (M,) int64: 0 if nothing leaks, 1 if a part leaks, 2 if everything leaks. Written.
        energy: (M,) int64 deposited energy in units of 2^-bits of the incident energy. Written.
    """
    whole = 1 << bits
    for m in range(len(leak)):
        leak[m] = chosen_category(found[m, :3], uniform[m, 0])
        energy[m] = whole if leak[m] == 0 else 0
        if leak[m] == 1:
            logit = sampled_value(found[m, 3:], uniform[m, 1], uniform[m, 2])
            energy[m] = min(max(round(whole * sigmoid(-logit)), 1), whole - 1)


@kernel
def choose_numbers(
    found: Any, edges: Any, is_final: bool, most_hits: int, rest: Any, total: Any, uniform: Any, number: Any,
    of_number: Any,
) -> None:  # fmt: skip
    """Choose the number of hits of a slice.

    Args:
        found: (M, bins) float32 results of the head.
        edges: (bins + 1,) int64 edges of the bins.
        is_final: Whether the slice is the final one of the readout layers.
        most_hits: Largest number of hits of a shower.
        rest: (M,) int64 energy of this and all later slices. A shower without energy has ended.
        total: (M,) int64 number of hits of the earlier slices.
        uniform: (M, 5) random numbers of the slice.
        number: (M,) int64 number of hits, which is written.
        of_number: (M, 3) float32 inputs of `ProfileNetwork.chosen_number`, which are written.
    """
    logits = np.empty(found.shape[1])
    for m in range(len(number)):
        chosen = 0
        if rest[m] > 0:
            logits[:] = found[m]
            if is_final:
                logits[0] = -np.inf
            k = chosen_category(logits, uniform[m, 0])
            chosen = edges[k] + math.floor(uniform[m, 1] * (edges[k + 1] - edges[k]))
            chosen = min(chosen, most_hits - total[m], rest[m])
        number[m] = chosen
        of_number[m, 0] = math.log1p(chosen)
        of_number[m, 1], of_number[m, 2] = 1.0 if chosen == 1 else 0.0, 1.0 if chosen == 2 else 0.0


@kernel
def choose_slice_energies(
    found: Any, is_final: bool, most_hits: int, number: Any, uniform: Any, rest: Any, total: Any, energy: Any
) -> None:
    """Choose whether a slice is the last one with hits, and its energy.

    Args:
        found: (M, 1 + 3 K) float32 results of the head.
        is_final: Whether the slice is the final one of the readout layers.
        most_hits: Largest number of hits of a shower.
        number: (M,) int64 number of hits of the slice.
        uniform: (M, 5) random numbers of the slice.
        rest: (M,) int64 energy of this and all later slices, from which the energy of the slice is subtracted.
        total: (M,) int64 number of hits, to which that of the slice is added.
        energy: (M,) int64 energy of the slice, which is written.
    """
    for m in range(len(number)):
        energy[m] = 0
        if number[m] > 0:
            total[m] += number[m]
            # Each hit has at least one unit of energy.
            ends = is_final or total[m] >= most_hits or rest[m] < number[m] + 1
            taken = rest[m]
            if not ends and not uniform[m, 2] < sigmoid(found[m, 0]):
                share = sigmoid(sampled_value(found[m, 1:], uniform[m, 3], uniform[m, 4]))
                taken = min(max(round(share * rest[m]), number[m]), rest[m] - 1)
            rest[m] -= taken
            energy[m] = taken


@kernel
def write_profile_inputs(
    of_slice: int, slices: int, most_in_slice: int, number: Any, energy: Any, rest: Any, condition: Any, scale: float,
    deviation: float, bits: int, rows: Any,
) -> None:  # fmt: skip
    """Write the inputs of the network for a slice, after those for the slice before; see `ProfileNetwork.inputs`.

    Args:
        of_slice: The slice, or the number of slices after the last one.
        slices: Number of slices, L.
        most_in_slice: Largest number of hits of a slice of the training showers.
        number: (M,) int64 number of hits of the slice before.
        energy: (M,) int64 energy of the slice before.
        rest: (M,) int64 energy of this and all later slices.
        condition: (M, C) float32 conditions.
        scale: Factor of the logarithms of energies of slices.
        deviation: Standard deviation of the logarithm of the incident energy.
        bits: Number of bits of the incident energy.
        rows: (M, 4 L + 2 + C) float32 inputs, which are modified. They are zeros before the first slice.
    """
    unit, before = bits * math.log(2.0), of_slice - 1
    for m in range(len(rows)):
        row = rows[m]
        if before >= 0:
            row[before] = 0.0
            row[slices + before] = math.log1p(number[m])
            row[3 * slices + before] = np.float32(number[m]) / np.float32(most_in_slice)
            if energy[m] > 0:
                row[2 * slices + before] = np.float32(scale) * np.float32(math.log(energy[m]) - unit)
        else:
            row[4 * slices + 2 :] = condition[m]
        if of_slice < slices:
            row[of_slice] = 1.0
        if rest[m] > 0:
            remaining = np.float32(math.log(rest[m]) - unit)
            row[4 * slices] = remaining
            row[4 * slices + 1] = remaining + condition[m, 0] * np.float32(deviation)


@kernel
def choose_energies(found: Any, left: Any, uniform: Any, bits: int, rest: Any, energy: Any, logit_and_log: Any) -> None:
    """Choose the energy of the next hit.

    Args:
        found: (M, 3 K) float32 results of the head.
        left: (M,) int64 number of this and all later hits of the slice. The last one takes all of the energy.
        uniform: (M, 5) random numbers of the hit.
        bits: Number of bits of the incident energy.
        rest: (M,) int64 remaining energy of the slice, from which the energy of the hit is subtracted.
        energy: (M,) int64 energy of the hit, which is written.
        logit_and_log: (M, 2) float32 energy logit, and logarithm of the energy over the incident energy. Written.
    """
    unit = bits * math.log(2.0)
    for m in range(len(energy)):
        taken, logit = rest[m], 0.0
        if left[m] > 1:
            share = sigmoid(sampled_value(found[m], uniform[m, 0], uniform[m, 1]))
            taken = min(max(round(share * rest[m]), 1), rest[m] - left[m] + 1)
            logit = math.log(taken) - math.log(rest[m] - taken)
        logit_and_log[m, 0], logit_and_log[m, 1] = logit, math.log(taken) - unit
        rest[m] -= taken
        energy[m] = taken


@kernel
def advance(
    count: Any, energy: Any, of_slice: Any, left: Any, rest: Any, number: Any, number_in_slice: Any, is_last: Any
) -> None:
    """Advance to the next hit, in the same slice or in the next one with hits.

    Args:
        count: (M, L) int64 number of hits of each slice.
        energy: (M, L) int64 energy of each slice.
        of_slice: (M,) int64 slice of the hit, which is modified.
        left: (M,) int64 number of this and all later hits of the slice, which is modified.
        rest: (M,) int64 energy of the later hits of the slice. If there are none, that of the next slice is written.
        number: (M,) int64 number of earlier hits, which is modified.
        number_in_slice: (M,) int64 number of earlier hits in the slice, which is modified.
        is_last: (M,) whether the hit is the last one of the shower, which is written.
    """
    for m in range(len(left)):
        number[m] += 1
        number_in_slice[m] += 1
        left[m] -= 1
        is_last[m] = False
        if left[m] == 0:
            s = of_slice[m] + 1
            while s < count.shape[1] and count[m, s] == 0:
                s += 1
            if s == count.shape[1]:
                is_last[m] = True
            else:
                of_slice[m], left[m], rest[m], number_in_slice[m] = s, count[m, s], energy[m, s], 0


@kernel
def choose_positions(
    found: Any, rings: int, uniform: Any, number: Any, energy: Any, position: Any, distance: Any, sums: Any
) -> None:
    """Choose the position of the next hit.

    Args:
        found: (M, 7 K + 5 rings) float32 results of the head; see `PlaneMixture.of`.
        rings: Number of rings.
        uniform: (M, 5) random numbers of the hit.
        number: (M,) int64 number of earlier hits.
        energy: (M,) int64 energy of the hit.
        position: (M, 2) float32 position of the previous hit, which is overwritten.
        distance: (M,) float32 distance between the hit and the previous one, or 0, which is written.
        sums: (M, 3) int64 sums of e, e x and e y over the earlier hits, to which the hit is added.
    """
    count = (found.shape[1] - 5 * rings) // 7
    logits = np.empty(count + rings)
    for m in range(len(position)):
        of, of_rings = found[m], found[m, 7 * count :]
        logits[:count], logits[count:] = of[:count], of_rings[:rings]
        k = chosen_category(logits, uniform[m, 2])
        old_x, old_y = position[m, 0], position[m, 1]
        if k < count:
            part = sigmoid(of[3 * count + k])
            center_x, center_y = of[count + k] + part * old_x, of[2 * count + k] + part * old_y
            scale_x, scale_y, slope = of[4 * count + k], of[5 * count + k], np.float64(of[6 * count + k])
            first, second = normal_quantile(uniform[m, 3]), normal_quantile(uniform[m, 4])
        else:
            j = k - count
            center_x, center_y = np.float64(old_x), np.float64(old_y)
            scale_x, scale_y, slope = of_rings[rings + j], of_rings[2 * rings + j], np.float64(of_rings[3 * rings + j])
            spread = scale_of(of_rings[4 * rings + j], HIGHEST_LOG_SPREAD)
            radius = math.exp(spread * normal_quantile(uniform[m, 3]))
            angle = 2.0 * math.pi * uniform[m, 4]
            first, second = radius * math.cos(angle), radius * math.sin(angle)
        position[m, 0] = center_x + scale_of(scale_x, HIGHEST_LOG_SCALE) * first
        position[m, 1] = center_y + scale_of(scale_y, HIGHEST_LOG_SCALE) * (second + slope * first)
        away_x, away_y = position[m, 0] - old_x, position[m, 1] - old_y
        distance[m] = np.sqrt(away_x * away_x + away_y * away_y) if number[m] > 0 else 0.0
        sums[m, 0] += energy[m]
        for axis in range(2):
            sums[m, 1 + axis] += math.floor(
                energy[m] * min(max(np.float64(position[m, axis]), -FARTHEST), FARTHEST) + 0.5
            )


@stage
def chosen_category(logits: Any, uniform: float) -> int:
    """Choose a category by its cumulative probability."""
    largest, total = -np.inf, 0.0
    for k in range(len(logits)):
        largest = max(largest, np.float64(logits[k]))
    for k in range(len(logits)):
        total += math.exp(logits[k] - largest)
    target, last = uniform * total, 0
    for k in range(len(logits)):
        probability = math.exp(logits[k] - largest)
        if probability > 0.0:
            last = k
            if probability > target:
                return k
            target -= probability
    return last


@stage
def sampled_value(parameters: Any, choice: float, quantile: float) -> float:
    """Draw from a mixture; see `NormalMixture.of`."""
    count = len(parameters) // 3
    k = chosen_category(parameters[:count], choice)
    mean: float = parameters[count + k]
    return mean + scale_of(parameters[2 * count + k], HIGHEST_LOG_SCALE) * normal_quantile(quantile)


@stage
def scale_of(value: float, highest: float) -> float:
    """Return a standard deviation; see `bounded_log_scale`."""
    below = highest - softplus(highest - value)
    return math.exp(LOWEST_LOG_SCALE + softplus(below - LOWEST_LOG_SCALE))


@stage
def softplus(x: float) -> float:
    """Return the logarithm of 1 + exp(x)."""
    return max(x, 0.0) + math.log1p(math.exp(-abs(x)))


@stage
def sigmoid(x: float) -> float:
    """Return the logistic function."""
    return 1.0 / (1.0 + math.exp(-np.float64(x)))
