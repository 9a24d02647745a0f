"""Showers of a sample in blocks: what is chosen before their hits, and their assembly from hits."""

from dataclasses import dataclass, replace

import numpy as np
import torch

from supa import Run, Showers, from_hits
from supa.arrays import Array, FloatArray, IntArray
from supa.primaries import draw_primaries
from supa.ragged import counts_to_offsets
from supa_mamba.generator.coding import SHARE_BITS, HitCoding
from supa_mamba.generator.sampling.leaks import LeakSampler
from supa_mamba.generator.sampling.rows import Hits

UNIT = 256
"""Conditions are computed for this many showers at once. The index of the first one is a multiple of this number, so
that the vectorised conversion of a shower's conditions does not depend on where a sample begins."""


@dataclass
class Block:
    """Consecutive showers of a sample.

    Args:
        start: Number of the first shower.
        stop: Number after the last shower.
        incident_energy: (n,) float64 incident energies (GeV).
        condition: (n, C) float32 conditions.
        energy: (n,) int64 deposited energies in units of 2^-40 of the incident energies.
        waiting: Numbers of the showers that have hits and have not been sampled.
    """

    start: int
    stop: int
    incident_energy: FloatArray
    condition: Array
    energy: IntArray
    waiting: IntArray

    @classmethod
    def prepared(
        cls, leaks: LeakSampler, coding: HitCoding, run: Run, num_showers: int, start: int, units: int
    ) -> "Block":
        """Draw the incident energies of the next showers, and choose how much of them leaks.

        Args:
            leaks: Choice of the leaks.
            coding: Coding of the model.
            run: The sample.
            num_showers: Number of showers of the sample.
            start: Number of the first shower of the block.
            units: Number of units of 256 showers. The block ends where the last one ends, or with the sample.

        Returns:
            The block.
        """
        first = run.first + start
        begin = first // UNIT * UNIT
        stop = min(begin + units * UNIT - run.first, num_showers)
        incidents, conditions = [], []
        for unit in range(begin, max(run.first + stop, begin + 1), UNIT):
            incidents.append(draw_primaries(run.config, leaks.seed, np.arange(unit, unit + UNIT)).incident_energy)
            conditions.append(coding.conditions(run.config, torch.from_numpy(incidents[-1])).numpy())
        wanted = slice(first - begin, run.first + stop - begin)
        incident, condition = np.concatenate(incidents)[wanted], np.concatenate(conditions)[wanted]
        energy = leaks(np.arange(first, run.first + stop), condition)
        return cls(start, stop, incident, condition, energy, start + np.flatnonzero(energy))

    def showers(self, hits: Hits, coding: HitCoding, run: Run) -> Showers:
        """Return the showers of the block.

        Args:
            hits: All of their hits, in any order of showers.
            coding: Coding of the model.
            run: The sample.

        Returns:
            The showers.
        """
        hits = hits.selected(np.argsort(hits.shower, kind="stable"))
        place, incident, unit = hits.shower - self.start, self.incident_energy, 2.0**-SHARE_BITS
        position = np.multiply(hits.position, coding.position_scale, dtype=np.float32)
        showers = from_hits(
            run.config,
            offset=counts_to_offsets(np.bincount(place, minlength=self.stop - self.start)),
            incident_energy=incident,
            x=position[:, 0],
            y=position[:, 1],
            energy=hits.energy * unit * incident[place],
            slice=hits.slice + coding.slices[0],
            index=run.first + np.arange(self.start, self.stop),
            leaked_energy=((1 << SHARE_BITS) - self.energy) * unit * incident,
        )
        return replace(showers, run=replace(run, attempts=len(showers)))
