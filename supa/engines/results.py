"""What every engine gives back."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from supa.arrays import BoolArray, ByteArray, FloatArray, IntArray


class WalkResult(NamedTuple):
    """The hits, and where recorded the particles, of the showers that an engine kept."""

    too_large: int
    """Number of a shower that outgrew the memory, -1 if none did; then the rest is worthless."""
    kept: BoolArray
    """(attempts,): which attempts were kept."""
    num_hits: IntArray
    """(attempts,)."""
    num_particles: IntArray
    """(attempts,): 0 unless recorded."""
    leaked_energy: FloatArray
    """(attempts,): GeV."""
    x: FloatArray
    """(hits,): of the kept showers, by shower, then slice, then creation."""
    y: FloatArray
    energy: FloatArray
    slice: ByteArray
    layer: ByteArray
    primary: ByteArray
    particle_x: FloatArray
    """(particles,): likewise."""
    particle_y: FloatArray
    particle_energy: FloatArray
    particle_parent: npt.NDArray[np.int32]
    """Number of the parent in its shower, -1 for a primary."""
    particle_slice: ByteArray
    particle_fate: ByteArray
    particle_primary: ByteArray
