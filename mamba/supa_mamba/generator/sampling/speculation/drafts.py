"""Drafts of hits: a smaller generator, the model without some of its layers, or a table."""

import copy
from typing import Protocol, cast

import torch
from torch import Tensor, nn

from supa import ShowerConfig
from supa_mamba.generator.conditions import ShowerConditions
from supa_mamba.generator.hits import HitBatch
from supa_mamba.generator.model import Previous, ShowerGenerator
from supa_mamba.generator.sampling.speculation.hit_densities import HitLaw, ModelLaw
from supa_mamba.generator.sampling.speculation.replays import stack_state
from supa_mamba.generator.sampling.speculation.table import DraftTable, TableLaw
from supa_mamba.modules.block import DeferredSum
from supa_mamba.modules.states import AttentionState
from supa_mamba.ops.row_linear.function import row_linear

DRAFTS = ("skip-layers", "table")
"""Names of drafts that are made from the model."""

_MOST_DIFFERENCE = 0.1
"""Largest difference between the units of a draft and those of the model."""

Draft = ShowerGenerator | DraftTable
"""What proposes hits: a generator with the coding of the model, or a table."""


class DraftSteps(Protocol):
    """A draft with states for R sequences. A round has K steps; the next one says how many of them are kept."""

    law: HitLaw

    def begin(self, kept: Tensor) -> None:
        """Return to the states after the first kept steps of the last round, an (R,) int64 number."""

    def known(self, step: int, before: Previous) -> Tensor:
        """Take a step of a round, and return the (R, ...) inputs of the law for the next hits."""

    def clear(self, slots: Tensor) -> None:
        """Prepare slots for new sequences, of whose steps none is kept."""


class ModelSteps:
    """A generator as a draft.

    Each step of a round has its own copy of the states of Mamba, so that a rejection costs nothing. Attention
    overwrites the keys and values of rejected rows.

    Args:
        model: The draft, in float32.
        slots: Number of sequences, R.
        steps: Number of steps of a round, K.
        most_rows: Largest number of rows of a sequence, drafted ones included.
    """

    def __init__(self, model: ShowerGenerator, slots: int, steps: int, most_rows: int) -> None:
        self._model, self._slots = model, slots
        self.law: HitLaw = ModelLaw(model)
        device = model.inputs.weight.device
        self._row = torch.arange(slots, device=device)
        self._lengths = torch.zeros(slots, dtype=torch.int64, device=device)
        copies, once = stack_state(model.stack, (steps + 1) * slots, 1), stack_state(model.stack, slots, most_rows)
        self._state = [
            of_once if isinstance(of_once, AttentionState) else of_copies
            for of_copies, of_once in zip(copies, once, strict=True)
        ]

    def begin(self, kept: Tensor) -> None:
        """Return to the states after the first kept steps of the last round.

        Args:
            kept: (R,) int64 numbers of kept steps.
        """
        self._lengths += kept
        for layer in self._state:
            if isinstance(layer, AttentionState):
                layer.lengths.copy_(self._lengths)
                continue
            for table in (layer.conv, layer.ssm):
                table[: self._slots] = table[kept * self._slots + self._row]

    def known(self, step: int, before: Previous) -> Tensor:
        """Take a step.

        Args:
            step: Number of the step in the round.
            before: What is known before the hits.

        Returns:
            (R, d_model) inputs of the heads.
        """
        model, first = self._model, step * self._slots
        features = model.features(before)
        rows = model.stack.first_sum(row_linear(features, model.inputs.weight, model.inputs.bias))
        for block, state in zip(model.stack.blocks(), self._state, strict=True):
            slots = self._row
            if not isinstance(state, AttentionState):
                slots = self._row + first + self._slots
                for table in (state.conv, state.ssm):
                    table[first + self._slots : first + 2 * self._slots] = table[first : first + self._slots]
            rows = cast(DeferredSum, block.step(rows, state, slots))
        hidden: Tensor = model.stack.norm_f(*rows)[0]
        return hidden + row_linear(features, model.direct.weight, model.direct.bias)

    def clear(self, slots: Tensor) -> None:
        """Prepare slots for new sequences.

        Args:
            slots: (M,) int64 slots.
        """
        self._lengths.index_fill_(0, slots, 0)
        for layer in self._state:
            if not isinstance(layer, AttentionState):
                layer.conv.index_fill_(0, slots, 0.0)
                layer.ssm.index_fill_(0, slots, 0.0)


class TableSteps:
    """A table as a draft. It has no states.

    Args:
        table: The table, on the device of the samples.
    """

    def __init__(self, table: DraftTable) -> None:
        self._table = table
        self.law: HitLaw = TableLaw(table)

    def begin(self, kept: Tensor) -> None:
        """Do nothing."""

    def known(self, step: int, before: Previous) -> Tensor:
        """Return what the table is asked for.

        Args:
            step: Number of the step in the round.
            before: What is known before the hits.

        Returns:
            (R, 2) inputs of the law.
        """
        return self._table.known(before)

    def clear(self, slots: Tensor) -> None:
        """Do nothing."""


def draft_steps(draft: Draft, device: torch.device, slots: int, steps: int, most_rows: int) -> DraftSteps:
    """Return a draft with states.

    Args:
        draft: The draft.
        device: Device of the samples.
        slots: Number of sequences.
        steps: Number of steps of a round.
        most_rows: Largest number of rows of a sequence, drafted ones included.

    Returns:
        The draft on the device.
    """
    if isinstance(draft, ShowerGenerator):
        return ModelSteps(in_float32(draft, device), slots, steps, most_rows)
    return TableSteps(draft.to(device))


def in_float32(model: ShowerGenerator, device: torch.device) -> ShowerGenerator:
    """Return a generator in float32 on a device.

    Args:
        model: The generator.
        device: The device.

    Returns:
        The generator itself if possible, so that a draft shares the weights of the model; otherwise a copy.
    """
    if all(weights.dtype == torch.float32 and weights.device == device for weights in model.parameters()):
        return model
    return copy.deepcopy(model).float().to(device)


def check_draft(model: ShowerGenerator, draft: ShowerGenerator) -> None:
    """Check that a generator can propose hits for another one.

    The draft works in the units of the model. Its own units may differ a little, because they were fitted to other
    showers: this makes it a slightly worse draft, but does not change the law of the samples.

    Args:
        model: The generator.
        draft: The draft.

    Raises:
        ValueError: If the draft knows another detector or other conditions, or its units differ by more than a tenth.
    """
    mine, others = model.coding, draft.coding
    if mine.slices != others.slices:
        raise ValueError(
            f"draft: it was trained on showers with {len(others.slices)} slices, but those of the model have "
            f"{len(mine.slices)}; a draft must know the same detector, so train it on the showers of the model."
        )
    advice = "train it on the same showers as the model, or use the draft table or skip-layers."
    one, other = mine.conditions, others.conditions
    if (one.fields, _without_energies(one)) != (other.fields, _without_energies(other)):
        raise ValueError(f"draft: its conditions or configs differ from those of the model; {advice}")
    scale = mine.position_scale
    pairs = [(scale, others.position_scale, scale), *zip(one.deviations, other.deviations, one.deviations, strict=True)]
    pairs += zip(one.means, other.means, one.deviations, strict=True)
    if any(abs(a - b) > _MOST_DIFFERENCE * unit for a, b, unit in pairs):
        raise ValueError(f"draft: its units of positions and conditions differ from those of the model; {advice}")


def _without_energies(conditions: ShowerConditions) -> list[ShowerConfig]:
    return [config.replace(incident_energy=1.0) for config in conditions.configs]


@torch.no_grad()
def draft_without_layers(model: ShowerGenerator, on_cpu: ShowerGenerator, batch: HitBatch) -> ShowerGenerator:
    """Return a generator without half of its layers, one after another the one whose loss costs the least likelihood.

    Args:
        model: The generator, with at least two layers.
        on_cpu: The same generator in float32 on the CPU.
        batch: Showers of the generator on the CPU.

    Returns:
        The smaller generator, which shares the weights of ``model``.
    """
    kept = list(range(len(model.stack.layers)))

    def likelihood(layers: list[int]) -> float:
        found = without_layers(on_cpu, layers)(batch)
        return float(found.energy.sum() + found.position.sum())

    for _ in range(len(kept) // 2):
        smaller = [[number for number in kept if number != skipped] for skipped in kept]
        kept = max(smaller, key=likelihood)
    return without_layers(model, kept)


def without_layers(model: ShowerGenerator, kept: list[int]) -> ShowerGenerator:
    """Return a generator without some of its layers. It shares the weights of the others.

    Args:
        model: The generator.
        kept: Indices of the layers that remain, in ascending order.

    Returns:
        The smaller generator.
    """
    smaller = copy.copy(model)
    smaller._modules = dict(model._modules)
    stack = copy.copy(model.stack)
    stack._modules = dict(model.stack._modules)
    layers = list(model.stack.layers)
    stack.layers = nn.ModuleList(layers[number] for number in kept)
    smaller.stack = stack
    return smaller
