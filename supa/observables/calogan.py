"""The shower-shape variables of CaloGAN, under their own names and with their own epsilons.

Formulas: hep-lbdl/CaloGAN (arXiv 1705.02355), ``analysis/feats1d.py``; the order of the arguments is theirs too.
``images`` are three arrays (n, nx, ny), one for each layer, in MeV, as the epsilons mean it: those of a CaloGAN file,
or ``[1000 * image for image in supa.CALOGAN.images(showers)]``. Where the original divides by 0, or by rounding takes
the root of a negative number, this gives NaN, or the root of 0, without a warning.
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
"""CaloGAN's cells reach from -240 mm to 240 mm."""


def depth(images: Images) -> IntArray:
    """Find the deepest layer with energy; 0 where no deeper one has.

    Args:
        images: three of (n, nx, ny), MeV.

    Returns:
        (n,) int64: 0, 1 or 2.

    Raises:
        ValueError: the images are not three of as many showers.
    """
    _, first, second = (_sum(image) for image in _checked(images))
    return np.where(second != 0, 2, np.where(first != 0, 1, 0)).astype(np.int64)


def energy(layer: int, images: Images) -> FloatArray:
    """Sum the cells of a layer.

    Args:
        layer: 0, 1 or 2.
        images: three of (n, nx, ny), MeV.

    Returns:
        (n,) float64, MeV.

    Raises:
        ValueError: there is no such layer, or the images are not three of as many showers.
    """
    return _sum(_checked(images)[check_int(0, 2, "layer", layer)])


def total_energy(images: Images) -> FloatArray:
    """Sum all cells.

    Args:
        images: three of (n, nx, ny), MeV.

    Returns:
        (n,) float64, MeV.

    Raises:
        ValueError: the images are not three of as many showers.
    """
    zeroth, first, second = (_sum(image) for image in _checked(images))
    return zeroth + first + second


def efrac(elayer: FloatArray, total_energy: FloatArray) -> FloatArray:
    """Divide the energy of a layer by the energy of all cells.

    Args:
        elayer: (n,), see ``energy``.
        total_energy: (n,), see ``total_energy``.

    Returns:
        (n,) float64; NaN without energy.
    """
    return ratio(elayer, total_energy)


def lateral_depth(images: Images) -> FloatArray:
    """Sum the energies times the number of their layer: 2 E_2 + E_1.

    Args:
        images: three of (n, nx, ny), MeV.

    Returns:
        (n,) float64, MeV.

    Raises:
        ValueError: the images are not three of as many showers.
    """
    _, first, second = (_sum(image) for image in _checked(images))
    return 2 * second + first


def lateral_depth2(images: Images) -> FloatArray:
    """Sum the energies times the squared number of their layer: 4 E_2 + E_1.

    Args:
        images: three of (n, nx, ny), MeV.

    Returns:
        (n,) float64, MeV.

    Raises:
        ValueError: the images are not three of as many showers.
    """
    _, first, second = (_sum(image) for image in _checked(images))
    return 4 * second + first


def shower_depth(lateral_depth: FloatArray, total_energy: FloatArray) -> FloatArray:
    """Return the energy-weighted mean number of the layer: lateral_depth / total_energy.

    Args:
        lateral_depth: (n,), see ``lateral_depth``.
        total_energy: (n,), see ``total_energy``.

    Returns:
        (n,) float64; NaN without energy.
    """
    return ratio(lateral_depth, total_energy)


def shower_depth_width(lateral_depth: FloatArray, lateral_depth2: FloatArray, total_energy: FloatArray) -> FloatArray:
    """Return the energy-weighted standard deviation of the number of the layer.

    It is sqrt(lateral_depth2 / total_energy - (lateral_depth / total_energy)^2).

    Args:
        lateral_depth: (n,), see ``lateral_depth``.
        lateral_depth2: (n,), see ``lateral_depth2``.
        total_energy: (n,), see ``total_energy``.

    Returns:
        (n,) float64; NaN without energy.
    """
    variance = ratio(lateral_depth2, total_energy) - ratio(lateral_depth, total_energy) ** 2
    return np.sqrt(np.maximum(variance, 0.0))


def layer_lateral_width(layer: int, images: Images, *, half_width: float = HALF_WIDTH) -> FloatArray:
    """Return the energy-weighted standard deviation of the cells' middles x along axis 0 of a layer.

    It is sqrt(sum(E x^2) / (E + 1e-6) - (sum(E x) / (E + 1e-6))^2). Axis 0 is what the original calls eta.

    Args:
        layer: 0, 1 or 2.
        images: three of (n, nx, ny), MeV.
        half_width: the cells reach from -half_width to half_width: 240 mm for CaloGAN; 5, 10 and 15 length units for
            the layers of ``supa.CALOGAN``.

    Returns:
        (n,) float64, the unit of half_width; 0 without energy.

    Raises:
        ValueError: there is no such layer, the images are not three of as many showers, or the width is not above 0.
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
    """Compare the two hottest cells of a layer: (E1 - E2) / (1e-6 + E1 + E2).

    Args:
        image: (n, nx, ny), MeV.

    Returns:
        (n,) float64; 0 without energy.

    Raises:
        ValueError: it is no image of two cells or more.
    """
    cells = _cells_of(image)
    if cells.shape[1] < 2:
        raise ValueError(f"image: one of shape {np.shape(image)} was given, but two cells or more are compared.")
    second, hottest = np.partition(cells, -2, axis=1)[:, -2:].astype(np.float64).T
    return np.asarray((hottest - second) / (EPSILON + hottest + second))


def sparsity(image: npt.NDArray[Any]) -> FloatArray:
    """Return the part of a layer's cells above 0; this is the occupancy, which the original's notebook calls sparsity.

    Args:
        image: (n, nx, ny), MeV.

    Returns:
        (n,) float64.

    Raises:
        ValueError: it is no image.
    """
    return np.asarray((_cells_of(image) > 0).mean(axis=1))


def fraction_not_in(overflow: npt.NDArray[Any], images: Images) -> FloatArray:
    """Return the part of the energy that lies outside the cells: overflow / (cells + overflow).

    Formula: ``generation/plot_1D_features.py``, Fraction_not_in.

    Args:
        overflow: (n, 3), MeV; as in a CaloGAN file, or ``1000 * supa.CALOGAN.overflow(showers)``.
        images: three of (n, nx, ny), MeV.

    Returns:
        (n,) float64; NaN without energy.

    Raises:
        ValueError: the overflow or the images are not those of three layers of as many showers.
    """
    inside = total_energy(images)
    if np.shape(overflow) != (len(inside), 3):
        raise ValueError(
            f"overflow: an array of shape {np.shape(overflow)} was given, but it must be {(len(inside), 3)}."
        )
    outside = np.asarray(overflow).sum(axis=1, dtype=np.float64)
    return ratio(outside, inside + outside)


def _checked(images: Images) -> list[npt.NDArray[Any]]:
    shapes = [np.shape(image) for image in images]
    if len(shapes) != 3 or any(len(shape) != 3 or shape[0] != shapes[0][0] for shape in shapes):
        raise ValueError(
            f"images: shapes {format_value(shapes)} were given, but they must be three of (n, nx, ny), one "
            "for each layer."
        )
    return [np.asarray(image) for image in images]


def _cells_of(image: npt.NDArray[Any]) -> npt.NDArray[Any]:
    image = np.asarray(image)
    if image.ndim != 3 or image.shape[1] * image.shape[2] == 0:
        raise ValueError(f"image: an array of shape {image.shape} was given, but it must be (n, nx, ny).")
    return image.reshape(len(image), image.shape[1] * image.shape[2])


def _sum(image: npt.NDArray[Any]) -> FloatArray:
    return np.asarray(image.sum(axis=(1, 2), dtype=np.float64))
