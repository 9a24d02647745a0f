"""Sampling of leaks and profiles without hits."""

import copy

import numpy as np
import torch

from supa import Run, ShowerConfig
from supa_mamba.generator.coding import SHARE_BITS
from supa_mamba.generator.hits import HitBatch
from supa_mamba.generator.model import ShowerGenerator
from supa_mamba.generator.sampling.blocks import UNIT, Block
from supa_mamba.generator.sampling.leaks import LeakSampler
from supa_mamba.generator.sampling.profiles import ProfileSampler


def sample_profiles(
    model: ShowerGenerator, config: ShowerConfig, num_showers: int, *, seed: int, first: int = 0
) -> tuple[HitBatch, torch.Tensor]:
    """Sample the leaks and profiles of showers, which are those of `sample_showers` on a CPU.

    Args:
        model: The generator, on any device. The profiles are sampled on a CPU.
        config: Config of the training showers.
        num_showers: Number of showers.
        seed: Random seed.
        first: Index of the first shower.

    Returns:
        The coded showers without rows for hits, on the CPU, and their (S,) float64 incident energies.
    """
    model = copy.deepcopy(model).cpu()
    run = Run(config=config, seed=seed, first=first, engine="imported", keep="all", attempts=None)
    units = (first + num_showers) // UNIT - first // UNIT + 1
    with torch.no_grad():
        block = Block.prepared(LeakSampler(model, seed), model.coding, run, num_showers, 0, units)
        index = first + np.arange(num_showers)
        found = ProfileSampler(model, config, seed)(index, block.condition, block.energy)
    incident = torch.from_numpy(block.incident_energy)
    leaked = torch.from_numpy(((1 << SHARE_BITS) - block.energy) * 2.0**-SHARE_BITS) * incident
    count, energy = torch.from_numpy(found.count), torch.from_numpy(found.energy)
    return model.coding.encode_profiles(count, energy, incident, leaked, torch.from_numpy(block.condition)), incident
