"""Choice of the leaked energy of showers, before their hits are sampled."""

import copy
from typing import Any

import numpy as np

from supa.arrays import Array, IntArray
from supa_mamba.generator.coding import SHARE_BITS
from supa_mamba.generator.model import ShowerGenerator
from supa_mamba.generator.sampling import compiled_kernels as kernels
from supa_mamba.generator.sampling.cpu_stack import Perceptron
from supa_mamba.generator.sampling.uniforms import leak_uniforms


class LeakSampler:
    """Head of a model that predicts the leak, and random numbers, on a CPU.

    The leak is one choice for a shower, so it is made on the CPU for samples on every device.

    Args:
        model: The generator, on any device.
        seed: Random seed.
    """

    def __init__(self, model: ShowerGenerator, seed: int) -> None:
        self._head, self.seed = Perceptron(copy.deepcopy(model.leak_head).cpu()), seed

    def __call__(self, index: IntArray, condition: Array) -> IntArray:
        """Choose whether energy leaks, and how much.

        Args:
            index: (M,) int64 indices of the showers.
            condition: (M, C) float32 conditions.

        Returns:
            (M,) int64 deposited energies in units of 2^-40 of the incident energy, 0 if everything leaks.
        """
        leak, energy = np.empty_like(index), np.empty_like(index)
        found: Any = self._head(condition)
        kernels.choose_leaks(found, leak_uniforms(self.seed, index), SHARE_BITS, leak, energy)
        return energy
