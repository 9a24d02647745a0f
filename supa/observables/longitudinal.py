"""Energy and number of hits per readout layer and per slice, and the extent of a shower in depth."""

from typing import NamedTuple

import numpy as np

from supa.arrays import FloatArray, IntArray
from supa.observables.fields import field_function
from supa.observables.sums import counts_by_cell, in_float64, ratio, sums, sums_by_cell
from supa.showers import Showers


def num_hits(showers: Showers) -> IntArray:
    """Return the number of hits of each shower.

    Args:
        showers: n showers.

    Returns:
        (n,) int64.

    Example:
        >>> import supa
        >>> from supa import observables
        >>> showers = supa.simulate(1000, seed=1)
        >>> float(observables.num_hits(showers).mean())
        70.319
    """
    return showers.num_hits


def total_energy(showers: Showers) -> FloatArray:
    """Compute the sum of the hit energies of each shower.

    Args:
        showers: n showers.

    Returns:
        (n,) float64, GeV.

    Example:
        >>> import supa
        >>> from supa import observables
        >>> showers = supa.simulate(3, energy="10:100", seed=1)
        >>> observables.total_energy(showers).round(3).tolist()
        [28.508, 15.911, 60.446]
    """
    return sums(showers.offset, in_float64(showers.energy))


def response(showers: Showers) -> FloatArray:
    """Compute the sum of the hit energies divided by the incident energy, for each shower.

    Args:
        showers: n showers.

    Returns:
        (n,) float64. It is 1 if no energy leaks.

    Example:
        A detector of 12 slices is too short for these showers:

        >>> import supa
        >>> from supa import observables
        >>> short = supa.ShowerConfig(num_slices=12, readout_layers=[[7, 11]])
        >>> observables.response(supa.simulate(4, short, seed=1)).round(3).tolist()
        [0.96, 0.963, 0.959, 0.979]
    """
    return ratio(total_energy(showers), showers.incident_energy)


def layer_hits(showers: Showers) -> IntArray:
    """Count the hits in each readout layer.

    Args:
        showers: n showers.

    Returns:
        (n, num_layers) int64.

    Example:
        >>> import supa
        >>> from supa import observables
        >>> observables.layer_hits(supa.simulate(3, seed=1)).tolist()
        [[15, 42, 0], [40, 91, 0], [19, 9, 0]]
    """
    return counts_by_cell(showers.offset, showers.layer, showers.config.num_layers)


def layer_energy(showers: Showers) -> FloatArray:
    """Compute the energy in each readout layer.

    Args:
        showers: n showers.

    Returns:
        (n, num_layers) float64, GeV.

    Example:
        >>> import supa
        >>> from supa import observables
        >>> observables.layer_energy(supa.simulate(2, seed=1)).round(2).tolist()
        [[34.73, 30.27, 0.0], [43.12, 21.88, 0.0]]
    """
    return sums_by_cell(showers.offset, showers.layer, showers.config.num_layers, in_float64(showers.energy))


def layer_fraction(showers: Showers) -> FloatArray:
    """Compute the fraction of the incident energy in each readout layer.

    Args:
        showers: n showers.

    Returns:
        (n, num_layers) float64.

    Example:
        Compare the mean with the exact expectation:

        >>> import supa
        >>> from supa import observables
        >>> showers = supa.simulate(1000, seed=1)
        >>> observables.layer_fraction(showers).mean(axis=0).round(3).tolist()
        [0.626, 0.374, 0.0]
        >>> supa.expectation("standard").layer_energy.round(3).tolist()
        [0.619, 0.381, 0.0]
    """
    return ratio(layer_energy(showers), showers.incident_energy[:, None])


def slice_hits(showers: Showers) -> IntArray:
    """Count the hits in each slice.

    Args:
        showers: n showers.

    Returns:
        (n, num_slices) int64.

    Raises:
        ValueError: If the showers store the layers of their hits, but not the slices.

    Example:
        >>> import supa
        >>> from supa import observables
        >>> hits = observables.slice_hits(supa.simulate(1000, seed=1))
        >>> hits.shape
        (1000, 28)
        >>> int(hits.mean(axis=0).argmax())  # slice with the most hits
        8
    """
    _require_slices(showers, "slice_hits", "layer_hits")
    return counts_by_cell(showers.offset, showers.slice, showers.config.num_slices)


def slice_energy(showers: Showers) -> FloatArray:
    """Compute the energy in each slice.

    Args:
        showers: n showers.

    Returns:
        (n, num_slices) float64, GeV.

    Raises:
        ValueError: If the showers store the layers of their hits, but not the slices.

    Example:
        >>> import supa
        >>> from supa import observables
        >>> energy = observables.slice_energy(supa.simulate(1000, seed=1))
        >>> energy.mean(axis=0)[7:10].round(2).tolist()
        [23.59, 17.11, 10.7]
    """
    _require_slices(showers, "slice_energy", "layer_energy")
    return sums_by_cell(showers.offset, showers.slice, showers.config.num_slices, in_float64(showers.energy))


def slice_fraction(showers: Showers) -> FloatArray:
    """Compute the fraction of the incident energy in each slice.

    Args:
        showers: n showers.

    Returns:
        (n, num_slices) float64.

    Raises:
        ValueError: If the showers store the layers of their hits, but not the slices.

    Example:
        >>> import supa
        >>> from supa import observables
        >>> fraction = observables.slice_fraction(supa.simulate(1000, seed=1))
        >>> float(fraction.sum(axis=1).mean().round(6))  # no energy leaks
        1.0
    """
    _require_slices(showers, "slice_fraction", "layer_fraction")
    return ratio(slice_energy(showers), showers.incident_energy[:, None])


class Depth(NamedTuple):
    """The four observables of depth, each (n,) float64, length unit."""

    depth_mean: FloatArray
    depth_width: FloatArray
    depth_start: FloatArray
    depth_maximum: FloatArray


def depth_of(showers: Showers) -> Depth:
    """Compute the four observables of depth together, in the time that one of them takes.

    Args:
        showers: n showers.

    Returns:
        The mean, the width, the start and the maximum.
    """
    num_slices = showers.config.num_slices
    hits = counts_by_cell(showers.offset, showers.slice, num_slices)
    energy = sums_by_cell(showers.offset, showers.slice, num_slices, in_float64(showers.energy))
    z = showers.config.slice_spacing * np.arange(num_slices)
    known = hits.sum(axis=1) == showers.num_hits
    total = np.where(known, energy.sum(axis=1), 0.0)
    mean = ratio((energy * z).sum(axis=1), total)
    variance = ratio((energy * (z - mean[:, None]) ** 2).sum(axis=1), total)
    return Depth(
        depth_mean=mean,
        depth_width=np.sqrt(variance),
        depth_start=np.where(known & (showers.num_hits > 0), z[(hits > 0).argmax(axis=1)], np.nan),
        depth_maximum=np.where(total > 0, z[energy.argmax(axis=1)], np.nan),
    )


_UNKNOWN_SLICE = "or if the slice of one of its hits is unknown."
depth_mean = field_function(
    depth_of,
    "depth_mean",
    "Compute the energy-weighted mean depth z of the hits of each shower.",
    "(n,) float64, length unit (slice number times slice spacing). NaN if a shower has no energy,\n" + _UNKNOWN_SLICE,
    """
    >>> import supa
    >>> from supa import observables
    >>> showers = supa.simulate(1000, seed=1)
    >>> float(observables.depth_mean(showers).mean().round(2))
    16.85
    """,
)
depth_width = field_function(
    depth_of,
    "depth_width",
    "Compute the energy-weighted standard deviation of the depth z of the hits of each shower.",
    f"(n,) float64, length unit. NaN if a shower has no energy, {_UNKNOWN_SLICE}",
    """
    >>> import supa
    >>> from supa import observables
    >>> showers = supa.simulate(1000, seed=1)
    >>> float(observables.depth_width(showers).mean().round(2))
    2.99
    """,
)
depth_start = field_function(
    depth_of,
    "depth_start",
    "Find the depth z of the first hit of each shower.",
    f"(n,) float64, length unit. NaN if a shower has no hit, {_UNKNOWN_SLICE}",
    """
    >>> import supa
    >>> from supa import observables
    >>> observables.depth_start(supa.simulate(5, seed=1)).tolist()
    [14.0, 14.0, 14.0, 14.0, 14.0]
    """,
)
depth_maximum = field_function(
    depth_of,
    "depth_maximum",
    "Find the depth z of the slice with the largest energy (the first of equal ones) of each shower.",
    f"(n,) float64, length unit. NaN if a shower has no energy, {_UNKNOWN_SLICE}",
    """
    >>> import supa
    >>> from supa import observables
    >>> observables.depth_maximum(supa.simulate(5, seed=1)).tolist()
    [14.0, 14.0, 14.0, 14.0, 14.0]
    """,
)


def _require_slices(showers: Showers, name: str, instead: str) -> None:
    if not showers.slices_known:
        raise ValueError(
            f"{name} needs the slices of the hits, but these showers store only the layers; use {instead}."
        )
