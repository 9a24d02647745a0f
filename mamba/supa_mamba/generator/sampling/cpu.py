"""One step of many showers on a CPU."""

from typing import Any

import numpy as np
import torch

from supa import ShowerConfig
from supa.arrays import Array, IntArray
from supa.checks import counted
from supa_mamba.generator.coding import SHARE_BITS
from supa_mamba.generator.model import ShowerGenerator
from supa_mamba.generator.readout import readout_slices, slice_order
from supa_mamba.generator.sampling import compiled_kernels as kernels
from supa_mamba.generator.sampling.cpu_stack import CpuStack, Linear, float_array
from supa_mamba.generator.sampling.rows import Hits, Rows
from supa_mamba.generator.sampling.uniforms import hit_uniforms, leak_uniforms
from supa_mamba.modules.hybrid import HybridStack
from supa_mamba.modules.states import StackState, clear_slots
from supa_mamba.ops.compiled import run_in_threads

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
        The states of the layers, float32.
    """
    stack: Any = model.stack
    longest = (most_hits_of(model),) if isinstance(stack, HybridStack) else ()
    try:
        state: StackState = stack.init_state(slots, *longest, dtype=torch.float32)
    except RuntimeError as error:
        if "memory" not in str(error):
            raise
        raise MemoryError(
            f"batch_size: the states of {counted(slots, 'shower')} do not fit into the memory; choose a smaller one."
        ) from None
    return state


class CpuStepper:
    """Model, states and random numbers of showers that are sampled on a CPU.

    The results of a row do not depend on other rows. Each thread processes some of the rows.

    Args:
        model: The generator, on the CPU and in float32.
        config: Config of the showers.
        seed: Random seed.
        slots: Number of showers that can be sampled at the same time.
    """

    def __init__(self, model: ShowerGenerator, config: ShowerConfig, seed: int, slots: int) -> None:
        self.coding, self.config, self.seed = model.coding, config, seed
        self._most_hits = most_hits_of(model)
        self._state = initial_state(model, slots)
        self._stack = CpuStack(model.stack, self._state)
        self._order = slice_order(model.coding.slices, readout_slices(config))
        self._inputs, self._chosen_energy = Linear(model.inputs), Linear(model.chosen_energy)
        self._of_slice = float_array(model.chosen_slice.weight.t())
        self._bias = float_array(model.chosen_slice.bias)
        self._leak_head, self._next_head, self._energy_head, self._position_head = (
            (Linear(head[0]), Linear(head[2]))  # type: ignore[arg-type]
            for head in (model.leak_head, model.next_head, model.energy_head, model.position_head)
        )

    def leaks(self, index: IntArray, condition: Array) -> IntArray:
        """Choose whether energy leaks, and how much.

        Args:
            index: (M,) int64 indices of the showers.
            condition: (M, C) float32 conditions.

        Returns:
            (M,) int64 deposited energies in units of 2^-40 of the incident energy, 0 if everything leaks.
        """
        leak, energy = np.empty_like(index), np.empty_like(index)
        found = _applied(self._leak_head, condition)
        kernels.choose_leaks(found, leak_uniforms(self.seed, index), SHARE_BITS, leak, energy)
        return energy

    def clear(self, slots: IntArray) -> None:
        """Prepare slots for new showers.

        Args:
            slots: (M,) int64 slots.
        """
        clear_slots(self._state, torch.from_numpy(slots))

    def step(self, rows: Rows) -> Hits:
        """Choose the next hit of each shower, and update the rows in place.

        Args:
            rows: The showers, none of which is finished.

        Returns:
            The hits.
        """
        count = len(rows.shower)
        hits = Hits(
            rows.shower, np.empty(count, np.int64), np.empty((count, 2), np.float32), np.empty(count, np.int64),
            np.empty(count, np.bool_),
        )  # fmt: skip
        run_in_threads(lambda first, last: self._step(rows.part(first, last), hits.part(first, last)), count)
        return hits

    def _step(self, rows: Rows, hits: Hits) -> None:
        """Choose the next hits, and write them."""
        count, chosen, is_last = len(rows.shower), hits.slice, hits.is_last
        uniform = hit_uniforms(self.seed, rows.index, rows.number)
        inputs = np.empty((count, self._inputs.weight.shape[1]), np.float32)
        kernels.write_inputs(
            rows.previous_slice, rows.position, rows.energy_logit, rows.rest, rows.number, rows.number_in_slice,
            rows.condition, self.coding.conditions.deviations[0], SHARE_BITS, inputs,
        )  # fmt: skip
        hidden = self._stack.step(self._inputs(inputs), rows.slot)
        kernels.choose_next(
            _applied(self._next_head, hidden), self._order, rows.previous_slice, rows.number, rows.rest,
            self._most_hits, uniform, chosen, is_last,
        )  # fmt: skip
        known: Any = np.empty_like(hidden)
        kernels.add_choices(hidden, self._of_slice, self._bias, chosen, is_last, known)
        logit_and_log = np.empty((count, 2), np.float32)
        kernels.choose_energies(
            _applied(self._energy_head, known), is_last, uniform, SHARE_BITS, rows.rest, hits.energy, logit_and_log
        )
        known += self._chosen_energy(logit_and_log)
        kernels.choose_positions(_applied(self._position_head, known), uniform, rows.position)
        hits.position[:] = rows.position
        stays = chosen == rows.previous_slice
        rows.number_in_slice[:] = np.where(stays, rows.number_in_slice, 0) + 1
        rows.number += 1
        rows.previous_slice[:], rows.energy_logit[:] = chosen, logit_and_log[:, 0]


def _applied(head: tuple[Linear, Linear], x: Array) -> Array:
    """Apply a perceptron with one hidden layer."""
    return head[1](head[0](x, use_silu=True))
