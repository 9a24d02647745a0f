"""The engine ``reference``, which reproduces the public reference code with one sequential random stream.

Compared with itsdaniele/SUPA (commit d36ced6), the engine makes the same draws in the same order from MT19937 with
legacy seeding. The fates are equal, the energies are bit-identical, and the positions agree to the rounding errors of
the matrix products. The draws of a shower start where those of the previous shower end, so all previous showers must be
simulated, too.
"""

import math
from typing import Any

import numpy as np

from supa.compiler import kernel
from supa.engines.results import WalkResult
from supa.physics import LEAK, PASS, SPLIT, STOP, Walk, child_slopes
from supa.primaries import Primaries

MAX_SEED = 2**32 - 1


class ReferenceStream:
    """Simulation with the sequential random stream of the reference code.

    Args:
        walk: Physics of the showers.
        seed: Random seed from 0 to 2**32 - 1.
    """

    def __init__(self, walk: Walk, seed: int) -> None:
        self._walk = walk
        # A separate generator instead of NumPy's global one. It draws the same doubles as the legacy np.random.random.
        self._generator = np.random.Generator(np.random.RandomState(seed)._bit_generator)

    def walk_showers(
        self, primaries: Primaries, *, complete_only: bool, record: bool, max_particles: int
    ) -> WalkResult:
        """Simulate the next showers of the stream.

        Args:
            primaries: Initial conditions of the showers.
            complete_only: Whether to drop showers that leave a readout layer empty. They also consume random numbers.
            record: Whether to record all particles in addition to the hits.
            max_particles: Maximum number of particles in one shower.

        Returns:
            Hits and particles, ordered by shower, then slice, then creation.
        """
        too_large, kept, num_particles, leaked, reals, codes = _walk(
            self._walk, self._generator, primaries, complete_only, max_particles
        )
        parent, slice_, fate, primary = codes.T
        x, y, energy = reals.T
        stopped = fate == STOP
        shower = np.repeat(np.arange(len(kept)), np.where(kept, num_particles, 0))
        recorded = slice(None if record else 0)
        return WalkResult(
            too_large=too_large,
            kept=kept,
            num_hits=np.bincount(shower[stopped], minlength=len(kept)),
            num_particles=num_particles,
            leaked_energy=leaked,
            x=x[stopped],
            y=y[stopped],
            energy=energy[stopped],
            slice=slice_[stopped].astype(np.uint8),
            layer=self._walk.layer_of_slice[slice_[stopped]],
            primary=primary[stopped].astype(np.uint8),
            particle_x=x[recorded].copy(),
            particle_y=y[recorded].copy(),
            particle_energy=energy[recorded].copy(),
            particle_parent=parent[recorded].astype(np.int32),
            particle_slice=slice_[recorded].astype(np.uint8),
            particle_fate=fate[recorded].astype(np.uint8),
            particle_primary=primary[recorded].astype(np.uint8),
        )


@kernel
def _walk(
    walk: Walk,
    generator: np.random.Generator,
    primaries: Primaries,
    complete_only: bool,
    max_particles: int,
) -> Any:
    num_showers, num_slices, dz = len(primaries.incident_energy), len(walk.stop_below), walk.slice_spacing
    reals = np.empty((1024, 3))  # x, y, energy
    slopes = np.empty((1024, 2))
    codes = np.empty((1024, 4), np.int64)  # parent, slice, fate, primary
    kept = np.zeros(num_showers, np.bool_)
    num_particles = np.zeros(num_showers, np.int64)
    leaked = np.zeros(num_showers)
    hits_of_layer = np.empty(walk.num_layers, np.int64)
    end = 0
    for k in range(num_showers):
        hits_of_layer[:] = 0
        first = end
        for p in range(primaries.offset[k], primaries.offset[k + 1]):
            if end == len(reals):
                reals, slopes, codes = _taller(reals, end + 2), _taller(slopes, end + 2), _taller(codes, end + 2)
            reals[end, 0], reals[end, 1], reals[end, 2] = primaries.x[p], primaries.y[p], primaries.energy[p]
            slopes[end, 0], slopes[end, 1] = primaries.slope_x[p], primaries.slope_y[p]
            codes[end, 0], codes[end, 1], codes[end, 3] = -1, 0, p - primaries.offset[k]
            end += 1
        at = first
        while at < end:
            if end - first > max_particles:
                return k, np.zeros_like(kept), num_particles, leaked, reals[:0], codes[:0]
            if end + 2 > len(reals):
                reals, slopes, codes = _taller(reals, end + 2), _taller(slopes, end + 2), _taller(codes, end + 2)
            l, energy = codes[at, 1], reals[at, 2]
            if l == num_slices:
                codes[at, 2] = LEAK
                leaked[k] += energy
                at += 1
                continue
            u = generator.random()
            if u < walk.stop_below[l] or energy < walk.critical_energy:
                codes[at, 2] = STOP
                hits_of_layer[walk.layer_of_slice[l]] += 1
                children = 0
            elif u < walk.split_below[l]:
                codes[at, 2] = SPLIT
                theta = walk.theta_start + walk.theta_span * generator.random()
                half = walk.deviation * theta
                delta = -half + (half + half) * generator.random()
                phi = 2.0 * math.pi * generator.random()
                theta_1, theta_2 = theta / 2 - delta, theta / 2 + delta
                sine, cosine = math.sin(phi), math.cos(phi)
                slopes[end, 0], slopes[end, 1] = child_slopes(
                    slopes[at, 0], slopes[at, 1], math.sin(theta_1), math.cos(theta_1), sine, cosine, walk.parent_frame
                )
                slopes[end + 1, 0], slopes[end + 1, 1] = child_slopes(
                    slopes[at, 0], slopes[at, 1], -math.sin(theta_2), math.cos(theta_2), sine, cosine, walk.parent_frame
                )
                reals[end, 2] = theta_2 / theta * energy if walk.balanced else 0.5 * energy
                reals[end + 1, 2] = theta_1 / theta * energy if walk.balanced else 0.5 * energy
                children = 2
            else:
                codes[at, 2] = PASS
                slopes[end, 0], slopes[end, 1] = slopes[at, 0], slopes[at, 1]
                reals[end, 2] = energy
                children = 1
            for child in range(end, end + children):
                reals[child, 0] = reals[at, 0] + dz * slopes[child, 0]
                reals[child, 1] = reals[at, 1] + dz * slopes[child, 1]
                codes[child, 0], codes[child, 1], codes[child, 3] = at - first, l + 1, codes[at, 3]
            end += children
            at += 1
        num_particles[k] = end - first
        kept[k] = not complete_only or np.all(hits_of_layer > 0)
        if not kept[k]:
            end = first
    return -1, kept, num_particles, leaked, reals[:end], codes[:end]


@kernel
def _taller(rows: Any, height: int) -> Any:
    """Copy rows into a new array with at least this many rows and at least twice as many as before."""
    higher = np.empty((max(height, 2 * rows.shape[0]), rows.shape[1]), dtype=rows.dtype)
    higher[: rows.shape[0]] = rows
    return higher
