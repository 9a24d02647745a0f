"""Showers as sequences of hits for an autoregressive generator."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated

import numpy as np
import torch
from torch import Tensor

from supa import ShowerConfig, Showers, from_hits
from supa.checks import check_int, check_real
from supa.serialise import Config
from supa_mamba.generator.conditions import ShowerConditions
from supa_mamba.generator.hits import ALL_LEAKS, NO_LEAK, PARTIAL_LEAK, HitBatch, HitColumns
from supa_mamba.generator.readout import readout_slices
from supa_mamba.generator.shower_checks import check_showers

SHARE_BITS = 40
"""Energies are counted in units of 2^-40 of the incident energy, so that sums over hits are exact and reproducible."""

_LOG_UNIT = SHARE_BITS * math.log(2.0)

FARTHEST = 1000.0
"""Largest coordinate of a hit in sums of energies times positions, in units of `HitCoding.position_scale`."""

_Positive = Annotated[float, partial(check_real, lambda v: v > 0, "above 0")]


@dataclass(frozen=True, kw_only=True)
class HitCoding(Config):
    """Conversion of showers into sequences of hits, and back.

    The energies of the hits of a decoded shower and the leaked energy add up to the incident energy, slices ascend
    within a shower, and every hit is in a slice of a readout layer. These constraints are part of the code, so a model
    cannot violate them.

    Args:
        slices: Slices of the readout layers, in ascending order.
        position_scale: Root mean square of x and y (length unit).
        conditions: Conditions of the showers. ``coding.conditions(config, incident_energy)`` computes them.
        most_hits: Largest number of hits of a training shower. Sampled showers have at most twice as many.
        most_in_slice: Largest number of hits of a slice of a training shower. Sampled slices have at most about
            twice as many.

    Example:
        >>> import supa
        >>> from supa_mamba import HitCoding
        >>> showers = supa.simulate(100, "critical", seed=1)
        >>> coding = HitCoding.fit(showers)
        >>> batch = coding.encode(showers)
        >>> batch.slice.shape == (len(showers.x),)
        True
    """

    slices: tuple[int, ...]
    position_scale: _Positive
    conditions: ShowerConditions
    most_hits: Annotated[int, partial(check_int, 1, 2**31 - 1)]
    most_in_slice: Annotated[int, partial(check_int, 1, 2**31 - 1)]

    @classmethod
    def fit(cls, showers: Showers | Sequence[Showers], fields: Sequence[str] = ()) -> "HitCoding":
        """Fit the coding to training showers.

        Args:
            showers: Training showers, or a list with showers of several configs.
            fields: Names of the conditions beside the incident energy: numerical fields of the config, and ``"preset"``
                to distinguish the configs.

        Returns:
            The coding.

        Raises:
            ValueError: If there are no hits, a name is not a numerical field, configs with different readout layers
                cannot be distinguished, or the showers cannot be coded.
        """
        parts = [part for part in ([showers] if isinstance(showers, Showers) else showers) if len(part)]
        for part in parts:
            check_showers(part)
        if not sum(len(part.x) for part in parts):
            raise ValueError("The showers have no hits, so nothing can be learned from them; provide other showers.")
        position = np.concatenate([np.stack([part.x, part.y]) for part in parts], 1)
        slices = {s for part in parts for s in readout_slices(part.config)}
        return cls(
            slices=tuple(sorted(slices)),
            position_scale=float(np.sqrt(np.square(position, dtype=np.float64).mean())) or 1.0,
            conditions=ShowerConditions.fit(parts, fields),
            most_hits=max(int(part.num_hits.max()) for part in parts),
            most_in_slice=max(map(_most_in_slice, parts)),
        )

    @property
    def num_slices(self) -> int:
        """Number of slices from the first to the last one of the readout layers."""
        return self.slices[-1] - self.slices[0] + 1

    def numbers_of_slices(self, config: ShowerConfig) -> list[int]:
        """Return the slices of the readout layers of a config, numbered from the first slice of the coding.

        Args:
            config: Config of one of the training showers, except for the conditions.

        Returns:
            The numbers in ascending order.
        """
        return [of_slice - self.slices[0] for of_slice in readout_slices(config)]

    def encode(self, showers: Showers) -> HitBatch:
        """Code showers on the CPU.

        Args:
            showers: The showers.

        Returns:
            Their sequences.

        Raises:
            ValueError: If a slice is unknown to the coding, the config does not fit, or the showers cannot be coded.
                Incident energies outside the range of the training showers are allowed.
        """
        check_showers(showers)
        unknown = np.setdiff1d(showers.slice, self.slices)
        if len(unknown):
            raise ValueError(
                f"showers: they have hits in slice {unknown[0]}, but the readout layers of the training showers have "
                f"slices {', '.join(map(str, self.slices))} only."
            )
        columns = HitColumns.of(showers)
        table, number = self.conditions.table([showers.config]), torch.zeros(len(showers), dtype=torch.int64)
        return self.encode_columns(columns, self.conditions.from_table(table, number, columns.incident_energy))

    def encode_columns(self, columns: HitColumns, condition: Tensor) -> HitBatch:
        """Code showers on the device of their columns, without checks and without host-device synchronisation.

        A training on a stream computes the table of conditions of its configs once, and the conditions of the showers
        in each step::

            table = coding.conditions.table(configs, device)
            ...
            condition = coding.conditions.from_table(table, batch["source"], columns.incident_energy)
            coded = coding.encode_columns(columns, condition)

        Args:
            columns: Columns of the showers, which may have different configs.
            condition: (S, C) float32 conditions of the showers.

        Returns:
            Their sequences.
        """
        offset, hits, device = columns.offset, columns.energy.shape[0], columns.energy.device
        counts = offset.diff()
        shower = torch.arange(len(counts), device=device).repeat_interleave(counts, output_size=hits)
        row = torch.arange(hits, device=device)
        incident = columns.incident_energy.double()
        whole = incident[shower]
        of_hit, slices = columns.slice.long() - self.slices[0], self.num_slices
        # Sums of integers are exact, in any order.
        energy = (columns.energy.double() / whole * 2.0**SHARE_BITS).round().long().clamp(min=1)
        place = shower * slices + of_hit
        none = torch.zeros(len(counts) * slices, dtype=torch.int64, device=device)
        count = none.index_add(0, place, torch.ones_like(place)).view(-1, slices)
        in_slice = none.index_add(0, place, energy).view(-1, slices)
        slice_end = (offset[:-1, None] + count.cumsum(1)).view(-1)[place]
        before = torch.nn.functional.pad(energy.cumsum(0), (1, 0))
        rest = before[slice_end] - before[row + 1]
        left = slice_end - row
        energy_logit, energy_scale = _logit_and_scale(energy, rest, left > 1, whole)
        position = torch.stack([columns.x, columns.y], 1).double().div(self.position_scale).float()
        # One flat cumulative sum, because that of three columns is slow on a GPU. Differences remove what is before the
        # first hit of the shower.
        added = weighted_positions(energy, position).T.flatten()
        sums = (added.cumsum(0) - added).view(3, -1)
        return self.encode_profiles(
            count, in_slice, columns.incident_energy, columns.leaked_energy, condition
        )._replace(
            offset=offset,
            slice=of_hit,
            position=position,
            energy_logit=energy_logit,
            energy_scale=energy_scale,
            remaining=((energy + rest).double().log() - _LOG_UNIT).float(),
            left=left,
            number=row - offset[:-1][shower],
            number_in_slice=count.view(-1)[place] - left,
            sums=(sums - sums[:, offset[:-1][shower]]).T,
        )

    def encode_profiles(
        self, count: Tensor, energy: Tensor, incident_energy: Tensor, leaked_energy: Tensor, condition: Tensor
    ) -> HitBatch:
        """Code the leak and the profile of showers without their hits, on the device of the profiles.

        Args:
            count: (S, L) int64 number of hits of each slice, numbered from the first slice of the readout layers.
            energy: (S, L) int64 energy of each slice, in units of 2^-40 of the incident energy.
            incident_energy: (S,) incident energy (GeV).
            leaked_energy: (S,) energy that left the last slice (GeV).
            condition: (S, C) float32 conditions of the showers.

        Returns:
            The showers, with no rows for hits. The likelihoods of leak and profile do not need them.
        """
        device, slices = count.device, self.num_slices
        later = energy.flip(1).cumsum(1).flip(1) - energy
        incident, leaked = incident_energy.double(), leaked_energy.double()
        deposited = (incident - leaked).clamp(min=1e-300)
        slice_logit, slice_scale = _logit_and_scale(energy, later, (count > 0) & (later > 0), incident[:, None])
        none = count.new_zeros(0)
        leak = torch.where(count.sum(1) == 0, ALL_LEAKS, torch.where(leaked > 0, PARTIAL_LEAK, NO_LEAK))
        part = leak == PARTIAL_LEAK
        leaked, deposited = (torch.where(part, x, 1.0) for x in (leaked, deposited))
        return HitBatch(
            offset=count.new_zeros(count.shape[0] + 1),
            condition=condition,
            leak=leak,
            leak_logit=(leaked.log() - deposited.log()).float(),
            leak_scale=torch.where(part, incident.log() - leaked.log() - deposited.log(), 0.0).float(),
            count=count,
            slice_energy=torch.where(count > 0, energy.clamp(min=1).double().log() - _LOG_UNIT, 0.0).float(),
            slice_remaining=((energy + later).clamp(min=1).double().log() - _LOG_UNIT).float(),
            slice_logit=slice_logit,
            slice_scale=slice_scale,
            last_slice=torch.where(count > 0, torch.arange(slices, device=device), -1).amax(1),
            slice=none,
            position=condition.new_zeros(0, 2),
            energy_logit=condition.new_zeros(0),
            energy_scale=condition.new_zeros(0),
            remaining=condition.new_zeros(0),
            left=none,
            number=none,
            number_in_slice=none,
            sums=count.new_zeros(0, 3),
        )

    def decode(self, batch: HitBatch, config: ShowerConfig, incident_energy: Tensor) -> Showers:
        """Convert coded showers back.

        Args:
            batch: Coded showers.
            config: Config of the showers.
            incident_energy: (S,) incident energies (GeV).

        Returns:
            The showers, with the engine ``"imported"``.

        Raises:
            ValueError: If a value is impossible for a shower of this config.
        """
        batch, whole = batch.to("cpu"), incident_energy.double().cpu()
        energy = batch.remaining.double().exp() * whole.repeat_interleave(batch.offset.diff())
        energy = torch.where(batch.left == 1, energy, energy * torch.sigmoid(batch.energy_logit.double()))
        of_part = torch.sigmoid(batch.leak_logit.double())
        leaked = torch.where(batch.leak == PARTIAL_LEAK, of_part, (batch.leak == ALL_LEAKS).double()) * whole
        x, y = (batch.position.double() * self.position_scale).unbind(1)
        return from_hits(
            config,
            offset=batch.offset.numpy(),
            incident_energy=whole.numpy(),
            x=x.numpy(),
            y=y.numpy(),
            energy=energy.numpy(),
            slice=(batch.slice + self.slices[0]).numpy(),
            leaked_energy=leaked.numpy(),
        )


def weighted_positions(energy: Tensor, position: Tensor) -> Tensor:
    """Return energies and their products with positions, as integers whose sums are exact.

    Args:
        energy: (T,) int64 energies in units of 2^-40 of the incident energy.
        position: (T, 2) float32 positions.

    Returns:
        (T, 3) int64 e, e x and e y. Coordinates beyond `FARTHEST` are clipped, so that sums do not overflow.
    """
    clipped = position.double().clamp(-FARTHEST, FARTHEST)
    return torch.cat([energy[:, None], (energy[:, None] * clipped + 0.5).floor().long()], 1)


def _logit_and_scale(part: Tensor, others: Tensor, mask: Tensor, incident: Tensor) -> tuple[Tensor, Tensor]:
    """Return the logit of a share, and the logarithm of its derivative with respect to the energy, or 0 without a mask.

    Args:
        part: Int64 energies, in units of 2^-40 of the incident energy.
        others: Int64 energies of the rest, in the same unit.
        mask: Where there is a share.
        incident: Float64 incident energies (GeV).

    Returns:
        Float32 logits, and float32 logarithms (1 / GeV).
    """
    of_part, of_others = (x.clamp(min=1).double().log() for x in (part, others))
    scale = (part + others).clamp(min=1).double().log() - of_part - of_others - incident.log() + _LOG_UNIT
    logit, log_scale = (torch.where(mask, x, 0.0).float() for x in (of_part - of_others, scale))
    return logit, log_scale


def _most_in_slice(showers: Showers) -> int:
    """Return the largest number of hits of a slice of a shower."""
    number = int(showers.slice.max(initial=0)) + 1
    place = np.repeat(np.arange(len(showers)), showers.num_hits) * number + showers.slice
    return int(np.bincount(place, minlength=1).max())
