"""High-level features of the CaloChallenge.

Names, formulas and epsilons follow ``code/HighLevelFeatures.py`` and ``code/evaluate_plotting_helper.py`` of
CaloChallenge/homepage.

- ``voxels`` are (n, num_cells) energies in MeV, because the epsilons are in MeV. The layers follow each other, and the
  radius varies fastest. Read the voxels from a CaloChallenge file, or compute ``1000 * grid.energies(showers)``.
- ``grid`` is a `supa.Grid` of `supa.Polar` parts. A part None is a layer without voxels; it has NaN in every result.
- As published, eta is r cos(alpha) and phi is r sin(alpha) at the centre of a voxel. They are defined for layers with
  more than one bin in alpha, and NaN for all others. The centre and the width of a layer without energy are 0.

Example:
    >>> import supa
    >>> from supa.observables import calochallenge
    >>> grid = supa.Grid([supa.Polar([0, 1, 2, 4, 8], num_alpha=10)] * 3)
    >>> voxels = 1000 * grid.energies(supa.simulate(1000, seed=1))
    >>> calochallenge.e_layers(voxels, grid).mean(axis=0).round().tolist()
    [40696.0, 24282.0, 7.0]
    >>> calochallenge.width_eta(voxels, grid).mean(axis=0).round(2).tolist()
    [1.01, 1.59, 0.15]
"""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from supa.arrays import FloatArray
from supa.cells import Polar
from supa.grids import Grid
from supa.observables.fields import field_function

EPSILON = 1e-16


def e_tot(voxels: npt.NDArray[Any]) -> FloatArray:
    """Compute the energy in all voxels.

    Args:
        voxels: (n, num_cells) energies, MeV.

    Returns:
        (n,) float64, MeV.
    """
    return np.asarray(np.asarray(voxels).sum(axis=-1, dtype=np.float64))


def e_layers(voxels: npt.NDArray[Any], grid: Grid) -> FloatArray:
    """Compute the energy in the voxels of each layer.

    Args:
        voxels: (n, num_cells) energies, MeV.
        grid: Grid with one `supa.Polar` part per layer.

    Returns:
        (n, parts) float64, MeV.

    Raises:
        ValueError: If the grid is not polar or does not match the voxels.
    """
    result, layers = _layers(voxels, grid)
    for number, _, layer in layers:
        result[:, number] = layer.sum(axis=1)
    return result


def sparsity(voxels: npt.NDArray[Any], grid: Grid, threshold: float = 0.0) -> FloatArray:
    """Compute the fraction of voxels at or below the threshold, 1 - mean(voxel > threshold), for each layer.

    Args:
        voxels: (n, num_cells) energies, MeV.
        grid: Grid with one `supa.Polar` part per layer.
        threshold: Threshold energy, MeV.

    Returns:
        (n, parts) float64.

    Raises:
        ValueError: If the grid is not polar or does not match the voxels.
    """
    result, layers = _layers(voxels, grid)
    for number, _, layer in layers:
        result[:, number] = 1.0 - (layer > threshold).mean(axis=1)
    return result


class Moments(NamedTuple):
    """Centres and widths of the energy, each (n, parts) float64, length unit of the grid."""

    ec_eta: FloatArray
    ec_phi: FloatArray
    ec_r: FloatArray
    width_eta: FloatArray
    width_phi: FloatArray
    width_r: FloatArray


def moments_of(voxels: npt.NDArray[Any], grid: Grid) -> Moments:
    """Compute the centres and widths of the energy in each layer.

    Args:
        voxels: (n, num_cells) energies, MeV.
        grid: Grid with one `supa.Polar` part per layer.

    Returns:
        The centres and widths along eta, phi and the radius.

    Raises:
        ValueError: If the grid is not polar or does not match the voxels.
    """
    empty, layers = _layers(voxels, grid)
    centres, widths = ([empty.copy() for _ in range(3)] for _ in range(2))
    for number, part, layer in layers:
        eta, phi = part.centres()
        total = layer.sum(axis=1) + EPSILON
        for position, centre, width in zip((eta, phi, np.hypot(eta, phi)), centres, widths, strict=True):
            if centre is not centres[2] and part.num_alpha == 1:
                continue  # eta and phi need several bins in alpha
            mean = (layer * position).sum(axis=1) / total
            square = (layer * position**2).sum(axis=1) / total
            centre[:, number] = mean
            width[:, number] = np.sqrt(np.maximum(square - mean**2, 0.0))
    return Moments(*centres, *widths)


_LENGTH = "(n, parts) float64, length unit of the grid."
_CENTRE = "Compute the centre of the energy along {0}: sum({0} E) / (sum(E) + 1e-16)."
_WIDTH = "Compute the width of the energy along {0}: sqrt(max(sum({0}^2 E) / (sum(E) + 1e-16) - ec_{0}^2, 0))."
ec_eta = field_function(moments_of, "ec_eta", _CENTRE.format("eta"), _LENGTH)
ec_phi = field_function(moments_of, "ec_phi", _CENTRE.format("phi"), _LENGTH)
ec_r = field_function(moments_of, "ec_r", _CENTRE.format("r"), _LENGTH)
width_eta = field_function(moments_of, "width_eta", _WIDTH.format("eta"), _LENGTH)
width_phi = field_function(moments_of, "width_phi", _WIDTH.format("phi"), _LENGTH)
width_r = field_function(moments_of, "width_r", _WIDTH.format("r"), _LENGTH)


def separation_power(hist1: npt.ArrayLike, hist2: npt.ArrayLike, bins: npt.ArrayLike) -> float:
    """Compute the separation power of two histograms, 0.5 sum((h1 - h2)^2 / (h1 + h2 + 1e-16)).

    Here h is the density times the bin width. The separation power is also called chi2.

    Args:
        hist1: (bins,) densities. The densities times the bin widths add up to 1.
        hist2: (bins,) densities.
        bins: (bins + 1,) edges.

    Returns:
        A number from 0 (equal histograms) to 1 (disjoint histograms).

    Raises:
        ValueError: If the number of densities does not match the number of edges.

    Source:
        Triangular discrimination, arXiv 2009.03796, equation 15.
    """
    first, second = np.asarray(hist1, dtype=np.float64), np.asarray(hist2, dtype=np.float64)
    widths = np.diff(np.asarray(bins, dtype=np.float64))
    if first.shape != widths.shape or second.shape != widths.shape:
        raise ValueError(
            f"{len(widths) + 1} edges need {len(widths)} densities in each histogram, got shapes {first.shape} and "
            f"{second.shape}."
        )
    first, second = first * widths, second * widths
    return float(0.5 * ((first - second) ** 2 / (first + second + EPSILON)).sum())


def _layers(voxels: npt.NDArray[Any], grid: Grid) -> tuple[FloatArray, list[tuple[int, Polar, FloatArray]]]:
    """Return an array of NaN for the result, and number, cells and (n, cells) energies of each layer with voxels."""
    shape = np.shape(voxels)
    if len(shape) != 2 or shape[1] != grid.num_cells:
        raise ValueError(f"voxels must be an array of shape (n, {grid.num_cells}) for this grid, got {shape}.")
    layers = []
    for number, part in enumerate(grid.parts):
        if part is None:
            continue
        if not isinstance(part, Polar):
            raise ValueError(f"grid must have Polar parts, got {part!r} as part {number}.")
        inside = slice(grid.offset[number], grid.offset[number + 1])
        layers.append((number, part, np.asarray(voxels)[:, inside].astype(np.float64)))
    return np.full((shape[0], len(grid.parts)), np.nan), layers
