"""One step of many showers on a CPU."""

from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from supa import ShowerConfig
from supa.arrays import Array, IntArray
from supa.physics import NO_LAYER, layer_of_any_slice
from supa_mamba.generator.coding import SHARE_BITS
from supa_mamba.generator.model import ShowerGenerator
from supa_mamba.generator.sampling import compiled_kernels as kernels
from supa_mamba.generator.sampling.rows import Hits, Rows
from supa_mamba.generator.sampling.uniforms import hit_uniforms, leak_uniforms
from supa_mamba.modules.hybrid import HybridStack
from supa_mamba.modules.states import StackState, clear_slots
from supa_mamba.ops.row_linear.function import row_linear, step_linear

_LONGER = 2
"""A shower ends if it would have more hits than this many times the largest number of the training showers."""


def most_hits_of(model: ShowerGenerator) -> int:
    """Return the largest number of hits of a sampled shower.

    Args:
        model: The generator.

    Returns:
        The number.
    """
    return _LONGER * model.coding.most_hits


def initial_state(model: ShowerGenerator, slots: int) -> StackState:
    """Return the state of the model for new showers.

    Args:
        model: The generator.
        slots: Number of showers.

    Returns:
        The states of the layers.
    """
    stack: Any = model.stack
    longest = (most_hits_of(model),) if isinstance(stack, HybridStack) else ()
    state: StackState = stack.init_state(slots, *longest)
    return state


def slice_order_of(model: ShowerGenerator, config: ShowerConfig) -> IntArray:
    """Return the number of each slice in the coding, or -1 outside the readout layers of a config.

    Args:
        model: The generator.
        config: Config of the showers.

    Returns:
        (slices,) int64 numbers.
    """
    first, layers = model.coding.slices[0], layer_of_any_slice(config)
    return np.array([s if layers[first + s] != NO_LAYER else -1 for s in range(model.coding.num_slices)])


class CpuStepper:
    """Model, states and random numbers of showers that are sampled on a CPU.

    The results of a row do not depend on other rows.

    Args:
        model: The generator, on the CPU and in float32.
        config: Config of the showers.
        seed: Random seed.
        slots: Number of showers that can be sampled at the same time.
    """

    def __init__(self, model: ShowerGenerator, config: ShowerConfig, seed: int, slots: int) -> None:
        self.model, self.config, self.seed = model, config, seed
        self.most_hits = most_hits_of(model)
        self.state = initial_state(model, slots)
        self._order = slice_order_of(model, config)
        self._of_slice = model.chosen_slice.weight.detach().t().contiguous().numpy()
        self._bias = model.chosen_slice.bias.detach().numpy()

    def leaks(self, index: IntArray, condition: Tensor) -> IntArray:
        """Choose whether energy leaks, and how much.

        Args:
            index: (M,) int64 indices of the showers.
            condition: (M, C) float32 conditions.

        Returns:
            (M,) int64 deposited energies in units of 2^-40 of the incident energy, 0 if everything leaks.
        """
        leak, energy = np.empty_like(index), np.empty_like(index)
        found = _head(self.model.leak_head, condition)
        kernels.choose_leaks(found, leak_uniforms(self.seed, index), SHARE_BITS, leak, energy)
        return energy

    def clear(self, slots: IntArray) -> None:
        """Prepare slots for new showers.

        Args:
            slots: (M,) int64 slots.
        """
        clear_slots(self.state, torch.from_numpy(slots))

    def step(self, rows: Rows) -> Hits:
        """Choose the next hit of each shower, and update the rows in place.

        Args:
            rows: The showers, none of which is finished.

        Returns:
            The hits.
        """
        model, count = self.model, len(rows.shower)
        uniform = hit_uniforms(self.seed, rows.index, rows.number)
        hidden = model.stack.step(self._inputs(rows), self.state, torch.from_numpy(rows.slot))
        chosen, is_last = np.empty(count, np.int64), np.empty(count, np.bool_)
        kernels.choose_next(
            _head(model.next_head, hidden), self._order, rows.previous_slice, rows.number, rows.rest, self.most_hits,
            uniform, chosen, is_last,
        )  # fmt: skip
        known = torch.empty_like(hidden)
        kernels.add_choices(hidden.numpy(), self._of_slice, self._bias, chosen, is_last, known.numpy())
        energy, logit_and_log = np.empty(count, np.int64), np.empty((count, 2), np.float32)
        kernels.choose_energies(
            _head(model.energy_head, known), is_last, uniform, SHARE_BITS, rows.rest, energy, logit_and_log
        )
        known += step_linear(model.chosen_energy, torch.from_numpy(logit_and_log))
        kernels.choose_positions(_head(model.position_head, known), uniform, rows.position)
        stays = chosen == rows.previous_slice
        rows.number_in_slice = np.where(stays, rows.number_in_slice, 0) + 1
        rows.number += 1
        rows.previous_slice, rows.energy_logit = chosen, logit_and_log[:, 0].copy()
        return Hits(rows.shower, chosen, rows.position.copy(), energy, is_last)

    def _inputs(self, rows: Rows) -> Tensor:
        model = self.model
        inputs = torch.empty(len(rows.shower), model.inputs.in_features)
        kernels.write_inputs(
            rows.previous_slice, rows.position, rows.energy_logit, rows.rest, rows.number, rows.number_in_slice,
            rows.condition, model.coding.conditions.deviations[0], SHARE_BITS, inputs.numpy(),
        )  # fmt: skip
        return step_linear(model.inputs, inputs)


def _head(head: nn.Sequential, x: Tensor) -> Array:
    """Apply a perceptron with one hidden layer."""
    first, last = cast(nn.Linear, head[0]), cast(nn.Linear, head[2])
    found: Any = step_linear(last, row_linear(x, first.weight, first.bias, use_silu=True))
    return cast(Array, found.numpy())
