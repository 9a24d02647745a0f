"""One step of many showers on a CPU."""

from typing import Any

import numpy as np
import torch

from supa.arrays import BoolArray
from supa_mamba.generator.coding import SHARE_BITS
from supa_mamba.generator.model import ShowerGenerator
from supa_mamba.generator.sampling import compiled_kernels as kernels
from supa_mamba.generator.sampling.cpu_stack import CpuStack, Linear, Perceptron
from supa_mamba.generator.sampling.limits import initial_state
from supa_mamba.generator.sampling.rows import Hits, Rows
from supa_mamba.generator.sampling.uniforms import hit_uniforms
from supa_mamba.modules.states import clear_slots
from supa_mamba.ops.compiled import run_in_threads


class CpuStepper:
    """Model, states and random numbers of showers that are sampled on a CPU.

    The results of a row do not depend on other rows. Each thread processes some of the rows.

    Args:
        model: The generator, on the CPU and in float32.
        seed: Random seed.
        slots: Number of showers that can be sampled at the same time.
    """

    def __init__(self, model: ShowerGenerator, seed: int, slots: int) -> None:
        self.coding, self.seed, self._rings = model.coding, seed, model.config.ring_components
        self._state = initial_state(model, slots)
        self._stack = CpuStack(model.stack, self._state)
        self._inputs, self._direct = Linear(model.inputs), Linear(model.direct)
        self._chosen_energy = Linear(model.chosen_energy)
        self._energy_head, self._position_head = Perceptron(model.energy_head), Perceptron(model.position_head)

    def enter(self, rows: Rows) -> None:
        """Let showers enter their slots.

        Args:
            rows: The showers before their first hits.
        """
        clear_slots(self._state, torch.from_numpy(rows.slot))

    def step(self, rows: Rows) -> tuple[Hits, BoolArray]:
        """Choose the next hit of each shower, and update the rows in place.

        Args:
            rows: The showers, none of which is finished.

        Returns:
            The hits, and an (M,) mask of the showers that are finished.
        """
        count = len(rows.shower)
        hits = Hits(
            rows.shower, np.empty(count, np.int64), np.empty((count, 2), np.float32), np.empty(count, np.int64),
            np.empty(count, np.bool_),
        )  # fmt: skip
        run_in_threads(lambda first, last: self._step(rows.part(first, last), hits.part(first, last)), count)
        return hits, hits.is_last

    def close(self) -> None:
        """Do nothing: there is no recorded graph."""

    def _step(self, rows: Rows, hits: Hits) -> None:
        """Choose the next hits, and write them."""
        count = len(rows.shower)
        uniform = hit_uniforms(self.seed, rows.index, rows.number)
        inputs = np.empty((count, self._inputs.weight.shape[1]), np.float32)
        kernels.write_inputs(
            rows.slice, rows.left, rows.rest, rows.number, rows.number_in_slice, rows.position, rows.energy_logit,
            rows.distance, rows.sums, rows.profile, rows.condition, self.coding.conditions.deviations[0], SHARE_BITS,
            inputs,
        )  # fmt: skip
        known: Any = self._stack.step(self._inputs(inputs), rows.slot)
        known += self._direct(inputs)
        logit_and_log = np.empty((count, 2), np.float32)
        kernels.choose_energies(
            self._energy_head(known), rows.left, uniform, SHARE_BITS, rows.rest, hits.energy, logit_and_log
        )
        known += self._chosen_energy(logit_and_log)
        kernels.choose_positions(
            self._position_head(known), self._rings, uniform, rows.number, hits.energy, rows.position, rows.distance,
            rows.sums,
        )  # fmt: skip
        hits.slice[:], hits.position[:], rows.energy_logit[:] = rows.slice, rows.position, logit_and_log[:, 0]
        kernels.advance(
            rows.count, rows.energy, rows.slice, rows.left, rows.rest, rows.number, rows.number_in_slice, hits.is_last
        )
