"""Showers that are being sampled, and their hits."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, NamedTuple, Self

import numpy as np

from supa.arrays import Array, BoolArray, IntArray
from supa_mamba.generator.sampling.profiles import Profiles


@dataclass
class Rows:
    """Showers that are being sampled, one for each row. The state of the model has a slot for each of them.

    Args:
        shower: (M,) int64 numbers of the showers in the sample.
        index: (M,) int64 indices of the showers, which determine their random numbers.
        slot: (M,) int64 slots of the state of the model.
        condition: (M, C) float32 conditions.
        count: (M, L) int64 number of hits of each slice.
        energy: (M, L) int64 energy of each slice, in units of 2^-40 of the incident energy.
        profile: (M, 2 L) float32 profile as inputs of the model.
        slice: (M,) int64 slice of the next hit.
        left: (M,) int64 number of this and all later hits of the slice.
        rest: (M,) int64 their energy, in the same unit.
        number: (M,) int64 number of earlier hits.
        number_in_slice: (M,) int64 number of earlier hits in the slice.
        position: (M, 2) float32 position of the previous hit, or 0.
        energy_logit: (M,) float32 energy logit of the previous hit, or 0.
        distance: (M,) float32 distance between the last two hits, or 0.
        sums: (M, 3) int64 sums over the earlier hits; see `HitBatch`.
    """

    shower: IntArray
    index: IntArray
    slot: IntArray
    condition: Array
    count: IntArray
    energy: IntArray
    profile: Array
    slice: IntArray
    left: IntArray
    rest: IntArray
    number: IntArray
    number_in_slice: IntArray
    position: Array
    energy_logit: Array
    distance: Array
    sums: IntArray

    @classmethod
    def entering(cls, shower: IntArray, index: IntArray, slot: IntArray, condition: Array, profiles: Profiles) -> Self:
        """Return showers before their first hits.

        Args:
            shower: (M,) numbers of the showers.
            index: (M,) indices of the showers.
            slot: (M,) slots.
            condition: (M, C) conditions.
            profiles: Their profiles. Each shower has at least one hit.

        Returns:
            The rows.
        """
        count, none = len(shower), np.zeros(len(shower), np.int64)
        first = (profiles.count > 0).argmax(1)
        return cls(
            shower, index, slot, condition, *profiles, first, profiles.count[np.arange(count), first],
            profiles.energy[np.arange(count), first], none, none.copy(), np.zeros((count, 2), np.float32),
            np.zeros(count, np.float32), np.zeros(count, np.float32), np.zeros((count, 3), np.int64),
        )  # fmt: skip

    @classmethod
    def joined(cls, parts: Sequence[Self]) -> Self:
        """Return the rows of several parts.

        Args:
            parts: The parts, at least one.

        Returns:
            All rows in order.
        """
        return cls(*(np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(cls)))

    def part(self, first: int, last: int) -> Self:
        """Return consecutive rows, which share their memory.

        Args:
            first: First row.
            last: Row after the last one.

        Returns:
            The rows.
        """
        return type(self)(*(getattr(self, f.name)[first:last] for f in fields(self)))

    def selected(self, keep: Array) -> Self:
        """Return some of the rows.

        Args:
            keep: (M,) mask.

        Returns:
            Copies of the rows for which the mask is True.
        """
        return type(self)(*(getattr(self, f.name)[keep] for f in fields(self)))


class Hits(NamedTuple):
    """Hits of one step, one for each row.

    Args:
        shower: (M,) int64 numbers of the showers in the sample.
        slice: (M,) int64 slices, numbered from the first slice of the readout layers.
        position: (M, 2) float32 positions in units of `HitCoding.position_scale`.
        energy: (M,) int64 energies in units of 2^-40 of the incident energy.
        is_last: (M,) whether the hit is the last one of its shower.
    """

    shower: IntArray
    slice: IntArray
    position: Array
    energy: IntArray
    is_last: BoolArray

    @classmethod
    def joined(cls, parts: Sequence["Hits"]) -> "Hits":
        """Return the hits of several steps.

        Args:
            parts: Hits of the steps; none for no hits.

        Returns:
            All hits in order.
        """
        if not parts:
            none = np.zeros(0, np.int64)
            return cls(none, none, np.zeros((0, 2), np.float32), none, none.astype(np.bool_))
        return cls(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))

    def part(self, first: int, last: int) -> "Hits":
        """Return the hits of consecutive rows, which share their memory.

        Args:
            first: First row.
            last: Row after the last one.

        Returns:
            The hits.
        """
        parts: list[Any] = [column[first:last] for column in self]
        return Hits(*parts)

    def selected(self, keep: Array) -> "Hits":
        """Return some of the hits.

        Args:
            keep: Mask, or indices.

        Returns:
            Copies of these hits.
        """
        return Hits(*(column[keep] for column in self))
