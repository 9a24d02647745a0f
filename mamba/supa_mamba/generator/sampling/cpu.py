"""One step of many showers on a CPU."""

from typing import Any

import numpy as np
import torch

from supa import ShowerConfig
from supa.arrays import Array, IntArray
from supa_mamba.generator.coding import SHARE_BITS
from supa_mamba.generator.model import ShowerGenerator
from supa_mamba.generator.readout import readout_slices, slice_order
from supa_mamba.generator.sampling import compiled_kernels as kernels
from supa_mamba.generator.sampling.cpu_stack import CpuStack, Linear, float_array
from supa_mamba.generator.sampling.limits import initial_state, most_hits_of
from supa_mamba.generator.sampling.rows import Hits, Rows
from supa_mamba.generator.sampling.uniforms import hit_uniforms
from supa_mamba.modules.states import clear_slots
from supa_mamba.ops.compiled import run_in_threads


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
        self.coding, self.seed = model.coding, seed
        self._most_hits, self._rings = most_hits_of(model), model.config.ring_components
        self._state = initial_state(model, slots)
        self._stack = CpuStack(model.stack, self._state)
        self._order = slice_order(model.coding.slices, readout_slices(config))
        self._inputs, self._direct = Linear(model.inputs), Linear(model.direct)
        self._chosen_energy = Linear(model.chosen_energy)
        self._of_slice = float_array(model.chosen_slice.weight.t())
        self._bias = float_array(model.chosen_slice.bias)
        self._next_head, self._energy_head, self._position_head = (
            (Linear(head[0]), Linear(head[2]))  # type: ignore[arg-type]
            for head in (model.next_head, model.energy_head, model.position_head)
        )

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
            rows.distance, rows.condition, self.coding.conditions.deviations[0], SHARE_BITS, inputs,
        )  # fmt: skip
        hidden: Any = self._stack.step(self._inputs(inputs), rows.slot)
        hidden += self._direct(inputs)
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
        kernels.choose_positions(
            _applied(self._position_head, known), self._rings, uniform, rows.number, rows.position, rows.distance
        )
        hits.position[:] = rows.position
        stays = chosen == rows.previous_slice
        rows.number_in_slice[:] = np.where(stays, rows.number_in_slice, 0) + 1
        rows.number += 1
        rows.previous_slice[:], rows.energy_logit[:] = chosen, logit_and_log[:, 0]


def _applied(head: tuple[Linear, Linear], x: Array) -> Array:
    """Apply a perceptron with one hidden layer."""
    return head[1](head[0](x, use_silu=True))
