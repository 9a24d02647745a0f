"""Profiles of showers that are sampled on a GPU."""

import torch
from torch import Tensor

from supa import ShowerConfig
from supa_mamba.generator.coding import SHARE_BITS
from supa_mamba.generator.model import ShowerGenerator
from supa_mamba.generator.sampling.choices import remaining_of
from supa_mamba.generator.sampling.limits import most_hits_of
from supa_mamba.ops.kernel_inputs import power_of_two
from supa_mamba.ops.row_linear.function import row_linear, row_perceptron


class GpuProfileSampler:
    """Network that predicts profiles, and random numbers, on a GPU.

    The results of a shower do not depend on other showers. No call waits for the GPU.

    Args:
        model: The generator, on the GPU and in float32.
        config: Config of the showers.
        seed: (1,) int64 bits of the random seed, on the GPU.
    """

    def __init__(self, model: ShowerGenerator, config: ShowerConfig, seed: Tensor) -> None:
        self._network, self._seed, self._most_hits = model.profile, seed, most_hits_of(model)
        self._allowed = model.coding.numbers_of_slices(config)

    def __call__(self, index: Tensor, condition: Tensor, deposit: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Choose the profiles of showers.

        Args:
            index: (M,) int64 indices of the showers.
            condition: (M, C) float32 conditions.
            deposit: (M,) int64 deposited energies in units of 2^-40 of the incident energies, above 0.

        Returns:
            The profiles, with the columns of `Profiles`.
        """
        from supa_mamba.generator.sampling.kernels import profiles as kernels

        network, (showers, conditions) = self._network, condition.shape
        slices, bins, width = network.slices, network.number_head.out_features, network.number_head.in_features
        components = network.components
        count, energy = (index.new_zeros(showers, slices) for _ in range(2))
        rest, total, number = deposit.clone(), torch.zeros_like(deposit), torch.zeros_like(deposit)
        remaining = remaining_of(rest)[:, None]
        inputs = torch.cat(
            [
                condition.new_zeros(showers, 4 * slices),
                remaining,
                remaining + condition[:, :1] * network.deviation,
                condition,
            ],
            1,
        )
        for of_slice in self._allowed if showers else ():
            is_final = int(of_slice == self._allowed[-1])
            inputs[:, :slices] = 0.0
            inputs[:, of_slice] = 1.0
            hidden = inputs
            for layer in network.linear_layers():
                hidden = row_linear(hidden, layer.weight, layer.bias, use_silu=True)
            kernels.number_kernel[(showers,)](
                row_linear(hidden, network.number_head.weight, network.number_head.bias), network.edges,
                network.chosen_number.weight, network.chosen_number.bias, self._seed, index, rest, total, number,
                hidden, of_slice, is_final, self._most_hits,
                BINS=bins, WIDTH=width, BLOCK=power_of_two(bins), FEATURES=power_of_two(width), num_warps=1,
            )  # fmt: skip
            kernels.slice_energy_kernel[(showers,)](
                row_perceptron(hidden, network.energy_head), self._seed, index, rest, total, number, condition, count,
                energy, inputs, of_slice, is_final, self._most_hits, float(network.most_in_slice), network.deviation,
                BITS=SHARE_BITS, SLICES=slices, CONDITIONS=conditions, COMPONENTS=components,
                BLOCK=power_of_two(components), num_warps=1,
            )  # fmt: skip
        return count, energy, inputs[:, slices : 3 * slices].contiguous()
