"""Observables of recorded trees: generations, branching and path lengths."""

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
    """Generation and length of the path from the primary to each hit, each (hits,)."""

    hit_generation: IntArray
    hit_path_length: FloatArray


def paths_of(showers: Showers) -> Paths:
    """Follow the paths of all hits in one pass over the particles.

    Args:
        showers: n showers, simulated with ``record="particles"``.

    Returns:
        The generation and the length of each path.

    Raises:
        ValueError: If the particles were not recorded.
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
    "Count the splits on the path from the primary to each hit.",
    "(hits,) int64. It is 0 for a primary that stopped without a split.",
    """
    >>> import supa
    >>> from supa import observables
    >>> showers = supa.simulate(100, seed=1, record="particles")
    >>> generation = observables.hit_generation(showers)
    >>> int(generation.min()), int(generation.max())
    (1, 18)
    """,
)
hit_path_length = field_function(
    paths_of,
    "hit_path_length",
    "Compute the length of the path from the impact point of the primary to each hit, in straight steps.",
    "(hits,) float64, length unit.",
    """
    >>> import supa
    >>> from supa import observables
    >>> showers = supa.simulate(100, seed=1, record="particles")
    >>> length = observables.hit_path_length(showers)
    >>> bool((length >= showers.z).all())  # no path is shorter than the depth of its hit
    True
    """,
)


def mean_generation(showers: Showers) -> FloatArray:
    """Compute the mean generation of the hits of each shower.

    Args:
        showers: n showers, simulated with ``record="particles"``.

    Returns:
        (n,) float64. NaN if a shower has no hit.

    Raises:
        ValueError: If the particles were not recorded.

    Example:
        >>> import supa
        >>> from supa import observables
        >>> showers = supa.simulate(3, seed=1, record="particles")
        >>> observables.mean_generation(showers).round(3).tolist()
        [7.193, 8.45, 5.393]
    """
    return ratio(sums(showers.offset, in_float64(hit_generation(showers))), showers.num_hits)


def max_generation(showers: Showers) -> FloatArray:
    """Find the largest generation of the hits of each shower.

    Args:
        showers: n showers, simulated with ``record="particles"``.

    Returns:
        (n,) float64. NaN if a shower has no hit.

    Raises:
        ValueError: If the particles were not recorded.

    Example:
        >>> import supa
        >>> from supa import observables
        >>> showers = supa.simulate(3, seed=1, record="particles")
        >>> observables.max_generation(showers).tolist()
        [12.0, 14.0, 8.0]
    """
    return maxima(showers.offset, in_float64(hit_generation(showers)))


def mean_path_length(showers: Showers) -> FloatArray:
    """Compute the mean path length of the hits of each shower.

    Args:
        showers: n showers, simulated with ``record="particles"``.

    Returns:
        (n,) float64, length unit. NaN if a shower has no hit.

    Raises:
        ValueError: If the particles were not recorded.

    Example:
        >>> import supa
        >>> from supa import observables
        >>> showers = supa.simulate(3, seed=1, record="particles")
        >>> observables.mean_path_length(showers).round(2).tolist()
        [19.92, 20.86, 17.03]
    """
    return ratio(sums(showers.offset, hit_path_length(showers)), showers.num_hits)


def num_splits(showers: Showers) -> IntArray:
    """Count the splits of each shower.

    Each split adds one particle. The number of splits is therefore the number of hits and leaked particles minus the
    number of primaries.

    Args:
        showers: n showers, simulated with ``record="particles"``.

    Returns:
        (n,) int64.

    Raises:
        ValueError: If the particles were not recorded.

    Example:
        >>> import supa
        >>> from supa import observables
        >>> showers = supa.simulate(3, seed=1, record="particles")
        >>> observables.num_splits(showers).tolist()
        [56, 130, 27]
        >>> (showers.num_hits - showers.num_primaries).tolist()  # no particle leaks
        [56, 130, 27]
    """
    return _fates(showers)[:, SPLIT].copy()


def branching_fraction(showers: Showers) -> FloatArray:
    """Compute the fraction of splits among the particles that did not stop: splits / (splits + passes).

    Args:
        showers: n showers, simulated with ``record="particles"``.

    Returns:
        (n,) float64. NaN if no particle split or passed.

    Raises:
        ValueError: If the particles were not recorded.

    Example:
        >>> import supa
        >>> from supa import observables
        >>> showers = supa.simulate(3, seed=1, record="particles")
        >>> observables.branching_fraction(showers).round(3).tolist()
        [0.602, 0.563, 0.529]
    """
    fates = _fates(showers)
    return ratio(fates[:, SPLIT], fates[:, SPLIT] + fates[:, PASS])


def _recorded(showers: Showers) -> Ragged:
    if showers.particles is None:
        raise ValueError("Observables of trees need recorded particles; simulate with record='particles'.")
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
    """Count the splits and measure the path to each particle; every parent precedes its children."""
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
