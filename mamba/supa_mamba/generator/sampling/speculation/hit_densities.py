"""Proposals of hits, and their densities under two laws, in float64.

A hit is a value of the energy logit and a position, both before they are rounded. Rounding is the same function for
both laws, so the ratio of the densities before it decides exactly which hits are accepted.
"""

from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from supa_mamba.generator.mixtures import NormalMixture, PlaneMixture
from supa_mamba.generator.model import Previous, ShowerGenerator
from supa_mamba.generator.sampling.choices import remaining_of
from supa_mamba.ops.row_linear.function import row_linear, row_perceptron


class Proposal(NamedTuple):
    """Proposed hits.

    Args:
        value: (M,) float64 sample of the mixture for the energy logit.
        place: (M, 2) float64 sample of the mixture for the position.
        energy: (M,) int64 energies, in units of 2^-40 of the incident energy.
        energy_logit: (M,) float32 energy logits of these energies.
        position: (M, 2) float32 positions.
    """

    value: Tensor
    place: Tensor
    energy: Tensor
    energy_logit: Tensor
    position: Tensor


class HitLaw(Protocol):
    """Law of the next hit, as parameters of the mixtures of `NormalMixture.of` and `PlaneMixture.of`."""

    rings: int

    def energy(self, known: Tensor) -> Tensor:
        """Return the (M, 3 K) parameters for the energy logit, from what is known of M hits."""

    def position(self, known: Tensor, chosen: Tensor) -> Tensor:
        """Return the (M, 7 K + 5 J) parameters for the position, from the (M, 2) chosen energy logit and logarithm."""


class ModelLaw:
    """Law of the next hit from the heads of a generator.

    Args:
        model: The generator, in float32.
    """

    def __init__(self, model: ShowerGenerator) -> None:
        self._model, self.rings = model, model.config.ring_components

    def energy(self, known: Tensor) -> Tensor:
        """Return the parameters for the energy logit.

        Args:
            known: (M, d_model) results of `ShowerGenerator.add_features`.

        Returns:
            (M, 3 K) parameters.
        """
        return row_perceptron(known, self._model.energy_head)

    def position(self, known: Tensor, chosen: Tensor) -> Tensor:
        """Return the parameters for the position.

        Args:
            known: (M, d_model) results of `ShowerGenerator.add_features`.
            chosen: (M, 2) float32 energy logit, and logarithm of the energy over the incident energy.

        Returns:
            (M, 7 K + 5 J) parameters.
        """
        layer = self._model.chosen_energy
        return row_perceptron(known + row_linear(chosen, layer.weight, layer.bias), self._model.position_head)


def propose(law: HitLaw, known: Tensor, before: Previous, rest: Tensor, uniform: Tensor) -> tuple[Proposal, Tensor]:
    """Propose the next hits.

    Args:
        law: The law.
        known: (M, ...) what the law knows of the hits.
        before: What is known before the hits.
        rest: (M,) int64 remaining energies of the slices.
        uniform: (M, 5) float64 random numbers, above 0 and below 1.

    Returns:
        The hits, and (M,) float64 logarithms of their densities.
    """
    is_last = before.left == 1
    energies = NormalMixture.of(law.energy(known).double())
    value = energies.sample(uniform[:, :2])
    energy = torch.minimum((torch.sigmoid(value) * rest).round().long().clamp(min=1), rest - before.left + 1)
    energy = torch.where(is_last, rest, energy)
    others = (rest - energy).clamp(min=1)
    logit = torch.where(is_last, 0.0, energy.double().log() - others.double().log()).float()
    positions = _positions(law, known, before, energy, logit)
    place = positions.sample(uniform[:, 2:5])
    density = torch.where(is_last, 0.0, energies.log_density(value)) + positions.log_density(place)
    return Proposal(value, place, energy, logit, place.float()), density


def log_density(law: HitLaw, known: Tensor, before: Previous, found: Proposal) -> Tensor:
    """Return the logarithms of the densities of proposed hits.

    Args:
        law: The law, which may be another one than that of the proposal.
        known: (M, ...) what the law knows of the hits.
        before: What is known before the hits.
        found: The hits.

    Returns:
        (M,) float64 logarithms.
    """
    energies = NormalMixture.of(law.energy(known).double())
    positions = _positions(law, known, before, found.energy, found.energy_logit)
    of_energy = torch.where(before.left == 1, 0.0, energies.log_density(found.value))
    return of_energy + positions.log_density(found.place)


def _positions(law: HitLaw, known: Tensor, before: Previous, energy: Tensor, logit: Tensor) -> PlaneMixture:
    chosen = torch.stack([logit, remaining_of(energy.clamp(min=1))], 1)
    return PlaneMixture.of(law.position(known, chosen).double(), before.position.double(), law.rings)
