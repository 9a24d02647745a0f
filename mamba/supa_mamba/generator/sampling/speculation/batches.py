"""Continuous batches of speculative sampling: finished showers leave their slots, and waiting ones enter."""

from collections.abc import Iterator

import numpy as np
import torch

from supa import Run, ShowerConfig, Showers
from supa.arrays import Array, IntArray
from supa_mamba.generator.model import ShowerGenerator
from supa_mamba.generator.sampling.cpu_batches import ProfileChoice, Queue, pieces_of
from supa_mamba.generator.sampling.gpu_profiles import GpuProfileSampler
from supa_mamba.generator.sampling.profiles import Profiles, ProfileSampler
from supa_mamba.generator.sampling.speculation.cpu_rounds import CpuRounds
from supa_mamba.generator.sampling.speculation.drafts import Draft
from supa_mamba.generator.sampling.speculation.rounds import SpeculativeRounds
from supa_mamba.ops.backend import device_guard, is_cuda


def speculative_pieces(
    model: ShowerGenerator, run: Run, seed: int, num_showers: int, slots: int, draft: Draft, length: int
) -> Iterator[Showers]:
    """Sample showers with a draft.

    Args:
        model: The generator.
        run: The sample.
        seed: Its random seed.
        num_showers: Number of showers.
        slots: Number of showers that are sampled at the same time.
        draft: The draft.
        length: Number of drafted hits of a round.

    Returns:
        Iterator over blocks of showers, in order.
    """
    rounds = new_rounds(model, draft, seed, slots, length)
    queue = Queue(model, run, seed, num_showers, profile_choice(model, run.config, seed))
    return pieces_of(rounds, queue, slots)


def new_rounds(
    model: ShowerGenerator, draft: Draft, seed: int, slots: int, length: int
) -> CpuRounds | SpeculativeRounds:
    """Return the rounds for the device of a model.

    Args:
        model: The generator.
        draft: The draft.
        seed: Random seed.
        slots: Number of showers that are sampled at the same time.
        length: Number of drafted hits of a round.

    Returns:
        Rounds in compiled loops on a CPU, and in operations of PyTorch on a GPU.
    """
    kind = SpeculativeRounds if is_cuda(model.inputs.weight) else CpuRounds
    return kind(model, draft, seed, slots, length)


def profile_choice(model: ShowerGenerator, config: ShowerConfig, seed: int) -> ProfileChoice:
    """Return the choice of profiles of the plain sampler on the device of a model.

    Args:
        model: The generator.
        config: Config of the showers.
        seed: Random seed.

    Returns:
        The choice.
    """
    weight = model.inputs.weight
    if not is_cuda(weight):
        return ProfileSampler(model, config, seed)
    bits = torch.from_numpy(np.array([seed], np.uint64).view(np.int64)).to(weight.device)
    sampler = GpuProfileSampler(model, config, bits)

    def choose(index: IntArray, condition: Array, deposit: IntArray) -> Profiles:
        # Showers without deposited energy have no profile, and their results are not used.
        arrays = (index, condition, np.maximum(deposit, 1))
        with torch.no_grad(), device_guard(bits):
            found = sampler(*(torch.from_numpy(np.ascontiguousarray(x)).to(weight.device) for x in arrays))
        return Profiles(*(x.cpu().numpy() for x in found))

    return choose
