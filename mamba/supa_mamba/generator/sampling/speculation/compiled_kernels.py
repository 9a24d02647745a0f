"""Compiled loops of speculative sampling on a CPU: proposals of hits, their densities, and what follows them.

A row is a shower. Values are those of `Proposal` and `Previous`. Densities are computed in float64.
"""

import math
from typing import Any

import numpy as np

from supa.compiler import kernel, stage
from supa_mamba.generator.coding import FARTHEST
from supa_mamba.generator.mixtures import HIGHEST_LOG_SCALE, HIGHEST_LOG_SPREAD, LOWEST_LOG_SCALE
from supa_mamba.generator.sampling.compiled_kernels import chosen_category, sampled_value, sigmoid
from supa_mamba.generator.sampling.normal_quantile import normal_quantile

_LOG_ROOT_2_PI = 0.5 * math.log(2.0 * math.pi)
_INVERSE_ROOT_2_PI = math.exp(-_LOG_ROOT_2_PI)
_LEAST_SQUARE = 1e-20


@kernel
def propose_energies(
    found: Any, left: Any, rest: Any, uniform: Any, bits: int, value: Any, energy: Any, logit_and_log: Any, density: Any
) -> None:
    """Propose energies; see `propose`.

    Args:
        found: (M, 3 K) float32 parameters of the mixtures.
        left: (M,) int64 number of this and all later hits of the slice.
        rest: (M,) int64 their energy.
        uniform: (M, 6) random numbers of the trial.
        bits: Number of bits of the incident energy.
        value: (M,) float64 sample of the mixture, which is written.
        energy: (M,) int64 energy, which is written.
        logit_and_log: (M, 2) float32 energy logit, and logarithm of the energy over the incident energy. Written.
        density: (M,) float64 logarithm of the density of the value, which is written.
    """
    unit = bits * math.log(2.0)
    for m in range(len(energy)):
        taken, logit = rest[m], 0.0
        value[m], density[m] = 0.0, 0.0
        if left[m] > 1:
            value[m] = sampled_value(found[m], uniform[m, 0], uniform[m, 1])
            density[m] = _log_normals(found[m], value[m])
            taken = min(max(round(sigmoid(value[m]) * rest[m]), 1), rest[m] - left[m] + 1)
            logit = math.log(taken) - math.log(rest[m] - taken)
        logit_and_log[m, 0], logit_and_log[m, 1] = logit, math.log(taken) - unit
        energy[m] = taken


@kernel
def energy_densities(found: Any, left: Any, value: Any, density: Any) -> None:
    """Write the logarithms of the densities of energies; see `propose_energies`.

    Args:
        found: (M, 3 K) float32 parameters of the mixtures.
        left: (M,) int64 number of this and all later hits of the slice.
        value: (M,) float64 samples.
        density: (M,) float64 logarithms, which are written.
    """
    for m in range(len(density)):
        density[m] = _log_normals(found[m], value[m]) if left[m] > 1 else 0.0


@kernel
def propose_positions(found: Any, rings: int, old: Any, uniform: Any, place: Any, density: Any) -> None:
    """Propose positions; see `propose`.

    Args:
        found: (M, 7 K + 5 rings) float32 parameters of the mixtures.
        rings: Number of rings.
        old: (M, 2) float32 positions of the previous hits.
        uniform: (M, 6) random numbers of the trial.
        place: (M, 2) float64 samples, which are written.
        density: (M,) float64 logarithms, to which those of the densities are added.
    """
    count = (found.shape[1] - 5 * rings) // 7
    logits = np.empty(count + rings)
    for m in range(len(density)):
        of, of_rings = found[m], found[m, 7 * count :]
        logits[:count], logits[count:] = of[:count], of_rings[:rings]
        k = chosen_category(logits, uniform[m, 2])
        first = normal_quantile(uniform[m, 3])
        if k < count:
            x, y, scale_x, scale_y, slope = _normal(of, count, k, old[m])
            second = normal_quantile(uniform[m, 4])
        else:
            j = k - count
            x, y = np.float64(old[m, 0]), np.float64(old[m, 1])
            scale_x, scale_y, slope, spread = _ring(of_rings, rings, j)
            radius, angle = math.exp(spread * first), 2.0 * math.pi * uniform[m, 4]
            first, second = radius * math.cos(angle), radius * math.sin(angle)
        place[m, 0], place[m, 1] = x + scale_x * first, y + scale_y * (second + slope * first)
        density[m] += _log_plane(of, of_rings, count, rings, old[m], place[m])


@kernel
def position_densities(found: Any, rings: int, old: Any, place: Any, density: Any) -> None:
    """Add the logarithms of the densities of positions; see `propose_positions`.

    Args:
        found: (M, 7 K + 5 rings) float32 parameters of the mixtures.
        rings: Number of rings.
        old: (M, 2) float32 positions of the previous hits.
        place: (M, 2) float64 samples.
        density: (M,) float64 logarithms, to which those of the densities are added.
    """
    count = (found.shape[1] - 5 * rings) // 7
    for m in range(len(density)):
        density[m] += _log_plane(found[m], found[m, 7 * count :], count, rings, old[m], place[m])


@kernel
def follow(
    energy: Any, place: Any, logit_and_log: Any, count: Any, slice_energy: Any, of_slice: Any, left: Any, rest: Any,
    number: Any, number_in_slice: Any, position: Any, energy_logit: Any, distance: Any, sums: Any,
) -> None:  # fmt: skip
    """Advance to the next hits, in the same slice or in the next one with hits; see `after_hits`.

    After its last hit, a shower has the values of the beginning of its last slice.

    Args:
        energy: (M,) int64 energies of the hits.
        place: (M, 2) float64 positions of the hits.
        logit_and_log: (M, 2) float32 energy logits of the hits, and logarithms of their energies.
        count: (M, L) int64 number of hits of each slice.
        slice_energy: (M, L) int64 energy of each slice.
        of_slice: (M,) int64 slice of the hit, which is modified like all following values.
        left: (M,) int64 number of this and all later hits of the slice.
        rest: (M,) int64 their energy.
        number: (M,) int64 number of earlier hits.
        number_in_slice: (M,) int64 number of earlier hits in the slice.
        position: (M, 2) float32 position of the previous hit.
        energy_logit: (M,) float32 energy logit of the previous hit.
        distance: (M,) float32 distance between the last two hits.
        sums: (M, 3) int64 sums of e, e x and e y over the earlier hits.
    """
    for m in range(len(energy)):
        x, y = np.float32(place[m, 0]), np.float32(place[m, 1])
        away_x, away_y = x - position[m, 0], y - position[m, 1]
        distance[m] = np.sqrt(away_x * away_x + away_y * away_y) if number[m] > 0 else 0.0
        position[m, 0], position[m, 1] = x, y
        energy_logit[m] = logit_and_log[m, 0]
        sums[m, 0] += energy[m]
        for axis in range(2):
            clipped = min(max(np.float64(position[m, axis]), -FARTHEST), FARTHEST)
            sums[m, 1 + axis] += math.floor(energy[m] * clipped + 0.5)
        number[m] += 1
        number_in_slice[m] += 1
        left[m] -= 1
        rest[m] -= energy[m]
        if left[m] == 0:
            s = of_slice[m] + 1
            while s < count.shape[1] and count[m, s] == 0:
                s += 1
            s = of_slice[m] if s == count.shape[1] else s
            of_slice[m], left[m], rest[m], number_in_slice[m] = s, count[m, s], slice_energy[m, s], 0


@stage
def _scale(value: float, highest: float) -> float:
    """Return a standard deviation; see `bounded_log_scale`, whose exponential has this form."""
    return math.exp(LOWEST_LOG_SCALE) + math.exp(highest) / (1.0 + math.exp(highest - np.float64(value)))


@stage
def _log_normals(found: Any, value: float) -> float:
    """Return the logarithm of the density of a mixture; see `NormalMixture.log_density`."""
    count = len(found) // 3
    largest, total, norm = -np.inf, 0.0, 0.0
    for k in range(count):
        largest = max(largest, np.float64(found[k]))
    for k in range(count):
        weight = math.exp(found[k] - largest)
        scale = _scale(found[2 * count + k], HIGHEST_LOG_SCALE)
        away = (value - found[count + k]) / scale
        norm += weight
        total += weight / scale * math.exp(-0.5 * away * away)
    if total > 0.0:
        return math.log(total / norm) - _LOG_ROOT_2_PI
    return -np.inf


@stage
def _normal(found: Any, count: int, k: int, old: Any) -> tuple[float, float, float, float, float]:
    """Return mean, scales and slope of a component of the plane."""
    part = sigmoid(found[3 * count + k])
    return (
        found[count + k] + part * old[0], found[2 * count + k] + part * old[1],
        _scale(found[4 * count + k], HIGHEST_LOG_SCALE), _scale(found[5 * count + k], HIGHEST_LOG_SCALE),
        np.float64(found[6 * count + k]),
    )  # fmt: skip


@stage
def _ring(found: Any, rings: int, j: int) -> tuple[float, float, float, float]:
    """Return scales, slope and spread of a ring."""
    return (
        _scale(found[rings + j], HIGHEST_LOG_SCALE), _scale(found[2 * rings + j], HIGHEST_LOG_SCALE),
        np.float64(found[3 * rings + j]), _scale(found[4 * rings + j], HIGHEST_LOG_SPREAD),
    )  # fmt: skip


@stage
def _log_plane(found: Any, of_rings: Any, count: int, rings: int, old: Any, place: Any) -> float:
    """Return the logarithm of the density of a position; see `PlaneMixture.log_density`."""
    largest, norm, total = -np.inf, 0.0, 0.0
    for k in range(count):
        largest = max(largest, np.float64(found[k]))
    for j in range(rings):
        largest = max(largest, np.float64(of_rings[j]))
    for k in range(count):
        weight = math.exp(found[k] - largest)
        norm += weight
        x, y, scale_x, scale_y, slope = _normal(found, count, k, old)
        first, second = (place[0] - x) / scale_x, (place[1] - y) / scale_y
        square = first * first + (second - slope * first) ** 2
        total += weight / (scale_x * scale_y) * math.exp(-0.5 * square)
    for j in range(rings):
        weight = math.exp(of_rings[j] - largest)
        norm += weight
        scale_x, scale_y, slope, spread = _ring(of_rings, rings, j)
        first, second = (place[0] - old[0]) / scale_x, (place[1] - old[1]) / scale_y
        square = max(first * first + (second - slope * first) ** 2, _LEAST_SQUARE)
        radius = 0.5 * math.log(square) / spread
        # The density of ln r, divided by r² for the plane and by 2 pi for the azimuth.
        total += weight * _INVERSE_ROOT_2_PI / (spread * scale_x * scale_y * square) * math.exp(-0.5 * radius * radius)
    if total > 0.0:
        return math.log(total / norm) - 2.0 * _LOG_ROOT_2_PI
    return -np.inf
