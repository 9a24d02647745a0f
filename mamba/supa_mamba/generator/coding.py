"""Showers as sequences of hits for an autoregressive generator."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated, NamedTuple

import numpy as np
import torch
from torch import Tensor

from supa import ShowerConfig, Showers, from_hits
from supa.checks import check_real
from supa.serialise import Config

_SHARE_BITS = 40
"""Energies are counted in units of 2^-40 of the incident energy, so that sums over hits are exact and reproducible."""

_ENERGY_TOLERANCE = 1e-4
"""Largest difference between the energies of a shower and its incident energy, relative, for float32 energies."""

_Positive = Annotated[float, partial(check_real, lambda v: v > 0, "above 0")]

NO_LEAK, PARTIAL_LEAK, ALL_LEAKS = range(3)


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


@dataclass(frozen=True, kw_only=True)
class HitCoding(Config):
    """Conversion of showers into sequences of hits, and back.

    The energies of the hits of a decoded shower and the leaked energy add up to the incident energy, slices ascend
    within a shower, and every hit is in a slice of a readout layer. These constraints are part of the code, so a model
    cannot violate them.

    Args:
        slices: Slices of the readout layers, in ascending order.
        position_scale: Root mean square of x and y (length unit).
        fields: Names of numerical fields of the config that are conditions, beside the incident energy.
        means: Means of the conditions: of the logarithm of the incident energy, and of each field.
        deviations: Standard deviations of the conditions; 1 for a constant.
        energies: Lowest and highest incident energy of the training showers (GeV).

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
    fields: tuple[str, ...]
    means: tuple[float, ...]
    deviations: tuple[float, ...]
    energies: tuple[float, float]

    @classmethod
    def fit(cls, showers: Showers | Sequence[Showers], fields: Sequence[str] = ()) -> "HitCoding":
        """Fit the coding to training showers.

        Args:
            showers: Training showers, or a list with showers of several configs.
            fields: Names of numerical fields of the config that the model is conditioned on.

        Returns:
            The coding.

        Raises:
            ValueError: If there are no hits, a name is not a numerical field, or the showers cannot be coded.
        """
        parts = [showers] if isinstance(showers, Showers) else list(showers)
        for part in parts:
            _check(part)
        if not sum(len(part.x) for part in parts):
            raise ValueError("The showers have no hits, so nothing can be learned from them; provide other showers.")
        for part in parts:
            _check_fields(part.config, fields)
        conditions = torch.cat([
            _conditions(part.config, torch.tensor(part.incident_energy), fields) for part in parts
        ]).numpy()  # fmt: skip
        position = np.concatenate([np.stack([part.x, part.y]) for part in parts], 1)
        deviations = conditions.std(0)
        energies = np.concatenate([part.incident_energy for part in parts])
        slices = {s for part in parts for first, last in part.config.readout_layers for s in range(first, last + 1)}
        return cls(
            slices=tuple(sorted(slices)),
            position_scale=float(np.sqrt(np.square(position, dtype=np.float64).mean())) or 1.0,
            fields=tuple(fields),
            means=tuple(conditions.mean(0).tolist()),
            deviations=tuple(np.where(deviations > 1e-9, deviations, 1.0).tolist()),
            energies=(float(energies.min()), float(energies.max())),
        )

    @property
    def num_slices(self) -> int:
        """Number of slices from the first to the last one of the readout layers."""
        return self.slices[-1] - self.slices[0] + 1

    @property
    def num_conditions(self) -> int:
        """Number of conditions."""
        return len(self.means)

    def conditions(self, config: ShowerConfig, incident_energy: Tensor) -> Tensor:
        """Compute the conditions of showers.

        Args:
            config: Config of the showers.
            incident_energy: (S,) incident energies (GeV).

        Returns:
            (S, C) float32 conditions, standardised.
        """
        values = _conditions(config, incident_energy, self.fields).unbind(1)
        pairs = zip(values, self.means, self.deviations, strict=True)
        return torch.stack([(value - mean) / deviation for value, mean, deviation in pairs], 1).float()

    def encode(self, showers: Showers) -> HitBatch:
        """Code showers on the CPU.

        Args:
            showers: The showers.

        Returns:
            Their sequences.

        Raises:
            ValueError: If a slice is unknown to the coding, or the showers cannot be coded.
        """
        _check(showers)
        unknown = np.setdiff1d(showers.slice, self.slices)
        if len(unknown):
            raise ValueError(
                f"showers: they have hits in slice {unknown[0]}, but the readout layers of the training showers have "
                f"slices {', '.join(map(str, self.slices))} only."
            )
        return self.encode_columns(HitColumns.of(showers), showers.config)

    def encode_columns(self, columns: HitColumns, config: ShowerConfig) -> HitBatch:
        """Code showers on the device of their columns, without checks and without host-device synchronisation.

        Args:
            columns: Columns of the showers.
            config: Config of the showers.

        Returns:
            Their sequences.
        """
        offset, hits, device = columns.offset, columns.energy.shape[0], columns.energy.device
        counts = offset.diff()
        shower = torch.arange(len(counts), device=device).repeat_interleave(counts, output_size=hits)
        row = torch.arange(hits, device=device)
        end = offset[1:][shower]
        incident = columns.incident_energy.double()
        whole = incident[shower]
        # Sums of integers are exact, in any order.
        energy = (columns.energy.double() / whole * 2.0**_SHARE_BITS).round().long().clamp(min=1)
        before = torch.nn.functional.pad(energy.cumsum(0), (1, 0))
        rest = before[end] - before[row + 1]
        is_last = row + 1 == end
        log_energy, log_rest = energy.double().log(), rest.clamp(min=1).double().log()
        log_sum = (energy + rest).double().log()
        of_hit = columns.slice.long() - self.slices[0]
        number = row - offset[:-1][shower]
        begins = (number == 0) | (of_hit != of_hit.roll(1))
        leaked, deposited = columns.leaked_energy.double(), incident - columns.leaked_energy.double()
        leak = torch.where(counts == 0, ALL_LEAKS, torch.where(leaked > 0, PARTIAL_LEAK, NO_LEAK))
        part = leak == PARTIAL_LEAK
        leaked, deposited = (torch.where(part, x, 1.0) for x in (leaked, deposited.clamp(min=1e-300)))
        return HitBatch(
            offset=offset,
            condition=self.conditions(config, columns.incident_energy),
            leak=leak,
            leak_logit=(leaked.log() - deposited.log()).float(),
            leak_scale=torch.where(part, incident.log() - leaked.log() - deposited.log(), 0.0).float(),
            slice=of_hit,
            position=torch.stack([columns.x, columns.y], 1).double().div(self.position_scale).float(),
            energy_logit=torch.where(is_last, 0.0, log_energy - log_rest).float(),
            energy_scale=torch.where(
                is_last, 0.0, log_sum - log_energy - log_rest - whole.log() + _SHARE_BITS * math.log(2.0)
            ).float(),
            remaining=(log_sum - _SHARE_BITS * math.log(2.0)).float(),
            is_last=is_last,
            number=number,
            number_in_slice=row - torch.where(begins, row, 0).cummax(0).values if hits else row,
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
        batch, whole = HitBatch(*(column.cpu() for column in batch)), incident_energy.double().cpu()
        energy = batch.remaining.double().exp() * whole.repeat_interleave(batch.offset.diff())
        energy = torch.where(batch.is_last, energy, energy * torch.sigmoid(batch.energy_logit.double()))
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


def _check(showers: Showers) -> None:
    if not showers.slices_known:
        raise ValueError("The slices of the hits are unknown, but a generator needs them; see supa.from_hits.")
    if np.isnan(showers.leaked_energy).any():
        raise ValueError("The leaked energy is unknown, but a generator needs it; pass leaked_energy to from_hits.")
    if len(showers.energy) and not showers.energy.min() > 0:
        raise ValueError("A hit has an energy of 0, but a generator needs energies above 0; remove such hits.")
    shower = np.repeat(np.arange(len(showers)), showers.num_hits)
    found = np.bincount(shower, showers.energy, len(showers)) + showers.leaked_energy
    wrong = np.flatnonzero(np.abs(found - showers.incident_energy) > _ENERGY_TOLERANCE * showers.incident_energy)
    if len(wrong):
        raise ValueError(
            f"The hits of shower {wrong[0]} and its leaked energy have {found[wrong[0]]:g} GeV, but the incident "
            f"energy is {showers.incident_energy[wrong[0]]:g} GeV. A generator needs showers whose energies add up."
        )


def _check_fields(config: ShowerConfig, fields: Sequence[str]) -> None:
    for name in fields:
        value = getattr(config, name, None)
        if isinstance(value, bool) or not isinstance(value, int | float):
            allowed = [key for key, of_key in vars(config).items() if type(of_key) in (int, float)]
            raise ValueError(
                f"fields: {name!r} was given, but it must be a numerical field of the config: {', '.join(allowed)}."
            )


def _conditions(config: ShowerConfig, incident_energy: Tensor, fields: Sequence[str]) -> Tensor:
    """Return the conditions of showers before the standardisation, (S, C) float64."""
    values = [incident_energy.double().log()]
    values += [torch.full_like(values[0], float(getattr(config, name))) for name in fields]
    return torch.stack(values, 1)
