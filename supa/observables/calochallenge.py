"""The high-level features of the CaloChallenge, under their own names and with their own epsilons.

Formulas: CaloChallenge/homepage, ``code/HighLevelFeatures.py`` and ``code/evaluate_plotting_helper.py``. ``voxels``
are (n, num_cells) energies in MeV, as the epsilons mean it, flattened layer by layer with the radius running fastest:
those of a CaloChallenge file, or ``1000 * grid.energies(showers)``. ``grid`` is a ``supa.Grid`` of ``supa.Polar``
parts; a part None is a layer without voxels, and NaN in every result. As published, eta is r cos(alpha) and phi is
r sin(alpha) in the middle of a voxel, both only for layers with more than one step of alpha (elsewhere NaN), and a
layer without energy has its centre and width at 0.
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
    """Sum all voxels.

    Args:
        voxels: (n, num_cells), MeV.

    Returns:
        (n,) float64, MeV.
    """
    return np.asarray(np.asarray(voxels).sum(axis=-1, dtype=np.float64))


def e_layers(voxels: npt.NDArray[Any], grid: Grid) -> FloatArray:
    """Sum the voxels of each layer.

    Args:
        voxels: (n, num_cells), MeV.
        grid: its Polar parts are the layers.

    Returns:
        (n, parts) float64, MeV.

    Raises:
        ValueError: the grid is not polar, or does not fit the voxels.
    """
    result, layers = _layers(voxels, grid)
    for number, _, layer in layers:
        result[:, number] = layer.sum(axis=1)
    return result


def sparsity(voxels: npt.NDArray[Any], grid: Grid, threshold: float = 0.0) -> FloatArray:
    """Return the part of each layer's voxels at or below the threshold: 1 - mean(voxel > threshold).

    Args:
        voxels: (n, num_cells), MeV.
        grid: its Polar parts are the layers.
        threshold: MeV.

    Returns:
        (n, parts) float64.

    Raises:
        ValueError: the grid is not polar, or does not fit the voxels.
    """
    result, layers = _layers(voxels, grid)
    for number, _, layer in layers:
        result[:, number] = 1.0 - (layer > threshold).mean(axis=1)
    return result


class Moments(NamedTuple):
    """Centres and widths of the energy, each (n, parts) float64."""

    ec_eta: FloatArray
    ec_phi: FloatArray
    ec_r: FloatArray
    width_eta: FloatArray
    width_phi: FloatArray
    width_r: FloatArray


def moments_of(voxels: npt.NDArray[Any], grid: Grid) -> Moments:
    """Compute the centres and widths of the energy in each layer.

    Args:
        voxels: (n, num_cells), MeV.
        grid: its Polar parts are the layers.

    Returns:
        The centres and widths along eta, phi and the radius.

    Raises:
        ValueError: the grid is not polar, or does not fit the voxels.
    """
    empty, layers = _layers(voxels, grid)
    centres, widths = ([empty.copy() for _ in range(3)] for _ in range(2))
    for number, part, layer in layers:
        eta, phi = part.centres()
        total = layer.sum(axis=1) + EPSILON
        for position, centre, width in zip((eta, phi, np.hypot(eta, phi)), centres, widths, strict=True):
            if centre is not centres[2] and part.num_alpha == 1:
                continue  # eta and phi need several steps of alpha
            mean = (layer * position).sum(axis=1) / total
            square = (layer * position**2).sum(axis=1) / total
            centre[:, number] = mean
            width[:, number] = np.sqrt(np.maximum(square - mean**2, 0.0))
    return Moments(*centres, *widths)


_LENGTH = "(n, parts) float64, the grid's length unit."
_CENTRE = "Compute the centre of energy along {0}: sum({0} E) / (sum(E) + 1e-16)."
_WIDTH = "Compute the width along {0}: sqrt(max(sum({0}^2 E) / (sum(E) + 1e-16) - ec_{0}^2, 0))."
ec_eta = field_function(moments_of, "ec_eta", _CENTRE.format("eta"), _LENGTH)
ec_phi = field_function(moments_of, "ec_phi", _CENTRE.format("phi"), _LENGTH)
ec_r = field_function(moments_of, "ec_r", _CENTRE.format("r"), _LENGTH)
width_eta = field_function(moments_of, "width_eta", _WIDTH.format("eta"), _LENGTH)
width_phi = field_function(moments_of, "width_phi", _WIDTH.format("phi"), _LENGTH)
width_r = field_function(moments_of, "width_r", _WIDTH.format("r"), _LENGTH)


def separation_power(hist1: npt.ArrayLike, hist2: npt.ArrayLike, bins: npt.ArrayLike) -> float:
    """Compare two histograms: 0.5 sum((h1 - h2)^2 / (h1 + h2 + 1e-16)), where h is the histogram times the widths.

    The name "chi2" is also in use for it. It is the triangular discrimination of arXiv 2009.03796, equation 15.

    Args:
        hist1: (bins,) densities: the histogram times the widths of the bins sums to 1.
        hist2: (bins,) densities.
        bins: (bins + 1,) edges.

    Returns:
        0 for equal histograms to 1 for disjoint ones.

    Raises:
        ValueError: the lengths do not fit together.
    """
    first, second = np.asarray(hist1, dtype=np.float64), np.asarray(hist2, dtype=np.float64)
    widths = np.diff(np.asarray(bins, dtype=np.float64))
    if first.shape != widths.shape or second.shape != widths.shape:
        raise ValueError(
            f"Histograms of shapes {first.shape} and {second.shape} were given, but {len(widths) + 1} edges need "
            f"{len(widths)} densities in each."
        )
    first, second = first * widths, second * widths
    return float(0.5 * ((first - second) ** 2 / (first + second + EPSILON)).sum())


def _layers(voxels: npt.NDArray[Any], grid: Grid) -> tuple[FloatArray, list[tuple[int, Polar, FloatArray]]]:
    """Return a result of NaN, and each layer with voxels: its number, its cells and their energies (n, cells)."""
    shape = np.shape(voxels)
    if len(shape) != 2 or shape[1] != grid.num_cells:
        raise ValueError(
            f"voxels: an array of shape {shape} was given, but the grid needs (n, {grid.num_cells}) energies."
        )
    layers = []
    for number, part in enumerate(grid.parts):
        if part is None:
            continue
        if not isinstance(part, Polar):
            raise ValueError(f"grid: part {number} is {part!r}, but the CaloChallenge's layers are Polar.")
        inside = slice(grid.offset[number], grid.offset[number + 1])
        layers.append((number, part, np.asarray(voxels)[:, inside].astype(np.float64)))
    return np.full((shape[0], len(grid.parts)), np.nan), layers
