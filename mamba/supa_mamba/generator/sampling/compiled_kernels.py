"""Compiled loops that write the inputs of the model and choose the next hits on a CPU.

A row is a shower that is being sampled. Choices are computed in float64. Each row has its own random numbers, so its
choices do not depend on other rows.
"""

import math
from typing import Any

import numpy as np

from supa.compiler import kernel, stage
from supa_mamba.generator.mixtures import HIGHEST_LOG_SCALE, HIGHEST_LOG_SPREAD, LOWEST_LOG_SCALE
from supa_mamba.generator.model import SHORTEST
from supa_mamba.generator.sampling.normal_quantile import normal_quantile


@kernel
def write_inputs(
    previous_slice: Any, position: Any, energy_logit: Any, rest: Any, number: Any, number_in_slice: Any, distance: Any,
    condition: Any, deviation: float, bits: int, rows: Any,
) -> None:  # fmt: skip
    """Write the inputs of the model; see `ShowerGenerator.embed`.

    Args:
        previous_slice: (M,) int64 slice of the previous hit, or the number of slices.
        position: (M, 2) float32 position of the previous hit.
        energy_logit: (M,) float32 energy logit of the previous hit.
        rest: (M,) int64 remaining energy.
        number: (M,) int64 number of earlier hits.
        number_in_slice: (M,) int64 number of earlier hits in the slice of the previous hit.
        distance: (M,) float32 distance between the last two hits, or 0.
        condition: (M, C) float32 conditions.
        deviation: Standard deviation of the logarithm of the incident energy.
        bits: Number of bits of the incident energy.
        rows: (M, slices + 11 + C) float32 inputs, which are written.
    """
    conditions = condition.shape[1]
    slices, unit = rows.shape[1] - 11 - conditions, bits * math.log(2.0)
    for m in range(len(rows)):
        row = rows[m]
        row[:] = 0.0
        if previous_slice[m] < slices:
            row[previous_slice[m]] = 1.0
        row[slices], row[slices + 1], row[slices + 2] = position[m, 0], position[m, 1], energy_logit[m]
        remaining = np.float32(math.log(rest[m]) - unit)
        row[slices + 3], row[slices + 4] = remaining, remaining + condition[m, 0] * np.float32(deviation)
        row[slices + 5], row[slices + 6] = math.log1p(number[m]), math.log1p(number_in_slice[m])
        row[slices + 7] = 1.0 if number[m] == 0 else 0.0
        row[slices + 8], row[slices + 9] = number[m] % 2, number_in_slice[m] % 2
        row[slices + 10] = math.log(distance[m] + np.float32(SHORTEST))
        for c in range(conditions):
            row[slices + 11 + c] = condition[m, c]


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
        leak[m] = _chosen(found[m, :3], uniform[m, 0])
        energy[m] = whole if leak[m] == 0 else 0
        if leak[m] == 1:
            logit = _sample(found[m, 3:], uniform[m, 1], uniform[m, 2])
            energy[m] = min(max(round(whole * _sigmoid(-logit)), 1), whole - 1)


@kernel
def choose_next(
    found: Any, order: Any, previous_slice: Any, number: Any, rest: Any, most_hits: int, uniform: Any, chosen: Any,
    is_last: Any,
) -> None:  # fmt: skip
    """Choose the slice of the next hit, and whether it is the last one.

    Args:
        found: (M, 1 + slices) float32 results of the head.
        order: (slices,) int64 number of each slice, or -1 outside the readout layers.
        previous_slice: (M,) int64 slice of the previous hit, or the number of slices.
        number: (M,) int64 number of earlier hits.
        rest: (M,) int64 remaining energy.
        most_hits: Largest number of hits of a shower.
        uniform: (M, 7) random numbers of the hit.
        chosen: (M,) int64 slice, which is written.
        is_last: (M,) whether the hit is the last one, which is written.
    """
    slices = len(order)
    logits = np.empty(slices)
    for m in range(len(chosen)):
        # A unit of energy cannot be divided.
        ends = rest[m] < 2 or number[m] + 1 >= most_hits
        is_last[m] = ends or uniform[m, 0] < _sigmoid(found[m, 0])
        first = previous_slice[m] if previous_slice[m] < slices else 0
        for s in range(slices):
            logits[s] = found[m, 1 + s] if order[s] >= first else -np.inf
        chosen[m] = _chosen(logits, uniform[m, 1])


@kernel
def add_choices(hidden: Any, weight: Any, bias: Any, chosen: Any, is_last: Any, sums: Any) -> None:
    """Add the slice of the next hit, and whether it is the last one; see `ShowerGenerator.add_choice`.

    Args:
        hidden: (M, d_model) float32 results of the stack.
        weight: (slices + 1, d_model) weight, transposed.
        bias: (d_model,) bias.
        chosen: (M,) int64 slices.
        is_last: (M,) whether the hit is the last one.
        sums: (M, d_model) results, which are written.
    """
    for m in range(len(sums)):
        of_slice, of_end = weight[chosen[m]], weight[len(weight) - 1]
        last = hidden.dtype.type(1 if is_last[m] else 0)
        for d in range(sums.shape[1]):
            sums[m, d] = hidden[m, d] + (of_slice[d] + last * of_end[d] + bias[d])


@kernel
def choose_energies(
    found: Any, is_last: Any, uniform: Any, bits: int, rest: Any, energy: Any, logit_and_log: Any
) -> None:
    """Choose the energy of the next hit.

    Args:
        found: (M, 3 K) float32 results of the head.
        is_last: (M,) whether the hit is the last one, which takes all of the remaining energy.
        uniform: (M, 7) random numbers of the hit.
        bits: Number of bits of the incident energy.
        rest: (M,) int64 remaining energy, from which the energy of the hit is subtracted.
        energy: (M,) int64 energy of the hit, which is written.
        logit_and_log: (M, 2) float32 energy logit, and logarithm of the energy over the incident energy. Written.
    """
    unit = bits * math.log(2.0)
    for m in range(len(energy)):
        taken, logit = rest[m], 0.0
        if not is_last[m]:
            share = _sigmoid(_sample(found[m], uniform[m, 2], uniform[m, 3]))
            taken = min(max(round(share * rest[m]), 1), rest[m] - 1)
            logit = math.log(taken) - math.log(rest[m] - taken)
        logit_and_log[m, 0], logit_and_log[m, 1] = logit, math.log(taken) - unit
        rest[m] -= taken
        energy[m] = taken


@kernel
def choose_positions(found: Any, rings: int, uniform: Any, number: Any, position: Any, distance: Any) -> None:
    """Choose the position of the next hit.

    Args:
        found: (M, 7 K + 5 rings) float32 results of the head; see `PlaneMixture.of`.
        rings: Number of rings.
        uniform: (M, 7) random numbers of the hit.
        number: (M,) int64 number of earlier hits.
        position: (M, 2) float32 position of the previous hit, which is overwritten.
        distance: (M,) float32 distance between the hit and the previous one, or 0, which is written.
    """
    count = (found.shape[1] - 5 * rings) // 7
    logits = np.empty(count + rings)
    for m in range(len(position)):
        of, of_rings = found[m], found[m, 7 * count :]
        logits[:count], logits[count:] = of[:count], of_rings[:rings]
        k = _chosen(logits, uniform[m, 4])
        old_x, old_y = position[m, 0], position[m, 1]
        if k < count:
            part = _sigmoid(of[3 * count + k])
            center_x, center_y = of[count + k] + part * old_x, of[2 * count + k] + part * old_y
            scale_x, scale_y, slope = of[4 * count + k], of[5 * count + k], np.float64(of[6 * count + k])
            first, second = normal_quantile(uniform[m, 5]), normal_quantile(uniform[m, 6])
        else:
            j = k - count
            center_x, center_y = np.float64(old_x), np.float64(old_y)
            scale_x, scale_y, slope = of_rings[rings + j], of_rings[2 * rings + j], np.float64(of_rings[3 * rings + j])
            spread = _scale(of_rings[4 * rings + j], HIGHEST_LOG_SPREAD)
            radius = math.exp(spread * normal_quantile(uniform[m, 5]))
            angle = 2.0 * math.pi * uniform[m, 6]
            first, second = radius * math.cos(angle), radius * math.sin(angle)
        position[m, 0] = center_x + _scale(scale_x, HIGHEST_LOG_SCALE) * first
        position[m, 1] = center_y + _scale(scale_y, HIGHEST_LOG_SCALE) * (second + slope * first)
        away_x, away_y = position[m, 0] - old_x, position[m, 1] - old_y
        distance[m] = np.sqrt(away_x * away_x + away_y * away_y) if number[m] > 0 else 0.0


@stage
def _chosen(logits: Any, uniform: float) -> int:
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
def _sample(parameters: Any, choice: float, quantile: float) -> float:
    """Draw from a mixture; see `NormalMixture.of`."""
    count = len(parameters) // 3
    k = _chosen(parameters[:count], choice)
    mean: float = parameters[count + k]
    return mean + _scale(parameters[2 * count + k], HIGHEST_LOG_SCALE) * normal_quantile(quantile)


@stage
def _scale(value: float, highest: float) -> float:
    """Return a standard deviation; see `bounded_log_scale`."""
    below = highest - _softplus(highest - value)
    return math.exp(LOWEST_LOG_SCALE + _softplus(below - LOWEST_LOG_SCALE))


@stage
def _softplus(x: float) -> float:
    return max(x, 0.0) + math.log1p(math.exp(-abs(x)))


@stage
def _sigmoid(x: float) -> float:
    return 1.0 / (1.0 + math.exp(-np.float64(x)))
