"""The result of an engine."""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from supa.arrays import BoolArray, ByteArray, FloatArray, IntArray


class WalkResult(NamedTuple):
    """Hits and, if recorded, particles of the showers that an engine kept."""

    too_large: int
    """Number of a shower that did not fit into memory, or -1. If it is not -1, the other fields are invalid."""
    kept: BoolArray
    """(attempts,) bool, True for showers that were kept."""
    num_hits: IntArray
    """(attempts,) int64, number of hits."""
    num_particles: IntArray
    """(attempts,) int64, number of recorded particles."""
    leaked_energy: FloatArray
    """(attempts,) float64, energy that left the last slice (GeV)."""
    x: FloatArray
    """(hits,) hits of the kept showers, ordered by shower, then slice, then creation, as in the next five fields."""
    y: FloatArray
    energy: FloatArray
    slice: ByteArray
    layer: ByteArray
    primary: ByteArray
    particle_x: FloatArray = np.empty(0)
    """(particles,) recorded particles in the same order, as in the next six fields."""
    particle_y: FloatArray = np.empty(0)
    particle_energy: FloatArray = np.empty(0)
    particle_parent: npt.NDArray[np.int32] = np.empty(0, np.int32)
    """Number of the parent in the shower; -1 for a primary."""
    particle_slice: ByteArray = np.empty(0, np.uint8)
    particle_fate: ByteArray = np.empty(0, np.uint8)
    particle_primary: ByteArray = np.empty(0, np.uint8)

    def columns(self) -> dict[str, Any]:
        """Return the columns of hits and particles by field name, without empty ones."""
        return {name: getattr(self, name) for name in self._fields[5:] if len(getattr(self, name))}
