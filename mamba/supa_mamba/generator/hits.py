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

    A shower consists of its leak, of its longitudinal profile, which is the number and the energy of the hits of each
    slice, and of a sequence with a row for each hit. Row t contains hit t, which the model predicts from the leak, the
    profile and the rows before it.

    Args:
        offset: (S + 1,) int64 offsets.
        condition: (S, C) float32 conditions, standardised.
        leak: (S,) int64: 0 if no energy leaked, 1 if a part leaked, 2 if all of it leaked.
        leak_logit: (S,) float32 ln(leaked energy / deposited energy) if a part leaked, otherwise 0.
        leak_scale: (S,) float32 logarithm of the derivative of the logit with respect to the energy (1 / GeV).
        count: (S, L) int64 number of hits of each slice, numbered from the first slice of the readout layers.
        slice_energy: (S, L) float32 logarithm of the energy of each slice over the incident energy; 0 without hits.
        slice_remaining: (S, L) float32 logarithm of the energy r of this and all later slices over the incident energy.
        slice_logit: (S, L) float32 ln(e / (r - e)) of the energy e of the slice; 0 without hits, and for the last slice
            with hits, which takes all of r.
        slice_scale: (S, L) float32 logarithm of the derivative of the logit with respect to e (1 / GeV), or 0.
        last_slice: (S,) int64 last slice with hits, or -1.
        slice: (T,) int64 slice of each hit.
        position: (T, 2) float32 x and y in units of `HitCoding.position_scale`.
        energy_logit: (T,) float32 ln(e / (r - e)) of the energy e of the hit and the energy r of this and all later
            hits of the slice; 0 for the last hit of a slice, which takes all of r.
        energy_scale: (T,) float32 logarithm of the derivative of the logit with respect to e (1 / GeV), or 0.
        remaining: (T,) float32 logarithm of r / incident energy.
        left: (T,) int64 number of this and all later hits of the slice.
        number: (T,) int64 number of earlier hits of the shower.
        number_in_slice: (T,) int64 number of earlier hits of the shower in the same slice.
        sums: (T, 3) int64 sums of e, e x and e y over the earlier hits of the shower, in units of 2^-40 of the incident
            energy and of `HitCoding.position_scale`.

    Example:
        >>> import supa
        >>> from supa_mamba import HitCoding
        >>> showers = supa.simulate(10, "critical", seed=1)
        >>> batch = HitCoding.fit(showers).encode(showers)
        >>> int(batch.count.sum()) == len(showers.x)
        True
    """

    offset: Tensor
    condition: Tensor
    leak: Tensor
    leak_logit: Tensor
    leak_scale: Tensor
    count: Tensor  # type: ignore[assignment]
    slice_energy: Tensor
    slice_remaining: Tensor
    slice_logit: Tensor
    slice_scale: Tensor
    last_slice: Tensor
    slice: Tensor
    position: Tensor
    energy_logit: Tensor
    energy_scale: Tensor
    remaining: Tensor
    left: Tensor
    number: Tensor
    number_in_slice: Tensor
    sums: Tensor

    def to(self, device: torch.device | str) -> "HitBatch":
        """Copy the showers to a device.

        Args:
            device: The device.

        Returns:
            The copy, or the same tensors if they are there already.

        Example:
            >>> import supa
            >>> from supa_mamba import HitCoding
            >>> showers = supa.simulate(10, "critical", seed=1)
            >>> HitCoding.fit(showers).encode(showers).to("cpu").sums.device.type
            'cpu'
        """
        return HitBatch(*(column.to(device) for column in self))
