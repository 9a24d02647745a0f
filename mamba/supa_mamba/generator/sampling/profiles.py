"""Profiles of showers that are sampled: number and energy of the hits of each slice."""

from typing import Any, NamedTuple

import numpy as np

from supa import ShowerConfig
from supa.arrays import Array, IntArray
from supa_mamba.generator.coding import SHARE_BITS
from supa_mamba.generator.model import ShowerGenerator
from supa_mamba.generator.profile import ENERGY_SCALE
from supa_mamba.generator.sampling import compiled_kernels as kernels
from supa_mamba.generator.sampling.cpu_stack import Linear, Perceptron
from supa_mamba.generator.sampling.limits import most_hits_of
from supa_mamba.generator.sampling.uniforms import slice_uniforms
from supa_mamba.ops.compiled import run_in_threads


class Profiles(NamedTuple):
    """Profiles of showers.

    Args:
        count: (M, L) int64 number of hits of each slice.
        energy: (M, L) int64 energy of each slice, in units of 2^-40 of the incident energy.
        features: (M, 2 L) float32 `profile_features` of these values.
    """

    count: IntArray  # type: ignore[assignment]
    energy: IntArray
    features: Array

    def selected(self, keep: Any) -> "Profiles":
        """Return the profiles of some of the showers.

        Args:
            keep: Slice, mask or indices of the showers.

        Returns:
            These profiles, which share the memory if a slice is given.
        """
        return Profiles(self.count[keep], self.energy[keep], self.features[keep])


class ProfileSampler:
    """Network that predicts profiles, and random numbers, on a CPU.

    The results of a shower do not depend on other showers. Each thread processes some of the showers.

    Args:
        model: The generator, on the CPU and in float32.
        config: Config of the showers.
        seed: Random seed.
    """

    def __init__(self, model: ShowerGenerator, config: ShowerConfig, seed: int) -> None:
        self.seed = seed
        network = model.profile
        self._slices, self._most_in_slice, self._deviation = network.slices, network.most_in_slice, network.deviation
        self._most_hits = most_hits_of(model)
        self._allowed = model.coding.numbers_of_slices(config)
        self._edges = network.edges.numpy()
        self._trunk = [Linear(layer) for layer in network.linear_layers()]
        self._number_head, self._chosen_number = Linear(network.number_head), Linear(network.chosen_number)
        self._energy_head = Perceptron(network.energy_head)

    def __call__(self, index: IntArray, condition: Array, deposit: IntArray) -> Profiles:
        """Choose the profiles of showers.

        Args:
            index: (M,) int64 indices of the showers.
            condition: (M, C) float32 conditions.
            deposit: (M,) int64 deposited energies in units of 2^-40 of the incident energies.

        Returns:
            The profiles.
        """
        shape = len(index), self._slices
        found = Profiles(
            np.zeros(shape, np.int64), np.zeros(shape, np.int64), np.empty((shape[0], 2 * shape[1]), np.float32)
        )

        def of_part(first: int, last: int) -> None:
            part = slice(first, last)
            self._choose(index[part], condition[part], deposit[part], found.selected(part))

        run_in_threads(of_part, len(index))
        return found

    def _choose(self, index: IntArray, condition: Array, deposit: IntArray, found: Profiles) -> None:
        """Choose profiles, and write them."""
        showers, slices = found.count.shape
        rest, total = deposit.copy(), np.zeros_like(deposit)
        number, part = np.zeros_like(deposit), np.zeros_like(deposit)
        inputs = np.zeros((showers, self._trunk[0].weight.shape[1]), np.float32)
        of_number = np.empty((showers, 3), np.float32)
        for of_slice in range(slices + 1):
            kernels.write_profile_inputs(
                of_slice, slices, self._most_in_slice, number, part, rest, condition, ENERGY_SCALE, self._deviation,
                SHARE_BITS, inputs,
            )  # fmt: skip
            number[:], part[:] = 0, 0
            if of_slice not in self._allowed:
                continue
            is_final, uniform = of_slice == self._allowed[-1], slice_uniforms(self.seed, index, of_slice)
            hidden: Any = inputs
            for layer in self._trunk:
                hidden = layer(hidden, use_silu=True)
            kernels.choose_numbers(
                self._number_head(hidden), self._edges, is_final, self._most_hits, rest, total, uniform, number,
                of_number,
            )  # fmt: skip
            update: Any = self._chosen_number(of_number)
            hidden += update
            kernels.choose_slice_energies(
                self._energy_head(hidden), is_final, self._most_hits, number, uniform, rest, total, part
            )
            found.count[:, of_slice], found.energy[:, of_slice] = number, part
        found.features[:] = inputs[:, slices : 3 * slices]
