"""Reference of the sampler, for tests and comparisons: one shower at a time, without a state."""

import numpy as np
import torch
from torch import Tensor

from supa import ShowerConfig
from supa.primaries import draw_primaries
from supa_mamba.generator.model import Previous, ShowerGenerator
from supa_mamba.generator.sampling.choices import (
    after_hits,
    before_first_hits,
    choose_deposits,
    choose_hits,
    choose_profiles,
)
from supa_mamba.generator.sampling.rows import Hits
from supa_mamba.generator.sampling.uniforms import hit_uniforms, leak_uniforms, slice_uniforms


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
    indices = np.array([index])
    incident = torch.from_numpy(draw_primaries(config, seed, indices).incident_energy)
    condition = model.coding.conditions(config, incident)
    deposit = choose_deposits(model, condition, torch.from_numpy(leak_uniforms(seed, indices)))
    of_slices = np.stack([slice_uniforms(seed, indices, number) for number in range(model.coding.num_slices)], 1)
    count, energies = choose_profiles(model, condition, deposit, torch.from_numpy(of_slices))
    hits, rows, total = Hits.joined([]), list[Previous](), int(count.sum())
    before, rest = before_first_hits(count, energies, condition)
    for number in range(total):
        rows.append(before)
        known = Previous(*(torch.cat(columns) for columns in zip(*rows, strict=True)))
        hidden: Tensor = model.stack(model.embed(known), torch.tensor([0, len(rows)]))[-1:]
        uniform = torch.from_numpy(hit_uniforms(seed, indices, np.array([number])))
        energy, logit, position = choose_hits(model, hidden, before, rest, uniform)
        is_last = torch.tensor([number + 1 == total])
        found = (tensor.numpy() for tensor in (before.slice, position, energy, is_last))
        hits = Hits.joined([hits, Hits(indices, *found)])
        before, rest = after_hits(before, energy, position, logit, rest, count, energies)
    return int(deposit), hits
