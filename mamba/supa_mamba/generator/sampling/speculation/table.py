"""A draft without a network: a law of the next hit for each slice, fitted to showers of the model."""

import math
from typing import Any

import torch
from torch import Tensor

from supa_mamba.generator.hits import HitBatch
from supa_mamba.generator.mixtures import NormalMixture, PlaneMixture
from supa_mamba.generator.model import Previous, previous_of

COMPONENTS, PLANE, RINGS = 4, 6, 4
"""Numbers of components of the mixtures of a table."""

STEPS = 200
"""Steps of the fit of a table."""

_ROWS, _RATE = 2048, 0.1
_BIN_EDGES = (-1.0, 0.0, 1.0)
"""Edges of bins of the share of the energy that a hit has taken, on which the position depends."""


class DraftTable:
    """A law of the next hit for each slice, and for first and second siblings.

    The mixture for the energy logit is shifted by the logarithm of the number of later hits of the slice, which share
    the rest. The mixture for the position also depends on the energy of the hit in four bins.

    Args:
        energy: (2 L, 3 K) parameters of the mixtures for the energy logit.
        position: (8 L, 7 K + 5 J) parameters of the mixtures for the position.
    """

    def __init__(self, energy: Tensor, position: Tensor) -> None:
        self.energy, self.position = energy, position

    def to(self, device: torch.device) -> "DraftTable":
        """Return the table on a device.

        Args:
            device: The device.

        Returns:
            The table.
        """
        return DraftTable(self.energy.to(device), self.position.to(device))

    def known(self, before: Previous) -> Tensor:
        """Return what the table is asked for.

        Args:
            before: What is known before M hits.

        Returns:
            (M, 2) float64 row of the table for the energy, and logarithm of the number of later hits of the slice.
        """
        row = 2 * before.slice + before.number_in_slice % 2
        return torch.stack([row.double(), torch.log((before.left - 1).clamp(min=1).double())], 1)

    @classmethod
    def fitted(cls, batch: HitBatch) -> "DraftTable":
        """Fit a table to showers.

        Args:
            batch: Coded showers, on the CPU.

        Returns:
            The table. It is the same for any number of threads.
        """
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            return cls._fitted(batch)
        finally:
            torch.set_num_threads(threads)

    @classmethod
    def _fitted(cls, batch: HitBatch) -> "DraftTable":
        slices, generator = batch.count.shape[1], torch.Generator().manual_seed(0)
        energy = _spread(2 * slices, 3 * COMPONENTS, COMPONENTS, generator)
        position = _spread(2 * (len(_BIN_EDGES) + 1) * slices, 7 * PLANE + 5 * RINGS, PLANE, generator)
        position[:, 7 * PLANE + RINGS : 7 * PLANE + 3 * RINGS] -= 2.0  # as in `ShowerGenerator`
        table = cls(energy.requires_grad_(), position.requires_grad_())
        law, previous = TableLaw(table), previous_of(batch)
        optimizer = torch.optim.Adam([energy, position], _RATE)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, _RATE, total_steps=STEPS)
        hits = len(batch.slice)
        for _ in range(STEPS):
            rows = torch.randint(hits, (min(_ROWS, hits),), generator=generator)
            before = Previous(*(column[rows] for column in previous))
            known, logit = table.known(before), batch.energy_logit[rows]
            of_energy = torch.where(before.left == 1, 0.0, NormalMixture.of(law.energy(known)).log_density(logit))
            chosen = torch.stack([logit, logit], 1)
            plane = PlaneMixture.of(law.position(known, chosen), before.position, RINGS)
            loss = -(of_energy + plane.log_density(batch.position[rows])).mean()
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()
            schedule.step()
        return cls(energy.detach(), position.detach())


class TableLaw:
    """Law of the next hit from a table.

    Args:
        table: The table.
    """

    rings = RINGS

    def __init__(self, table: DraftTable) -> None:
        self._table = table

    def energy(self, known: Tensor) -> Tensor:
        """Return the parameters for the energy logit.

        Args:
            known: (M, 2) results of `DraftTable.known`.

        Returns:
            (M, 3 K) parameters.
        """
        logit, mean, scale = self._table.energy[known[:, 0].long()].chunk(3, dim=1)
        return torch.cat([logit, mean - known[:, 1:].float(), scale], 1)

    def position(self, known: Tensor, chosen: Tensor) -> Tensor:
        """Return the parameters for the position.

        Args:
            known: (M, 2) results of `DraftTable.known`.
            chosen: (M, 2) energy logit, and logarithm of the energy.

        Returns:
            (M, 7 K + 5 J) parameters.
        """
        share = chosen[:, 0] + known[:, 1].float()
        return self._table.position[energy_bin(known[:, 0].long(), share)]


def energy_bin(row: Any, share: Any) -> Any:
    """Return the row of a table for the position.

    Args:
        row: (M,) int64 row of the table for the energy, as a tensor or an array.
        share: (M,) energy logit, with the logarithm of the number of later hits added.

    Returns:
        (M,) int64 row.
    """
    place = sum((share >= edge) + 0 * row for edge in _BIN_EDGES)
    return row * (len(_BIN_EDGES) + 1) + place


def _spread(rows: int, features: int, components: int, generator: Any) -> Tensor:
    """Return parameters whose components differ: means are random, and standard deviations are about 1."""
    found = torch.zeros(rows, features)
    found[:, components : 2 * components] = torch.linspace(-1.5, 1.5, components)
    if features > 3 * components:
        angle = torch.arange(components) * (2 * math.pi / components)
        found[:, components : 2 * components], found[:, 2 * components : 3 * components] = angle.cos(), angle.sin()
    return found + 0.01 * torch.randn(found.shape, generator=generator)
