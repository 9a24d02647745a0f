"""Initial conditions of showers: random incident energies and primaries from the counter-based generator."""

import math
from typing import NamedTuple

import numpy as np

from supa.arrays import FloatArray, IntArray
from supa.compiler import kernel, stage
from supa.config import ShowerConfig
from supa.elementary import exp, log, sin_cos, sin_cos_turn
from supa.ragged import Ragged
from supa.random import HALF, INITIAL_PATH, MASK, TO_UNIT, Word, identity_words, philox

_SHOWER_BLOCK, _DIRECTION_BLOCK, _SHARE_BLOCK = 0, 1, 2
_DISTRIBUTIONS = {"fixed": 0, "uniform": 1, "log-uniform": 2, "list": 0}


class Primaries(NamedTuple):
    """Initial conditions of showers."""

    incident_energy: FloatArray
    """(showers,) float64, incident energy (GeV)."""
    offset: IntArray
    """(showers + 1,) int64; the primaries of shower k are ``offset[k]`` to ``offset[k + 1]`` (exclusive)."""
    energy: FloatArray
    """(primaries,) float64, energy (GeV)."""
    x: FloatArray
    """(primaries,) float64, x of the impact point in slice 0 (length unit)."""
    y: FloatArray
    """(primaries,) float64, y of the impact point in slice 0 (length unit)."""
    slope_x: FloatArray
    """(primaries,) float64, direction dx/dz."""
    slope_y: FloatArray
    """(primaries,) float64, direction dy/dz."""

    def ragged(self) -> Ragged:
        """Return the primaries as a ragged table with one group per shower.

        Returns:
            Table with the columns energy, x, y, slope_x and slope_y.
        """
        names = ("energy", "x", "y", "slope_x", "slope_y")
        return Ragged({name: getattr(self, name) for name in names}, self.offset)


def draw_primaries(config: ShowerConfig, seed: int, indices: IntArray) -> Primaries:
    """Draw the initial conditions of showers.

    Args:
        config: Config with the distributions of the initial conditions.
        seed: Random seed from 0 to 2**64 - 1.
        indices: (showers,) int64, indices of the showers.

    Returns:
        Initial conditions. Those of a shower depend only on the config, the seed and its index.
    """
    incident_energy, offset = np.empty(len(indices)), np.zeros(len(indices) + 1, np.int64)
    _draw_showers(np.uint64(seed), indices, *distribution_codes(config), incident_energy, offset)
    columns = np.zeros((5, offset[-1]))
    primaries = Primaries(incident_energy, offset, columns[0], columns[1], columns[2], columns[3], columns[4])
    _draw_columns(np.uint64(seed), indices, config.polar_angle, config.azimuth, config.impact_spread, primaries)
    return primaries


def distribution_codes(config: ShowerConfig) -> tuple[int, FloatArray, int, float]:
    """Return the distributions of the energy and of the number of primaries as compiled code reads them.

    Args:
        config: Physics of the showers.

    Returns:
        Code and values of the energy's distribution, code and value of that of the number of primaries.
    """
    spectrum, count = config.spectrum, config.primary_count
    return _DISTRIBUTIONS[spectrum.law], np.array(spectrum.values), 0 if count.law == "fixed" else 1, float(count.value)


@stage
def _initial_block(index: int, primary: int, block: int, seed: Word) -> tuple[Word, Word, Word, Word]:
    low, high = identity_words(Word(index), Word(primary))
    path = INITIAL_PATH | Word(block)
    return philox(path & MASK, path >> HALF, low, high, seed & MASK, seed >> HALF)


@stage
def _turn(word: Word) -> tuple[float, float]:
    return sin_cos_turn(word)


@stage
def _angle(x: float) -> tuple[float, float]:
    return sin_cos(x)


@kernel
def _draw_showers(
    seed: Word,
    indices: IntArray,
    energy_law: int,
    energies: FloatArray,
    count_law: int,
    count_value: float,
    incident_energy: FloatArray,
    offset: IntArray,
) -> None:
    """Draw the incident energy and the number of primaries of each shower."""
    for k in range(len(indices)):
        energy_word, count_word, _, _ = _initial_block(indices[k], 0, _SHOWER_BLOCK, seed)
        u = np.float64(energy_word) * TO_UNIT
        if energy_law == 0:
            incident_energy[k] = energies[int(u * len(energies))]
        elif energy_law == 1:
            incident_energy[k] = energies[0] + (energies[1] - energies[0]) * u
        else:
            incident_energy[k] = energies[0] * exp(u * (log(energies[1]) - log(energies[0])))
        number = int(count_value)
        if count_law == 1:
            number = _truncated_poisson(count_value, np.float64(count_word) * TO_UNIT)
        offset[k + 1] = offset[k] + number


@stage
def _truncated_poisson(mean: float, u: float) -> int:
    """Draw from a Poisson distribution conditioned on being above 0, by inversion of its distribution function."""
    number = 1
    probability = mean * exp(-mean)
    left = u * (1.0 - exp(-mean)) - probability
    while left >= 0.0 and number < 255:
        number += 1
        probability *= mean / number
        left -= probability
    return number


@kernel
def _draw_columns(
    seed: Word,
    indices: IntArray,
    polar_angle: tuple[float, float],
    azimuth: tuple[float, float],
    impact_spread: float,
    primaries: Primaries,
) -> None:
    """Draw energy, impact point and direction of each primary. Impact points and slopes must be zero before."""
    for k in range(len(primaries.incident_energy)):
        first, last = primaries.offset[k], primaries.offset[k + 1]
        if last - first == 1:
            primaries.energy[first] = primaries.incident_energy[k]
        else:
            # Exponential random numbers divided by their sum are uniformly distributed over all divisions of 1.
            total = 0.0
            for i in range(first, last):
                word, _, _, _ = _initial_block(indices[k], i - first, _SHARE_BLOCK, seed)
                primaries.energy[i] = -log((np.float64(word) + 0.5) * TO_UNIT)
                total += primaries.energy[i]
            for i in range(first, last):
                primaries.energy[i] *= primaries.incident_energy[k] / total
        if impact_spread == 0.0 and polar_angle[1] == 0.0:
            continue
        for i in range(first, last):
            polar_word, azimuth_word, radius_word, turn_word = _initial_block(
                indices[k], i - first, _DIRECTION_BLOCK, seed
            )
            # Normally distributed point in the plane (Box and Muller, 1958).
            radius = impact_spread * math.sqrt(-2.0 * log((np.float64(radius_word) + 0.5) * TO_UNIT))
            sine, cosine = _turn(turn_word)
            primaries.x[i] = radius * cosine
            primaries.y[i] = radius * sine
            sine, cosine = _angle(polar_angle[0] + (polar_angle[1] - polar_angle[0]) * np.float64(polar_word) * TO_UNIT)
            slope = sine / cosine
            quarter = 0.25 * (azimuth[0] + (azimuth[1] - azimuth[0]) * np.float64(azimuth_word) * TO_UNIT)
            sine, cosine = _angle(quarter)
            sine, cosine = 2.0 * sine * cosine, 1.0 - 2.0 * sine * sine
            sine, cosine = 2.0 * sine * cosine, 1.0 - 2.0 * sine * sine
            primaries.slope_x[i] = slope * cosine
            primaries.slope_y[i] = slope * sine
