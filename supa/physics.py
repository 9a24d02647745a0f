"""The physics of one step: fate probabilities and the directions of the children. All engines use this module.

Directions are stored as two slopes (dx/dz, dy/dz), which do not change when a particle passes. The page *The physics*
of the documentation contains the formulas.
"""

from typing import NamedTuple

import numpy as np

from supa.arrays import ByteArray, FloatArray, UInt64Array
from supa.compiler import inline
from supa.config import ShowerConfig

STOP, SPLIT, PASS, LEAK = 0, 1, 2, 3
FATES = ("stop", "split", "pass", "leak")
NO_LAYER = 255
UNKNOWN_SLICE = 255

# Directions are limited to this cosine (89.94 degrees from the axis), so that positions stay finite.
_STEEPEST_COSINE = 1e-3


class Walk(NamedTuple):
    """Physics of a config as tables and numbers for compiled code."""

    stop_below: FloatArray
    """(num_slices,) float64; a particle stops if its uniform random number is below this value."""
    split_below: FloatArray
    """(num_slices,) float64; a particle that does not stop splits if the number is below this value, else it passes."""
    stop_word: UInt64Array
    """(num_slices,) uint64, ``stop_below`` in units of 2**-32, rounded."""
    split_word: UInt64Array
    """(num_slices,) uint64, ``split_below`` in units of 2**-32, rounded."""
    layer_of_slice: ByteArray
    """(num_slices,) uint8, readout layer of each slice; 255 for slices without a layer."""
    num_layers: int
    slice_spacing: float
    theta_start: float
    theta_span: float
    deviation: float
    balanced: bool
    parent_frame: bool
    critical_energy: float


def build_walk(config: ShowerConfig) -> Walk:
    """Compute the tables that the engines need.

    Args:
        config: Physics of the showers.

    Returns:
        Tables and numbers of the config.
    """
    stop, split = fate_probabilities(config)
    below = np.minimum(stop + split, 1.0)
    layer_of_slice = layer_of_any_slice(config)[: config.num_slices]
    start, end = config.opening_angle
    return Walk(
        stop_below=stop,
        split_below=below,
        stop_word=np.round(stop * 2.0**32).astype(np.uint64),
        split_word=np.round(below * 2.0**32).astype(np.uint64),
        layer_of_slice=layer_of_slice,
        num_layers=config.num_layers,
        slice_spacing=config.slice_spacing,
        theta_start=start,
        theta_span=end - start,
        deviation=config.deviation,
        balanced=config.energy_sharing == "balanced",
        parent_frame=config.frame == "parent",
        critical_energy=config.critical_energy,
    )


def layer_of_any_slice(config: ShowerConfig) -> ByteArray:
    """Return the readout layer of every slice number that fits into a byte.

    Args:
        config: Physics of the showers.

    Returns:
        (256,) uint8, readout layer; 255 for slices without a layer and for slices that do not exist.
    """
    layers = np.full(256, NO_LAYER, dtype=np.uint8)
    for layer, (first, last) in enumerate(config.readout_layers):
        layers[first : min(last + 1, config.num_slices)] = layer
    return layers


def fate_probabilities(config: ShowerConfig) -> tuple[FloatArray, FloatArray]:
    """Return the probabilities of the fates in each slice, ignoring the energy cut-off.

    Args:
        config: Physics of the showers.

    Returns:
        P(stop) and P(split), each (num_slices,) float64; P(pass) is the remainder.
    """
    stop = np.zeros(config.num_slices)
    split = np.full(config.num_slices, config.split_early)
    for slice_ in range(config.first_stop_slice, config.num_slices):
        try:
            p_stop = min(1.0, config.stop_amplitude * (slice_ / config.stop_scale) ** config.stop_exponent)
        except OverflowError:
            p_stop = 1.0 if config.stop_amplitude > 0 else 0.0
        stop[slice_] = p_stop
        if config.split_late_rule == "fixed":
            split[slice_] = min(config.split_late, 1.0 - p_stop)
        else:
            split[slice_] = max(0.0, config.split_late - p_stop)
    return stop, split


@inline
def child_slopes(
    sx: float, sy: float, sine: float, cosine: float, sine_phi: float, cosine_phi: float, parent_frame: bool
) -> tuple[float, float]:
    """Rotate the direction of a child from the frame of its parent to the frame of the slices.

    Let (a, b, c) be the unit direction of the parent and s = sqrt(1 - a^2). The matrix
    M = [[-s, ab/s, ac/s], [0, -c/s, b/s], [a, b, c]] rotates the direction of the parent onto the z axis. With
    d = (sine cosine_phi, sine sine_phi, cosine), the direction of the child is M^T d (``frame = "parent"``) or M d
    (``frame = "reference"``). A direction that points backwards is mirrored at the plane of the slice.

    Args:
        sx: Slope dx/dz of the parent.
        sy: Slope dy/dz of the parent.
        sine: Sine of the angle between parent and child. A negative value means the opposite azimuth.
        cosine: Cosine of this angle.
        sine_phi: Sine of the azimuth around the parent.
        cosine_phi: Cosine of this azimuth.
        parent_frame: True for M^T, False for M.

    Returns:
        Slopes dx/dz and dy/dz of the child (float64).
    """
    # Divisions are the most expensive operations here, so each reciprocal is computed once.
    t_squared = 1.0 + sy * sy
    t = np.sqrt(t_squared)
    n = np.sqrt(t_squared + sx * sx)
    over_t = 1.0 / t
    dx = sine * cosine_phi
    dy = sine * sine_phi
    if parent_frame:
        along_t = dx * over_t
        along_n = n * dy * over_t
        wx = sx * cosine - t * dx
        wy = sy * cosine + sx * sy * along_t - along_n
        wz = cosine + sx * along_t + sy * along_n
    else:
        wx = sx * (sy * dy + cosine) * over_t - t * dx
        wy = n * (sy * cosine - dy) * over_t
        wz = sx * dx + sy * dy + cosine
    over_wz = 1.0 / max(abs(wz), _STEEPEST_COSINE * n)
    return wx * over_wz, wy * over_wz
