"""Choices of leaks, profiles and hits in operations of PyTorch, for exported programs and as a reference."""

import math

import torch
from torch import Tensor

from supa_mamba.generator.coding import SHARE_BITS, weighted_positions
from supa_mamba.generator.hits import ALL_LEAKS, NO_LEAK
from supa_mamba.generator.mixtures import categorical_sample
from supa_mamba.generator.model import Previous, ShowerGenerator, length
from supa_mamba.generator.profile import ProfileRows, profile_features
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


def choose_profiles(model: ShowerGenerator, condition: Tensor, rest: Tensor, uniform: Tensor) -> tuple[Tensor, Tensor]:
    """Choose the numbers and the energies of the hits of all slices.

    Args:
        model: The generator.
        condition: (M, C) float32 conditions.
        rest: (M,) int64 deposited energies in units of 2^-40 of the incident energies.
        uniform: (M, L, 5) float64 random numbers, above 0 and below 1.

    Returns:
        (M, L) int64 numbers of hits, and (M, L) int64 energies in the same unit.
    """
    network, most = model.profile, most_hits_of(model)
    allowed, final = model.allowed_slices(condition)
    count, energy = (torch.zeros_like(rest)[:, None].repeat(1, network.slices) for _ in range(2))
    for number in range(network.slices):
        rows = ProfileRows(
            torch.full_like(rest, number), count, log_energy_of(energy), remaining_of(rest.clamp(min=1)), condition
        )
        hidden, of_slice = network(rows), uniform[:, number]
        is_final, total = final == number, count.sum(1)
        bins = network.number_distribution(hidden, is_final)
        place = categorical_sample(bins.double(), of_slice[:, 0])
        first, width = network.edges[place], network.edges.diff()[place]
        hits = torch.minimum(first + (of_slice[:, 1] * width).floor().long(), torch.minimum(most - total, rest))
        hits = torch.where(allowed[:, number] & (rest > 0), hits, 0)
        end, share = network.energy_distribution(hidden, hits)
        # Each hit has at least one unit of energy.
        ends = is_final | (total + hits >= most) | (rest < hits + 1) | (of_slice[:, 2] < torch.sigmoid(end.double()))
        part = (torch.sigmoid(share.sample(of_slice[:, 3:]).double()) * rest).round().long()
        part = torch.where(ends, rest, torch.minimum(torch.maximum(part, hits), rest - 1))
        part = torch.where(hits > 0, part, 0)
        is_here = torch.arange(network.slices, device=rest.device) == number
        count = torch.where(is_here, hits[:, None], count)
        energy = torch.where(is_here, part[:, None], energy)
        rest = rest - part
    return count, energy


def remaining_of(rest: Tensor) -> Tensor:
    """Return the logarithms of energies over the incident energies.

    Args:
        rest: Int64 energies in units of 2^-40 of the incident energies, above 0.

    Returns:
        Float32 logarithms.
    """
    return (rest.double().log() - _UNIT).float()


def log_energy_of(energy: Tensor) -> Tensor:
    """Return the logarithms of the energies of slices over the incident energies.

    Args:
        energy: (M, L) int64 energies in units of 2^-40 of the incident energies.

    Returns:
        (M, L) float32 logarithms, or 0 for an energy of 0.
    """
    return torch.where(energy > 0, remaining_of(energy.clamp(min=1)), 0.0)


def before_first_hits(count: Tensor, energy: Tensor, condition: Tensor) -> tuple[Previous, Tensor]:
    """Return what is known before the first hits of showers.

    Args:
        count: (M, L) int64 numbers of hits of the slices.
        energy: (M, L) int64 energies of the slices in units of 2^-40 of the incident energies.
        condition: (M, C) float32 conditions.

    Returns:
        The values before the first hits, and (M,) int64 energies of their slices.
    """
    zero, nothing = torch.zeros_like(count[:, 0]), condition.new_zeros(count.shape[0])
    profile = profile_features(count, log_energy_of(energy))
    sums = torch.stack([zero] * 3, 1)
    position = condition.new_zeros(count.shape[0], 2)
    before = Previous(zero - 1, zero, nothing, zero, zero, position, nothing, nothing, profile, condition, sums)
    return _in_next_slice(before, count, energy)


def _in_next_slice(before: Previous, count: Tensor, energy: Tensor) -> tuple[Previous, Tensor]:
    """Return what is known in the next slice with hits, and its (M,) energy, or the same values if there is none."""
    number = torch.arange(count.shape[1], device=count.device)
    # The first maximum is the next slice with hits, or slice 0 if there is none.
    following = ((number > before.slice[:, None]) & (count > 0)).to(torch.int8).argmax(1)
    place = torch.where(following > before.slice, following, before.slice).clamp(min=0)[:, None]
    left, rest = count.gather(1, place)[:, 0], energy.gather(1, place)[:, 0]
    after = before._replace(
        slice=place[:, 0], left=left, remaining=remaining_of(rest.clamp(min=1)), number_in_slice=0 * left
    )
    return after, rest


def after_hits(
    before: Previous,
    of_hit: Tensor,
    position: Tensor,
    energy_logit: Tensor,
    rest: Tensor,
    count: Tensor,
    energy: Tensor,
) -> tuple[Previous, Tensor]:
    """Return what is known after hits.

    Args:
        before: What is known before the hits.
        of_hit: (M,) int64 energies of the hits.
        position: (M, 2) float32 positions of the hits.
        energy_logit: (M,) float32 energy logits of the hits.
        rest: (M,) int64 remaining energies of the slices before the hits.
        count: (M, L) int64 numbers of hits of the slices.
        energy: (M, L) int64 energies of the slices.

    Returns:
        The values before the next hits, and (M,) int64 remaining energies of their slices.
    """
    distance = torch.where(before.number > 0, length(position - before.position), 0.0)
    here = before._replace(
        left=before.left - 1, remaining=remaining_of((rest - of_hit).clamp(min=1)), number=before.number + 1,
        number_in_slice=before.number_in_slice + 1, position=position, energy_logit=energy_logit, distance=distance,
        sums=before.sums + weighted_positions(of_hit, position),
    )  # fmt: skip
    following, of_following = _in_next_slice(here, count, energy)
    goes_on = here.left > 0
    columns = (torch.where(goes_on.view(-1, *[1] * (a.ndim - 1)), a, b) for a, b in zip(here, following, strict=True))
    return Previous(*columns), torch.where(goes_on, rest - of_hit, of_following)


def choose_hits(
    model: ShowerGenerator, hidden: Tensor, before: Previous, rest: Tensor, uniform: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Choose the next hit of each shower.

    Args:
        model: The generator.
        hidden: (M, d_model) results of the stack.
        before: What is known before the hits.
        rest: (M,) int64 remaining energies of the slices in units of 2^-40 of the incident energies, at least one for
            each remaining hit.
        uniform: (M, 5) float64 random numbers, above 0 and below 1.

    Returns:
        (M,) int64 energies of the hits, (M,) float32 energy logits, and (M, 2) float32 positions.
    """
    hidden = model.add_features(hidden, before)
    is_last = before.left == 1
    share = torch.sigmoid(model.energy_distribution(hidden).sample(uniform[:, :2]).double())
    energy = torch.minimum((share * rest).round().long().clamp(min=1), rest - before.left + 1)
    energy = torch.where(is_last, rest, energy)
    others = (rest - energy).clamp(min=1)
    logit = torch.where(is_last, 0.0, energy.double().log() - others.double().log()).float()
    position = model.position_distribution(hidden, before, logit).sample(uniform[:, 2:]).float()
    return energy, logit, position
