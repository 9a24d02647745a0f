"""What the recorded trees tell: how often a hit's path split, how the particles branch and how far they went."""

import math
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from supa.arrays import BoolArray, ByteArray, FloatArray, IntArray
from supa.compiler import kernel
from supa.observables.fields import field_function
from supa.observables.sums import counts_by_cell, in_float64, maxima, ratio, sums
from supa.physics import FATES, PASS, SPLIT, STOP
from supa.ragged import Ragged
from supa.showers import Showers


class Paths(NamedTuple):
    """What each hit's path from its primary was, (hits,)."""

    hit_generation: IntArray
    hit_path_length: FloatArray


def paths_of(showers: Showers) -> Paths:
    """Follow the paths of all hits, in one pass over the particles.

    Args:
        showers: showers whose particles were recorded.

    Returns:
        The generation and the length of each path.

    Raises:
        ValueError: the particles were not recorded.
    """
    particles = _recorded(showers)
    generation, length = _follow(
        particles.offset,
        particles["parent"],
        particles["slice"],  # type: ignore[arg-type]  # the columns' types are those of ``Showers``
        particles["fate"],  # type: ignore[arg-type]
        in_float64(particles["x"]),
        in_float64(particles["y"]),
        showers.config.slice_spacing,
    )
    hits: BoolArray = particles["fate"] == STOP
    return Paths(generation[hits], length[hits])


hit_generation = field_function(
    paths_of,
    "hit_generation",
    "Count the splits on each hit's path from its primary.",
    "(hits,) int64; 0 for a primary that stopped without a split.",
)
hit_path_length = field_function(
    paths_of,
    "hit_path_length",
    "Measure each hit's path from its primary's impact point: the sum of the straight steps from slice to slice.",
    "(hits,) float64, length unit.",
)


def mean_generation(showers: Showers) -> FloatArray:
    """Average the generation over each shower's hits.

    Args:
        showers: showers whose particles were recorded.

    Returns:
        (n,) float64; NaN without a hit.

    Raises:
        ValueError: the particles were not recorded.
    """
    return ratio(sums(showers.offset, in_float64(hit_generation(showers))), showers.num_hits)


def max_generation(showers: Showers) -> FloatArray:
    """Return the largest generation of each shower's hits.

    Args:
        showers: showers whose particles were recorded.

    Returns:
        (n,) float64; NaN without a hit.

    Raises:
        ValueError: the particles were not recorded.
    """
    return maxima(showers.offset, in_float64(hit_generation(showers)))


def mean_path_length(showers: Showers) -> FloatArray:
    """Average the length of the paths over each shower's hits.

    Args:
        showers: showers whose particles were recorded.

    Returns:
        (n,) float64, length unit; NaN without a hit.

    Raises:
        ValueError: the particles were not recorded.
    """
    return ratio(sums(showers.offset, hit_path_length(showers)), showers.num_hits)


def num_splits(showers: Showers) -> IntArray:
    """Count the splits of each shower; this is the hits and leaked particles less the primaries.

    Args:
        showers: showers whose particles were recorded.

    Returns:
        (n,) int64.

    Raises:
        ValueError: the particles were not recorded.
    """
    return _fates(showers)[:, SPLIT].copy()


def branching_fraction(showers: Showers) -> FloatArray:
    """Return the part of the particles that split among those that went on: splits / (splits + passes).

    Args:
        showers: showers whose particles were recorded.

    Returns:
        (n,) float64; NaN where no particle went on.

    Raises:
        ValueError: the particles were not recorded.
    """
    fates = _fates(showers)
    return ratio(fates[:, SPLIT], fates[:, SPLIT] + fates[:, PASS])


def _recorded(showers: Showers) -> Ragged:
    if showers.particles is None:
        raise ValueError("Observables of trees need the recorded particles; simulate with record='particles'.")
    return showers.particles


def _fates(showers: Showers) -> IntArray:
    particles = _recorded(showers)
    return counts_by_cell(particles.offset, particles["fate"], len(FATES))


@kernel
def _follow(
    offset: IntArray,
    parent: npt.NDArray[Any],
    slices: ByteArray,
    fate: ByteArray,
    x: FloatArray,
    y: FloatArray,
    spacing: float,
) -> tuple[IntArray, FloatArray]:
    """Count the splits and measure the way to each particle; a parent stands before its children."""
    generation, length = np.zeros(len(x), dtype=np.int64), np.zeros(len(x))
    for group in range(len(offset) - 1):
        for row in range(offset[group], offset[group + 1]):
            if parent[row] >= 0:
                before = offset[group] + parent[row]
                dx, dy = x[row] - x[before], y[row] - y[before]
                dz = spacing * (np.int64(slices[row]) - np.int64(slices[before]))
                generation[row] = generation[before] + (fate[before] == SPLIT)
                length[row] = length[before] + math.sqrt(dx * dx + dy * dy + dz * dz)
    return generation, length
