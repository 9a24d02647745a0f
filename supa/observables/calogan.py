"""Shower-shape variables of CaloGAN.

Names, argument order, formulas and epsilons follow ``analysis/feats1d.py`` of hep-lbdl/CaloGAN (arXiv 1705.02355).
``images`` are three arrays (n, nx, ny), one per layer, in MeV, because the epsilons are in MeV. Read them from a
CaloGAN file, or compute them with ``[1000 * image for image in supa.CALOGAN.images(showers)]``. If the original
divides by 0, these functions return NaN without a warning. If rounding makes the argument of a square root negative,
they use 0 instead.

Example:
    >>> import supa
    >>> from supa.observables import calogan
    >>> images = [1000 * image for image in supa.CALOGAN.images(supa.simulate(1000, seed=1))]
    >>> total = calogan.total_energy(images)
    >>> float(calogan.efrac(calogan.energy(0, images), total).mean().round(3))
    0.626
    >>> float(calogan.shower_depth(calogan.lateral_depth(images), total).mean().round(3))
    0.374
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from supa.arrays import FloatArray, IntArray
from supa.checks import check_int, check_real, format_value
from supa.observables.sums import ratio

Images = Sequence[npt.NDArray[Any]]

EPSILON = 1e-6
HALF_WIDTH = 240.0
"""The cells of CaloGAN extend from -240 mm to 240 mm."""


def depth(images: Images) -> IntArray:
    """Find the deepest layer with energy; 0 if neither layer 1 nor layer 2 has energy.

    Args:
        images: Three arrays (n, nx, ny), one per layer, MeV.

    Returns:
        (n,) int64: 0, 1 or 2.

    Raises:
        ValueError: If the images are not three arrays of the same number of showers.
    """
    _, first, second = (_sum(image) for image in _checked(images))
    return np.where(second != 0, 2, np.where(first != 0, 1, 0)).astype(np.int64)


def energy(layer: int, images: Images) -> FloatArray:
    """Compute the energy in the cells of a layer.

    Args:
        layer: Number of the layer: 0, 1 or 2.
        images: Three arrays (n, nx, ny), one per layer, MeV.

    Returns:
        (n,) float64, MeV.

    Raises:
        ValueError: If there is no such layer, or if the images are not three arrays of the same number of showers.
    """
    return _sum(_checked(images)[check_int(0, 2, "layer", layer)])


def total_energy(images: Images) -> FloatArray:
    """Compute the energy in all cells.

    Args:
        images: Three arrays (n, nx, ny), one per layer, MeV.

    Returns:
        (n,) float64, MeV.

    Raises:
        ValueError: If the images are not three arrays of the same number of showers.
    """
    zeroth, first, second = (_sum(image) for image in _checked(images))
    return zeroth + first + second


def efrac(elayer: FloatArray, total_energy: FloatArray) -> FloatArray:
    """Divide the energy of a layer by the energy of all cells.

    Args:
        elayer: (n,) energy of the layer, from ``energy``, MeV.
        total_energy: (n,) energy of all cells, from ``total_energy``, MeV.

    Returns:
        (n,) float64. NaN if a shower has no energy.
    """
    return ratio(elayer, total_energy)


def lateral_depth(images: Images) -> FloatArray:
    """Compute the sum of energy times layer number: 2 E_2 + E_1.

    Args:
        images: Three arrays (n, nx, ny), one per layer, MeV.

    Returns:
        (n,) float64, MeV.

    Raises:
        ValueError: If the images are not three arrays of the same number of showers.
    """
    _, first, second = (_sum(image) for image in _checked(images))
    return 2 * second + first


def lateral_depth2(images: Images) -> FloatArray:
    """Compute the sum of energy times squared layer number: 4 E_2 + E_1.

    Args:
        images: Three arrays (n, nx, ny), one per layer, MeV.

    Returns:
        (n,) float64, MeV.

    Raises:
        ValueError: If the images are not three arrays of the same number of showers.
    """
    _, first, second = (_sum(image) for image in _checked(images))
    return 4 * second + first


def shower_depth(lateral_depth: FloatArray, total_energy: FloatArray) -> FloatArray:
    """Compute the energy-weighted mean layer number: lateral_depth / total_energy.

    Args:
        lateral_depth: (n,) sums from ``lateral_depth``, MeV.
        total_energy: (n,) energy of all cells, from ``total_energy``, MeV.

    Returns:
        (n,) float64. NaN if a shower has no energy.
    """
    return ratio(lateral_depth, total_energy)


def shower_depth_width(lateral_depth: FloatArray, lateral_depth2: FloatArray, total_energy: FloatArray) -> FloatArray:
    """Compute the energy-weighted standard deviation of the layer number.

    The formula is sqrt(lateral_depth2 / total_energy - (lateral_depth / total_energy)^2).

    Args:
        lateral_depth: (n,) sums from ``lateral_depth``, MeV.
        lateral_depth2: (n,) sums from ``lateral_depth2``, MeV.
        total_energy: (n,) energy of all cells, from ``total_energy``, MeV.

    Returns:
        (n,) float64. NaN if a shower has no energy.
    """
    variance = ratio(lateral_depth2, total_energy) - ratio(lateral_depth, total_energy) ** 2
    return np.sqrt(np.maximum(variance, 0.0))


def layer_lateral_width(layer: int, images: Images, *, half_width: float = HALF_WIDTH) -> FloatArray:
    """Compute the energy-weighted standard deviation of the cell centres x along axis 0 of a layer.

    The formula is sqrt(sum(E x^2) / (E + 1e-6) - (sum(E x) / (E + 1e-6))^2). The original calls axis 0 eta.

    Args:
        layer: Number of the layer: 0, 1 or 2.
        images: Three arrays (n, nx, ny), one per layer, MeV.
        half_width: The cells extend from -half_width to half_width. Use 240 mm (the default) for CaloGAN, and 5, 10
            and 15 length units for the layers of `supa.CALOGAN`.

    Returns:
        (n,) float64, in the unit of half_width. It is 0 for a layer without energy.

    Raises:
        ValueError: If there is no such layer, if the images are not three arrays of the same number of showers, or if
            half_width is not positive.
    """
    image = _checked(images)[check_int(0, 2, "layer", layer)]
    half_width = check_real(lambda width: width > 0, "above 0", "half_width", half_width)
    edges = np.linspace(-half_width, half_width, image.shape[1] + 1)
    x = (edges[1:] + edges[:-1]) / 2
    column = image.sum(axis=2, dtype=np.float64)
    total = column.sum(axis=1) + EPSILON
    variance = (column * x**2).sum(axis=1) / total - ((column * x).sum(axis=1) / total) ** 2
    return np.asarray(np.sqrt(np.maximum(variance, 0.0)))


def eratio(image: npt.NDArray[Any]) -> FloatArray:
    """Compute (E1 - E2) / (1e-6 + E1 + E2) of the two cells of a layer with the largest energies.

    Args:
        image: (n, nx, ny) energies of the cells, MeV.

    Returns:
        (n,) float64. It is 0 for a layer without energy.

    Raises:
        ValueError: If the array does not have three axes, or has fewer than two cells.
    """
    cells = _cells_of(image)
    if cells.shape[1] < 2:
        raise ValueError(f"image must have at least two cells, got an array of shape {np.shape(image)}.")
    second, hottest = np.partition(cells, -2, axis=1)[:, -2:].astype(np.float64).T
    return np.asarray((hottest - second) / (EPSILON + hottest + second))


def sparsity(image: npt.NDArray[Any]) -> FloatArray:
    """Compute the fraction of the cells of a layer above 0.

    This is the occupancy. The notebook of the original calls it sparsity.

    Args:
        image: (n, nx, ny) energies of the cells, MeV.

    Returns:
        (n,) float64.

    Raises:
        ValueError: If the array does not have three axes, or has no cells.
    """
    return np.asarray((_cells_of(image) > 0).mean(axis=1))


def fraction_not_in(overflow: npt.NDArray[Any], images: Images) -> FloatArray:
    """Compute the fraction of the energy outside the cells: overflow / (cells + overflow).

    Args:
        overflow: (n, 3) energy outside the cells of each layer, MeV, from a CaloGAN file or from
            ``1000 * supa.CALOGAN.overflow(showers)``.
        images: Three arrays (n, nx, ny), one per layer, MeV.

    Returns:
        (n,) float64. NaN if a shower has no energy.

    Raises:
        ValueError: If the overflow and the images do not have three layers and the same number of showers.

    Source:
        Fraction_not_in in ``generation/plot_1D_features.py``.
    """
    inside = total_energy(images)
    if np.shape(overflow) != (len(inside), 3):
        raise ValueError(f"overflow must be an array of shape {(len(inside), 3)}, got {np.shape(overflow)}.")
    outside = np.asarray(overflow).sum(axis=1, dtype=np.float64)
    return ratio(outside, inside + outside)


def _checked(images: Images) -> list[npt.NDArray[Any]]:
    shapes = [np.shape(image) for image in images]
    if len(shapes) != 3 or any(len(shape) != 3 or shape[0] != shapes[0][0] for shape in shapes):
        raise ValueError(
            f"images must be three arrays of shape (n, nx, ny), one per layer, got shapes {format_value(shapes)}."
        )
    return [np.asarray(image) for image in images]


def _cells_of(image: npt.NDArray[Any]) -> npt.NDArray[Any]:
    image = np.asarray(image)
    if image.ndim != 3 or image.shape[1] * image.shape[2] == 0:
        raise ValueError(f"image must be an array of shape (n, nx, ny) with at least one cell, got {image.shape}.")
    return image.reshape(len(image), image.shape[1] * image.shape[2])


def _sum(image: npt.NDArray[Any]) -> FloatArray:
    return np.asarray(image.sum(axis=(1, 2), dtype=np.float64))
