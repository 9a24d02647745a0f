"""Showers as tensors: columns of hits, and coded sequences of hits."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from supa import Showers

NO_LEAK, PARTIAL_LEAK, ALL_LEAKS = range(3)
"""Values of `HitBatch.leak`."""


class HitColumns(NamedTuple):
    """Columns of showers, as tensors on one device.

    Args:
        offset: (showers + 1,) int64 offsets of the hits.
        slice: (hits,) slice of each hit, in ascending order within a shower.
        x: (hits,) x of each hit (length unit).
        y: (hits,) y of each hit (length unit).
        energy: (hits,) energy of each hit (GeV).
        incident_energy: (showers,) incident energy (GeV).
        leaked_energy: (showers,) energy that left the last slice (GeV).
    """

    offset: Tensor
    slice: Tensor
    x: Tensor
    y: Tensor
    energy: Tensor
    incident_energy: Tensor
    leaked_energy: Tensor

    @classmethod
    def of(cls, showers: Showers) -> "HitColumns":
        """Return the columns of simulated or read showers, without a copy where possible.

        Args:
            showers: The showers.

        Returns:
            Their columns on the CPU.
        """
        columns = showers.hit_columns() | showers.shower_columns()
        return cls(
            torch.from_numpy(showers.offset),
            *(torch.from_numpy(np.ascontiguousarray(columns[name])) for name in cls._fields[1:]),
        )


class HitBatch(NamedTuple):
    """Coded showers.

    The sequence of a shower has a row for each hit. Row t contains hit t, which the model predicts from the rows before
    it.

    Args:
        offset: (S + 1,) int64 offsets.
        condition: (S, C) float32 conditions, standardised.
        leak: (S,) int64: 0 if no energy leaked, 1 if a part leaked, 2 if all of it leaked.
        leak_logit: (S,) float32 ln(leaked energy / deposited energy) if a part leaked, otherwise 0.
        leak_scale: (S,) float32 logarithm of the derivative of the logit with respect to the energy (1 / GeV).
        slice: (T,) int64 slice, numbered from the first slice of the readout layers.
        position: (T, 2) float32 x and y in units of `HitCoding.position_scale`.
        energy_logit: (T,) float32 ln(e / (r - e)) of the energy e of the hit and the energy r of this and all later
            hits; 0 for the last hit, which takes all of r.
        energy_scale: (T,) float32 logarithm of the derivative of the logit with respect to e (1 / GeV); 0 for the last
            hit.
        remaining: (T,) float32 logarithm of r / incident energy.
        is_last: (T,) whether the hit is the last one of its shower.
        number: (T,) int64 number of earlier hits of the shower.
        number_in_slice: (T,) int64 number of earlier hits of the shower in the same slice.

    Example:
        >>> import supa
        >>> from supa_mamba import HitCoding
        >>> showers = supa.simulate(10, "critical", seed=1)
        >>> batch = HitCoding.fit(showers).encode(showers)
        >>> int(batch.is_last.sum())  # one last hit of each shower
        10
    """

    offset: Tensor
    condition: Tensor
    leak: Tensor
    leak_logit: Tensor
    leak_scale: Tensor
    slice: Tensor
    position: Tensor
    energy_logit: Tensor
    energy_scale: Tensor
    remaining: Tensor
    is_last: Tensor
    number: Tensor
    number_in_slice: Tensor
