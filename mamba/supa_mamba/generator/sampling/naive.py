"""Reference of the sampler, for tests and comparisons: one shower at a time, without a state."""

import math

import numpy as np
import torch
from torch import Tensor

from supa import ShowerConfig
from supa.primaries import draw_primaries
from supa_mamba.generator.coding import SHARE_BITS
from supa_mamba.generator.mixtures import categorical_sample
from supa_mamba.generator.model import Previous, ShowerGenerator
from supa_mamba.generator.sampling.cpu import most_hits_of
from supa_mamba.generator.sampling.rows import Hits
from supa_mamba.generator.sampling.uniforms import hit_uniforms, leak_uniforms


@torch.no_grad()
def naive_sample(model: ShowerGenerator, config: ShowerConfig, seed: int, index: int) -> tuple[int, Hits]:
    """Sample a shower with the functions of the model, and compute the whole sequence again for each hit.

    Args:
        model: The generator.
        config: Config of the shower.
        seed: Random seed.
        index: Index of the shower.

    Returns:
        Deposited energy in units of 2^-40 of the incident energy, and the hits.
    """
    indices, whole, slices = np.array([index]), 1 << SHARE_BITS, model.coding.num_slices
    incident = torch.from_numpy(draw_primaries(config, seed, indices).incident_energy)
    condition = model.coding.conditions(config, incident)
    uniform = torch.from_numpy(leak_uniforms(seed, indices))
    leak, of_part = model.leak_distribution(condition)
    kind = int(categorical_sample(leak.double(), uniform[:, 0]))
    share = torch.sigmoid(-of_part.sample(uniform[:, 1:]).double()).item()
    deposited = (whole, min(max(round(whole * share), 1), whole - 1), 0)[kind]
    rest, hits, known = deposited, Hits.joined([]), list[Previous]()
    previous_slice, position, logit, in_slice = slices, torch.zeros(1, 2), torch.zeros(1), 0
    while rest:
        remaining = torch.tensor([math.log(rest) - SHARE_BITS * math.log(2.0)]).float()
        numbers = torch.tensor([[previous_slice], [len(known)], [in_slice]])
        known.append(Previous(numbers[0], position, logit, remaining, numbers[1], numbers[2], condition))
        rows = Previous(*(torch.cat(columns) for columns in zip(*known, strict=True)))
        hidden: Tensor = model.stack(model.embed(rows), torch.tensor([0, len(known)]))[-1:]
        uniform = torch.from_numpy(hit_uniforms(seed, indices, np.array([len(known) - 1])))
        last, of_slice = model.next_distribution(hidden, known[-1])
        ends = rest < 2 or len(known) >= most_hits_of(model)
        is_last = torch.tensor([ends]) | (uniform[:, 0] < torch.sigmoid(last.double()))
        chosen = categorical_sample(of_slice.double(), uniform[:, 1])
        features = model.add_choice(hidden, chosen, is_last)
        energy, logit = rest, torch.zeros(1)
        if not is_last:
            share = torch.sigmoid(model.energy_distribution(features).sample(uniform[:, 2:4]).double()).item()
            energy = min(max(round(share * rest), 1), rest - 1)
            logit = torch.tensor([math.log(energy) - math.log(rest - energy)]).float()
        where = model.position_distribution(features, is_last, logit, remaining, position)
        position = where.sample(uniform[:, 4:]).float()
        in_slice = in_slice + 1 if chosen == previous_slice else 1
        previous_slice, rest = int(chosen), rest - energy
        hits = Hits.joined([
            hits, Hits(indices, chosen.numpy(), position.numpy(), np.array([energy]), is_last.numpy())
        ])  # fmt: skip
    return deposited, hits
