"""Energies and hits by readout layer and by slice, and the shower's extent in depth."""

from typing import NamedTuple

import numpy as np

from supa.arrays import FloatArray, IntArray
from supa.observables.fields import field_function
from supa.observables.sums import counts_by_cell, in_float64, ratio, sums, sums_by_cell
from supa.showers import Showers


def num_hits(showers: Showers) -> IntArray:
    """Count the hits of each shower.

    Args:
        showers: the showers.

    Returns:
        (n,) int64.
    """
    return showers.num_hits


def total_energy(showers: Showers) -> FloatArray:
    """Sum the energies of each shower's hits.

    Args:
        showers: the showers.

    Returns:
        (n,) float64, GeV.
    """
    return sums(showers.offset, in_float64(showers.energy))


def response(showers: Showers) -> FloatArray:
    """Divide the energy of each shower's hits by its incident energy.

    Args:
        showers: the showers.

    Returns:
        (n,) float64; 1 where nothing leaks.
    """
    return ratio(total_energy(showers), showers.incident_energy)


def layer_hits(showers: Showers) -> IntArray:
    """Count the hits in each readout layer.

    Args:
        showers: the showers.

    Returns:
        (n, num_layers) int64.
    """
    return counts_by_cell(showers.offset, showers.layer, showers.config.num_layers)


def layer_energy(showers: Showers) -> FloatArray:
    """Sum the hits' energies in each readout layer.

    Args:
        showers: the showers.

    Returns:
        (n, num_layers) float64, GeV.
    """
    return sums_by_cell(showers.offset, showers.layer, showers.config.num_layers, in_float64(showers.energy))


def layer_fraction(showers: Showers) -> FloatArray:
    """Return the part of the incident energy that each readout layer holds.

    Args:
        showers: the showers.

    Returns:
        (n, num_layers) float64.
    """
    return ratio(layer_energy(showers), showers.incident_energy[:, None])


def slice_hits(showers: Showers) -> IntArray:
    """Count the hits in each slice.

    Args:
        showers: the showers.

    Returns:
        (n, num_slices) int64.

    Raises:
        ValueError: the showers know only their hits' layers.
    """
    _with_slices(showers, "slice_hits", "layer_hits")
    return counts_by_cell(showers.offset, showers.slice, showers.config.num_slices)


def slice_energy(showers: Showers) -> FloatArray:
    """Sum the hits' energies in each slice.

    Args:
        showers: the showers.

    Returns:
        (n, num_slices) float64, GeV.

    Raises:
        ValueError: the showers know only their hits' layers.
    """
    _with_slices(showers, "slice_energy", "layer_energy")
    return sums_by_cell(showers.offset, showers.slice, showers.config.num_slices, in_float64(showers.energy))


def slice_fraction(showers: Showers) -> FloatArray:
    """Return the part of the incident energy that each slice holds.

    Args:
        showers: the showers.

    Returns:
        (n, num_slices) float64.

    Raises:
        ValueError: the showers know only their hits' layers.
    """
    _with_slices(showers, "slice_fraction", "layer_fraction")
    return ratio(slice_energy(showers), showers.incident_energy[:, None])


class Depth(NamedTuple):
    """The four observables of depth, each (n,) float64, length unit."""

    depth_mean: FloatArray
    depth_width: FloatArray
    depth_start: FloatArray
    depth_maximum: FloatArray


def depth_of(showers: Showers) -> Depth:
    """Compute the four observables of depth together, which takes as long as one.

    Args:
        showers: the showers.

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


_NOT_KNOWN = "or where a hit's slice is not known."
depth_mean = field_function(
    depth_of,
    "depth_mean",
    "Compute the energy-weighted mean depth z of each shower's hits.",
    f"(n,) float64, length unit (slice times spacing); NaN without energy {_NOT_KNOWN}",
)
depth_width = field_function(
    depth_of,
    "depth_width",
    "Compute the energy-weighted standard deviation of the depth z of each shower's hits.",
    f"(n,) float64, length unit; NaN without energy {_NOT_KNOWN}",
)
depth_start = field_function(
    depth_of,
    "depth_start",
    "Find the depth z of each shower's first hit.",
    f"(n,) float64, length unit; NaN without a hit {_NOT_KNOWN}",
)
depth_maximum = field_function(
    depth_of,
    "depth_maximum",
    "Find the depth z of the slice with the most energy, the first one of equals.",
    f"(n,) float64, length unit; NaN without energy {_NOT_KNOWN}",
)


def _with_slices(showers: Showers, name: str, instead: str) -> None:
    if not showers.slices_known:
        raise ValueError(f"{name} needs the hits' slices, but these showers know only their layers; use {instead}.")
