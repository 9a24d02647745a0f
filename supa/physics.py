"""The step of one particle: its fate, its split and the geometry. Every engine uses these.

A direction is kept as its two slopes (dx/dz, dy/dz), which a pass leaves as they are. Formulas: ``docs/explanation/physics.md``.
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

# A direction steeper than this (89.94 degrees from the axis) is drawn back to it, so that positions stay finite.
_STEEPEST_COSINE = 1e-3


class Walk(NamedTuple):
    """A config's physics as the tables and numbers that compiled code reads."""

    stop_below: FloatArray
    """(num_slices,): a particle stops where its uniform number is below this."""
    split_below: FloatArray
    """(num_slices,): it splits where that number is below this, and passes elsewhere."""
    stop_word: UInt64Array
    """(num_slices,): ``stop_below`` in units of 2**-32, rounded."""
    split_word: UInt64Array
    """(num_slices,): ``split_below`` in units of 2**-32, rounded."""
    layer_of_slice: ByteArray
    """(num_slices,): readout layer of each slice, 255 where it has none."""
    num_layers: int
    slice_spacing: float
    theta_start: float
    theta_span: float
    deviation: float
    balanced: bool
    parent_frame: bool
    critical_energy: float


def build_walk(config: ShowerConfig) -> Walk:
    """Tabulate a config for the engines.

    Args:
        config: the physics.

    Returns:
        The tables.
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
    """Return the layer of every number that a slice's byte can hold.

    Args:
        config: the physics.

    Returns:
        (256,) readout layer, 255 where there is none or no such slice.
    """
    layers = np.full(256, NO_LAYER, dtype=np.uint8)
    for layer, (first, last) in enumerate(config.readout_layers):
        layers[first : min(last + 1, config.num_slices)] = layer
    return layers


def fate_probabilities(config: ShowerConfig) -> tuple[FloatArray, FloatArray]:
    """Return each slice's probabilities of the fates, before any energy cut-off.

    Args:
        config: the physics.

    Returns:
        P(stop) and P(split), each (num_slices,) float64; what is left is P(pass).
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
    """Turn a child's direction, given in its parent's frame, into the frame of the slices.

    With the parent's unit direction (a, b, c) and s = sqrt(1 - a^2), M = [[-s, ab/s, ac/s], [0, -c/s, b/s], [a, b, c]]
    takes the parent's direction to the z axis. The child's direction is M^T d (the parent's frame) or M d (the
    reference's), d = (sine cosine_phi, sine sine_phi, cosine). What would point backwards is mirrored in the slice.

    Args:
        sx: the parent's slope dx/dz.
        sy: the parent's slope dy/dz.
        sine: sine of the angle between parent and child; a negative one is the opposite azimuth.
        cosine: its cosine.
        sine_phi: sine of the azimuth about the parent.
        cosine_phi: its cosine.
        parent_frame: True for M^T, False for M.

    Returns:
        The child's slopes (float64).
    """
    # One reciprocal for several quotients: division is the dearest operation here.
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
