"""Steps of many showers on a GPU, several at once in a CUDA graph."""

import copy
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from supa import ShowerConfig
from supa.arrays import Array, IntArray
from supa_learning import CapturedStep
from supa_mamba.generator.coding import SHARE_BITS
from supa_mamba.generator.model import ShowerGenerator
from supa_mamba.generator.sampling.gpu_profiles import GpuProfileSampler
from supa_mamba.generator.sampling.limits import initial_state
from supa_mamba.generator.sampling.uniforms import HITS
from supa_mamba.modules.states import AttentionState
from supa_mamba.ops.backend import device_guard, load_backend
from supa_mamba.ops.kernel_inputs import power_of_two
from supa_mamba.ops.row_linear.function import row_linear, row_perceptron

STEPS = 4
"""Steps of a launch. Showers enter between launches, so a free row waits for half of the steps on average."""

_NOBODY = 2**62
"""Number of the oldest shower if none is in progress."""

_COLUMNS = 4  # of a hit


class Waiting(NamedTuple):
    """Showers in a queue.

    Args:
        shower: (Q,) int64 numbers of the showers in the sample.
        index: (Q,) int64 indices, which determine the random numbers.
        condition: (Q, C) float32 conditions.
        count: (Q, L) int64 number of hits of each slice.
        energy: (Q, L) int64 energy of each slice, in units of 2^-40 of the incident energy.
        profile: (Q, 2 L) float32 profile as inputs of the model.
    """

    shower: Tensor
    index: Tensor  # type: ignore[assignment]
    condition: Tensor
    count: Tensor  # type: ignore[assignment]
    energy: Tensor
    profile: Tensor


class Log(NamedTuple):
    """Hits of a launch, and the state of the sample after it.

    Args:
        hits: (STEPS * R, 4) int64: number of the shower, or -1; energy in units of 2^-40 of the incident energy; twice
            the slice, plus 1 for the last hit; bits of the two float32 coordinates, x in the lower ones.
        entered: Number of showers that have left the queue.
        oldest: Number of the first shower in progress, or 2^62 if there is none.
    """

    hits: Tensor
    entered: Tensor
    oldest: Tensor


class GpuRows:
    """Model, states and random numbers of showers that are sampled on a GPU.

    The results of a row do not depend on other rows. No call waits for the GPU.

    Args:
        model: The generator, on the GPU. It is used in float32.
        config: Config of the showers.
        seed: Random seed.
        rows: Number of showers that are sampled at the same time.
        capacity: Number of showers for which the queue has room.
    """

    def __init__(self, model: ShowerGenerator, config: ShowerConfig, seed: int, rows: int, capacity: int) -> None:
        self._model = copy.deepcopy(model).float()
        self.device = self._model.inputs.weight.device
        load_backend(self._model.inputs.weight, "supa_mamba.ops.row_linear")  # raises an error without Triton
        self._rows, self._capacity = rows, capacity
        self._state = initial_state(self._model, rows)
        # The kernels take the bits of the seed.
        self.seed = torch.from_numpy(np.array([seed], np.uint64).view(np.int64)).to(self.device)
        self._profiles = GpuProfileSampler(self._model, config, self.seed)

        def integers(*shape: int, value: int = 0) -> Tensor:
            return torch.full(shape, value, device=self.device)

        def numbers(*shape: int) -> Tensor:
            return torch.zeros(*shape, device=self.device)

        def waiting(places: int) -> Waiting:
            conditions, slices = model.coding.conditions.num_conditions, model.coding.num_slices
            return Waiting(
                integers(places), integers(places), numbers(places, conditions), integers(places, slices),
                integers(places, slices), numbers(places, 2 * slices),
            )  # fmt: skip

        self._head, self._tail = integers(1), integers(1)
        self._queue, self._showers = waiting(capacity), waiting(rows)
        self._slot, self._place = integers(rows, value=-1), integers(rows)
        self._slice, self._left, self._rest = integers(rows), integers(rows), integers(rows)
        self._number, self._number_in_slice, self._energy = integers(rows), integers(rows), integers(rows)
        self._position, self._energy_logit, self._distance = numbers(rows, 2), numbers(rows), numbers(rows)
        self._sums = integers(rows, 3)
        self._queued = 0

    def enqueue(self, shower: IntArray, index: IntArray, deposit: IntArray, condition: Array) -> None:
        """Choose the profiles of showers, and add the showers to the queue, which must have room for them.

        The showers of a call enter after those of earlier calls, but in any order.

        Args:
            shower: (M,) numbers of the showers in the sample.
            index: (M,) indices of the showers.
            deposit: (M,) deposited energies in units of 2^-40 of the incident energies, above 0.
            condition: (M, C) conditions.
        """
        place = self._moved((self._queued + np.arange(len(shower))) % self._capacity)
        indices, conditions = self._moved(index), self._moved(condition)
        with torch.no_grad(), torch.autocast(self.device.type, enabled=False), device_guard(self.seed):
            profiles = self._profiles(indices, conditions, self._moved(deposit))
        given = Waiting(self._moved(shower), indices, conditions, *profiles)
        # The largest showers enter first, so that few rows are busy with them at the end of the sample.
        order = given.count.sum(1).argsort(descending=True, stable=True)
        for of_queue, of_showers in zip(self._queue, given, strict=True):
            of_queue.index_copy_(0, place, of_showers[order])
        self._queued += len(shower)
        self._tail.fill_(self._queued)

    def _moved(self, given: Array) -> Tensor:
        """Copy an array to the device. The copy from pinned memory does not wait for the device."""
        tensor = torch.from_numpy(np.ascontiguousarray(given))
        return tensor.pin_memory().to(self.device, non_blocking=True) if self.device.type == "cuda" else tensor

    def steps(self) -> Tensor:
        """Let showers enter free rows, and choose the next hits of all rows.

        Returns:
            (STEPS * R + 1, 4) int64 log: a row for each hit, and a last one with the number of showers that have left
            the queue and the number of the first shower in progress; see `Log`.
        """
        from supa_mamba.generator.sampling.kernels import rows as kernels

        of_queue, of_rows = self._queue, self._showers
        kernels.enter_kernel[(1,)](
            self._head, self._tail, of_queue.shower, of_queue.index, of_rows.shower, of_rows.index, self._slot,
            self._place, self._rows, self._capacity, BLOCK=min(1024, power_of_two(self._rows)), num_warps=8,
        )  # fmt: skip
        slices, conditions = of_rows.count.shape[1], of_rows.condition.shape[1]
        kernels.begin_kernel[(self._rows,)](
            self._place, *of_queue[2:], *of_rows[2:], self._slice, self._left, self._rest, self._number,
            self._number_in_slice, self._position, self._energy_logit, self._distance, self._sums,
            SLICES=slices, CONDITIONS=conditions, BLOCK=power_of_two(slices),
            CONDITIONS_BLOCK=power_of_two(conditions), num_warps=1,
        )  # fmt: skip
        for layer in self._state:
            # Stored rows of attention beyond the length are never read.
            for state in [layer.lengths] if isinstance(layer, AttentionState) else layer:
                self._clear(state)
        log = torch.empty(STEPS * self._rows + 1, _COLUMNS, dtype=torch.int64, device=self.device)
        for hits in log[:-1].view(STEPS, self._rows, _COLUMNS):
            self._step(hits)
        log[-1, 0:1] = self._head
        log[-1, 1] = torch.where(self._slot >= 0, of_rows.shower, _NOBODY).amin()
        return log

    def _clear(self, state: Any) -> None:
        from supa_mamba.generator.sampling.kernels import rows as kernels

        size = state[0].numel()
        kernels.clear_kernel[(self._rows,)](state, self._place, size, BLOCK=min(1024, power_of_two(size)))

    def _step(self, hits: Tensor) -> None:
        """Choose the next hit of each row, and write it."""
        from supa_mamba.generator.sampling.kernels import choices
        from supa_mamba.generator.sampling.kernels import rows as of_rows

        model, rows, showers = self._model, self._rows, self._showers
        sizes, width = model.config, model.config.d_model
        slices, conditions = showers.count.shape[1], showers.condition.shape[1]
        inputs = self._position.new_empty(rows, model.inputs.in_features)
        of_rows.input_kernel[(rows,)](
            self._slice, self._left, self._rest, self._number, self._number_in_slice, self._position,
            self._energy_logit, self._distance, self._sums, showers.profile, showers.condition, inputs,
            model.coding.conditions.deviations[0],
            BITS=SHARE_BITS, SLICES=slices, FEATURES=inputs.shape[1], CONDITIONS=conditions,
            BLOCK=power_of_two(inputs.shape[1]), num_warps=1,
        )  # fmt: skip
        embedded = row_linear(inputs, model.inputs.weight, model.inputs.bias)
        known = model.stack.step(embedded, self._state, self._slot)
        known = known + row_linear(inputs, model.direct.weight, model.direct.bias)
        choices.energy_kernel[(rows,)](
            row_perceptron(known, model.energy_head), model.chosen_energy.weight, model.chosen_energy.bias, self.seed,
            showers.index, self._slot, self._left, self._number, self._rest, self._energy, self._energy_logit, known,
            BITS=SHARE_BITS, HITS=HITS, COMPONENTS=sizes.energy_components, WIDTH=width,
            BLOCK=power_of_two(sizes.energy_components), FEATURES=power_of_two(width), num_warps=1,
        )  # fmt: skip
        choices.position_kernel[(rows,)](
            row_perceptron(known, model.position_head), self.seed, showers.index, showers.shower, self._energy,
            showers.count, showers.energy, self._slot, self._slice, self._left, self._rest, self._position,
            self._number, self._number_in_slice, self._distance, self._sums, hits,
            HITS=HITS, SLICES=slices, PLANE=sizes.position_components, RINGS=sizes.ring_components,
            BLOCK=power_of_two(sizes.position_components + sizes.ring_components), SLICES_BLOCK=power_of_two(slices),
            num_warps=1,
        )  # fmt: skip


class GpuStepper:
    """Steps of rows as CUDA graphs.

    Args:
        rows: The rows.
    """

    def __init__(self, rows: GpuRows) -> None:
        self._rows = rows
        # The graph must not refer to this object: the garbage collector would free both at an unknown time, and the
        # capture of another graph would fail.
        self._captured: CapturedStep[int, None] = CapturedStep(
            lambda _: rows.steps(), lambda _: None, device=rows.device
        )
        self._captured.inputs(0)

    def launch(self) -> Log:
        """Let showers enter free rows, and choose the next hits of all rows.

        Returns:
            The hits, which later launches do not change.
        """
        device = self._rows.device
        with torch.no_grad(), torch.autocast(device.type, enabled=False), device_guard(self._rows.seed):
            found = self._captured(0)
        return Log(found[:-1], found[-1, 0], found[-1, 1])

    def close(self) -> None:
        """Wait for all launches, whose memory will be used for something else."""
        self._captured.forget()
