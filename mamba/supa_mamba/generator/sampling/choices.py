"""Choices of leaks and hits in operations of PyTorch, for exported programs and the reference of the sampler."""

import math

import torch
from torch import Tensor

from supa_mamba.generator.coding import SHARE_BITS
from supa_mamba.generator.hits import ALL_LEAKS, NO_LEAK
from supa_mamba.generator.mixtures import categorical_sample
from supa_mamba.generator.model import Previous, ShowerGenerator, length
from supa_mamba.generator.sampling.limits import most_hits_of

_UNIT = SHARE_BITS * math.log(2.0)


def choose_deposits(model: ShowerGenerator, condition: Tensor, uniform: Tensor) -> Tensor:
    """Choose the deposited energies of showers.

    Args:
        model: The generator.
        condition: (M, C) float32 conditions.
        uniform: (M, 3) float64 random numbers, above 0 and below 1.

    Returns:
        (M,) int64 deposited energies in units of 2^-40 of the incident energies; 0 for a shower without hits.
    """
    whole = 1 << SHARE_BITS
    kinds, of_part = model.leak_distribution(condition)
    leak = categorical_sample(kinds.double(), uniform[:, 0])
    share = torch.sigmoid(-of_part.sample(uniform[:, 1:]).double())
    energy = (whole * share).round().long().clamp(1, whole - 1)
    energy = torch.where(leak == NO_LEAK, whole, energy)
    return torch.where(leak == ALL_LEAKS, 0, energy)


def remaining_of(rest: Tensor) -> Tensor:
    """Return the logarithms of remaining energies over the incident energies.

    Args:
        rest: (M,) int64 remaining energies in units of 2^-40 of the incident energies.

    Returns:
        (M,) float32 logarithms.
    """
    return (rest.double().log() - _UNIT).float()


def before_first_hits(model: ShowerGenerator, rest: Tensor, condition: Tensor) -> Previous:
    """Return what is known before the first hits of showers.

    Args:
        model: The generator.
        rest: (M,) int64 deposited energies in units of 2^-40 of the incident energies.
        condition: (M, C) float32 conditions.

    Returns:
        The values before the first hits.
    """
    zero, nothing = torch.zeros_like(rest), condition.new_zeros(len(rest))
    slices = zero + model.coding.num_slices
    position = condition.new_zeros(len(rest), 2)
    return Previous(slices, position, nothing, remaining_of(rest), zero, zero, nothing, condition)


def after_hits(before: Previous, number: Tensor, position: Tensor, energy_logit: Tensor, rest: Tensor) -> Previous:
    """Return what is known after hits.

    Args:
        before: What is known before the hits.
        number: (M,) int64 numbers of the slices of the hits.
        position: (M, 2) float32 positions of the hits.
        energy_logit: (M,) float32 energy logits of the hits.
        rest: (M,) int64 remaining energies after the hits.

    Returns:
        The values before the next hits.
    """
    in_slice = torch.where(number == before.slice, before.number_in_slice, 0) + 1
    distance = torch.where(before.number > 0, length(position - before.position), 0.0)
    return Previous(
        number, position, energy_logit, remaining_of(rest), before.number + 1, in_slice, distance, before.condition
    )


def choose_hits(
    model: ShowerGenerator, hidden: Tensor, before: Previous, rest: Tensor, uniform: Tensor
) -> tuple[Tensor, Tensor, Previous]:
    """Choose the next hit of each shower.

    Args:
        model: The generator.
        hidden: (M, d_model) results of the stack.
        before: What is known before the hits.
        rest: (M,) int64 remaining energies in units of 2^-40 of the incident energies, above 0.
        uniform: (M, 7) float64 random numbers, above 0 and below 1.

    Returns:
        (M,) int64 energies of the hits, (M,) whether they are the last ones, and what is known after them, with their
        slices and positions.
    """
    hidden = model.add_features(hidden, before)
    last, of_slices = model.next_distribution(hidden, before)
    chosen = categorical_sample(of_slices.double(), uniform[:, 1])
    ends = (rest < 2) | (before.number + 1 >= most_hits_of(model))
    is_last = ends | (uniform[:, 0] < torch.sigmoid(last.double()))
    known = model.add_choice(hidden, chosen, is_last)
    share = torch.sigmoid(model.energy_distribution(known).sample(uniform[:, 2:4]).double())
    energy = torch.minimum((share * rest).round().long().clamp(min=1), rest - 1)
    logit = torch.where(is_last, 0.0, energy.double().log() - (rest - energy).double().log()).float()
    energy = torch.where(is_last, rest, energy)
    where = model.position_distribution(known, is_last, logit, before.remaining, before.position)
    position = where.sample(uniform[:, 4:]).float()
    return energy, is_last, after_hits(before, chosen, position, logit, rest - energy)
