"""Rounds of speculative sampling on a CPU in compiled loops. `SpeculativeRounds` defines them."""

from dataclasses import replace
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch

from supa.arrays import Array, BoolArray, FloatArray, IntArray
from supa_mamba.generator.coding import SHARE_BITS
from supa_mamba.generator.model import ShowerGenerator
from supa_mamba.generator.sampling import compiled_kernels as shared
from supa_mamba.generator.sampling.cpu_stack import CpuStack, Linear, Perceptron, float_array
from supa_mamba.generator.sampling.limits import most_hits_of
from supa_mamba.generator.sampling.rows import Hits, Rows
from supa_mamba.generator.sampling.speculation import compiled_kernels as kernels
from supa_mamba.generator.sampling.speculation.drafts import Draft, in_float32
from supa_mamba.generator.sampling.speculation.replays import stack_state
from supa_mamba.generator.sampling.speculation.rounds import Counts
from supa_mamba.generator.sampling.speculation.table import COMPONENTS, RINGS, DraftTable, energy_bin
from supa_mamba.generator.sampling.uniforms import PER_HIT, TRIAL_BITS, trial_uniforms
from supa_mamba.modules.states import AttentionState, MambaState, StackState, clear_slots
from supa_mamba.ops.compiled import run_in_threads

_TRIALS = 2
"""Trials of a rejected hit that are computed together."""

_KEPT = ("slice", "left", "rest", "number", "number_in_slice", "position", "energy_logit", "distance", "sums")
"""Columns of `Rows` that a hit changes."""


class _Hits(NamedTuple):
    """Proposed hits; see `Proposal`, and logarithms of their densities."""

    value: FloatArray
    place: FloatArray
    energy: IntArray
    logit_and_log: Array
    density: FloatArray

    @classmethod
    def empty(cls, count: int) -> "_Hits":
        return cls(
            np.empty(count), np.empty((count, 2)), np.empty(count, np.int64), np.empty((count, 2), np.float32),
            np.empty(count),
        )  # fmt: skip


class _Law(Protocol):
    rings: int

    def energy(self, known: Array) -> Array: ...

    def position(self, known: Array, chosen: Array) -> Array: ...


class _ModelLaw:
    """Law of the next hit from the heads of a generator; see `ModelLaw`."""

    def __init__(self, model: ShowerGenerator) -> None:
        self.rings, self.energy = model.config.ring_components, Perceptron(model.energy_head)
        self._chosen, self._position = Linear(model.chosen_energy), Perceptron(model.position_head)

    def position(self, known: Array, chosen: Array) -> Array:
        both: Any = self._chosen(chosen)
        both += known
        return self._position(both)


class _TableLaw:
    """Law of the next hit from a table; see `TableLaw`."""

    rings = RINGS

    def __init__(self, table: DraftTable) -> None:
        self._energy, self._position = float_array(table.energy), float_array(table.position)

    def energy(self, known: Any) -> Array:
        found: Any = self._energy[known[:, 0].astype(np.int64)]
        found[:, COMPONENTS : 2 * COMPONENTS] -= known[:, 1:]
        of_rows: Array = found
        return of_rows

    def position(self, known: Any, chosen: Any) -> Array:
        found: Array = self._position[energy_bin(known[:, 0].astype(np.int64), chosen[:, 0] + known[:, 1])]
        return found


class _ModelSteps:
    """A generator as a draft; see `ModelSteps`."""

    def __init__(self, model: ShowerGenerator, slots: int, steps: int, most_rows: int) -> None:
        self.law: _Law = _ModelLaw(model)
        self._inputs, self._direct = Linear(model.inputs), Linear(model.direct)
        copies, once = stack_state(model.stack, (steps + 1) * slots, 1), stack_state(model.stack, slots, most_rows)
        self._tables: list[Array] = []
        self._lengths = [layer.lengths.numpy() for layer in once if isinstance(layer, AttentionState)]
        self._kept_rows = np.zeros(slots, np.int64)
        of_steps: list[list[Any]] = [[] for _ in range(steps)]
        for of_copies, of_once in zip(copies, once, strict=True):
            if isinstance(of_copies, MambaState):
                conv, ssm = (x.view(steps + 1, slots, *x.shape[1:]) for x in of_copies)
                self._tables += [conv.numpy(), ssm.numpy()]
            for step, layers in enumerate(of_steps):
                is_mamba = isinstance(of_copies, MambaState)
                layers.append(MambaState(conv[step + 1], ssm[step + 1]) if is_mamba else of_once)
        self._stacks = [CpuStack(model.stack, tuple(layers)) for layers in of_steps]

    def clear(self, slots: IntArray) -> None:
        self._kept_rows[slots] = 0
        for table in self._tables:
            table[0, slots] = 0.0

    def begin(self, slots: IntArray, kept: IntArray) -> None:
        self._kept_rows[slots] += kept
        for lengths in self._lengths:
            lengths[slots] = self._kept_rows[slots]
        for table in self._tables:
            table[0, slots] = table[kept, slots]

    def known(self, step: int, rows: Rows, inputs: Array) -> Array:
        for table in self._tables:
            table[step + 1, rows.slot] = table[step, rows.slot]
        known: Any = self._stacks[step].step(self._inputs(inputs), rows.slot)
        known += self._direct(inputs)
        found: Array = known
        return found


class _TableSteps:
    """A table as a draft; see `TableSteps`."""

    def __init__(self, table: DraftTable) -> None:
        self.law: _Law = _TableLaw(table)

    def clear(self, slots: IntArray) -> None:
        """Do nothing."""

    def begin(self, slots: IntArray, kept: IntArray) -> None:
        """Do nothing."""

    def known(self, step: int, rows: Rows, inputs: Array) -> Array:
        row = 2 * rows.slice + rows.number_in_slice % 2
        found: Array = np.stack([row, np.log(np.maximum(rows.left - 1, 1))], 1).astype(np.float32)
        return found


class CpuRounds:
    """Model, draft, states and random numbers of showers that are sampled in rounds on a CPU.

    Each thread processes some of the rows.

    Args:
        model: The generator, on the CPU. It is used in float32.
        draft: The draft.
        seed: Random seed.
        slots: Number of showers that are sampled at the same time.
        length: Number of drafted hits of a round, K.
    """

    def __init__(self, model: ShowerGenerator, draft: Draft, seed: int, slots: int, length: int) -> None:
        cpu = torch.device("cpu")
        model = in_float32(model, cpu)
        self._seed, self._length, most_rows = seed, length, most_hits_of(model) + length
        self._deviation = model.coding.conditions.deviations[0]
        self._state: StackState = stack_state(model.stack, slots, most_rows)
        self._stack = CpuStack(model.stack, self._state, length)
        self._inputs, self._direct, self._law = Linear(model.inputs), Linear(model.direct), _ModelLaw(model)
        self._draft: _ModelSteps | _TableSteps = (
            _ModelSteps(in_float32(draft, cpu), slots, length, most_rows)
            if isinstance(draft, ShowerGenerator)
            else _TableSteps(draft.to(cpu))
        )
        self._kept = np.zeros(slots, np.int64)  # hits of the last round
        self._tested, self._accepted = np.zeros((2, slots, length), np.int64)

    def enter(self, rows: Rows) -> None:
        """Let showers enter their slots.

        Args:
            rows: The showers before their first hits.
        """
        clear_slots(self._state, torch.from_numpy(rows.slot))
        self._draft.clear(rows.slot)
        self._kept[rows.slot] = 0

    def step(self, rows: Rows) -> tuple[Hits, BoolArray]:
        """Run a round for unfinished showers, and update the rows in place.

        Args:
            rows: The showers.

        Returns:
            The new hits, those of a shower in order, and an (M,) mask of the showers that are finished.
        """
        parts: dict[int, Hits] = {}
        is_done = np.zeros(len(rows.shower), np.bool_)

        def run(first: int, last: int) -> None:
            parts[first] = self._round(rows.part(first, last), is_done[first:last])

        run_in_threads(run, len(rows.shower))
        return Hits.joined([parts[first] for first in sorted(parts)]), is_done

    def counts(self) -> Counts:
        """Return the numbers of tested and accepted hits of all rounds.

        Returns:
            The numbers.
        """
        return Counts(self._tested.sum(0), self._accepted.sum(0))

    def close(self) -> None:
        """Do nothing: there is no device to wait for."""

    def _round(self, rows: Rows, is_done: BoolArray) -> Hits:
        count, length = len(rows.shower), self._length
        kept, total = self._kept[rows.slot], rows.count.sum(1)
        self._draft.begin(rows.slot, kept)
        # What is known before each drafted hit and after the last one.
        columns: dict[str, Any] = {name: getattr(rows, name) for name in _KEPT}
        before = {name: np.empty((count, length + 1, *x.shape[1:]), x.dtype) for name, x in columns.items()}
        numbers = rows.number[:, None] + np.arange(length)
        uniform = trial_uniforms(
            self._seed, np.repeat(rows.index, length), numbers.ravel(), np.zeros(count * length, np.int64)
        ).reshape(count, length, -1)
        inputs = np.empty((count, length, self._inputs.weight.shape[1]), np.float32)
        now, drafted, known = replace(rows, **{name: x.copy() for name, x in columns.items()}), [], []
        for step in range(length):
            for name, table in before.items():
                table[:, step] = getattr(now, name)
            features = self._features(now)
            inputs[:, step] = features
            known.append(self._draft.known(step, now, features))
            drafted.append(self._proposed(self._draft.law, known[-1], now, np.ascontiguousarray(uniform[:, step])))
            _follow(now, drafted[-1])
        for name, table in before.items():
            table[:, length] = getattr(now, name)
        found = _Hits(*(np.stack(columns, 1) for columns in zip(*drafted, strict=True)))
        of_draft = np.stack(known, 1)
        # The model scores all of them.
        flat = inputs.reshape(count * length, -1)
        of_model: Any = self._stack.score(self._inputs(flat), rows.slot, kept)
        of_model += self._direct(flat)
        density = self._densities(
            self._law, of_model, before["left"][:, :-1].ravel(), before["position"][:, :-1].reshape(-1, 2),
            found.value.ravel(), found.place.reshape(-1, 2), found.logit_and_log.reshape(-1, 2),
        ).reshape(count, length)  # fmt: skip
        is_hit = numbers < total[:, None]
        passes = (np.log(uniform[..., PER_HIT]) <= density - found.density) & is_hit
        accepted = np.cumprod(passes, 1).sum(1)
        self._tested[rows.slot] += is_hit & (np.arange(length) <= accepted[:, None])
        self._accepted[rows.slot] += np.arange(length) < accepted[:, None]
        all_rows = np.arange(count)
        rejected = np.flatnonzero(accepted < np.minimum(length, total - rows.number))
        for name, table in before.items():
            getattr(rows, name)[:] = table[all_rows, accepted]
        kept = accepted.copy()
        kept[rejected] += 1
        if len(rejected):
            place = accepted[rejected]
            others = rows.selected(rejected)
            hits = self._residual(
                others, of_model.reshape(count, length, -1)[rejected, place], of_draft[rejected, place]
            )
            _follow(others, hits)
            for name in _KEPT:
                getattr(rows, name)[rejected] = getattr(others, name)
            for table, new in zip(found, hits, strict=True):
                table[rejected, place] = new
        self._kept[rows.slot] = kept
        is_done[:] = rows.number >= total
        row, place = np.nonzero(np.arange(length) < kept[:, None])
        return Hits(
            rows.shower[row], before["slice"][row, place], found.place[row, place].astype(np.float32),
            found.energy[row, place], is_done[row] & (place == kept[row] - 1),
        )  # fmt: skip

    def _features(self, rows: Rows) -> Array:
        inputs = np.empty((len(rows.shower), self._inputs.weight.shape[1]), np.float32)
        shared.write_inputs(
            rows.slice, rows.left, rows.rest, rows.number, rows.number_in_slice, rows.position, rows.energy_logit,
            rows.distance, rows.sums, rows.profile, rows.condition, self._deviation, SHARE_BITS, inputs,
        )  # fmt: skip
        return inputs

    def _proposed(self, law: _Law, known: Array, rows: Rows, uniform: FloatArray) -> _Hits:
        """Propose the next hits of rows."""
        hits = _Hits.empty(len(rows.shower))
        kernels.propose_energies(
            law.energy(known), rows.left, rows.rest, uniform, SHARE_BITS, hits.value, hits.energy, hits.logit_and_log,
            hits.density,
        )  # fmt: skip
        kernels.propose_positions(
            law.position(known, hits.logit_and_log), law.rings, rows.position, uniform, hits.place, hits.density
        )
        return hits

    def _densities(
        self, law: _Law, known: Array, left: IntArray, old: Array, value: FloatArray, place: FloatArray, chosen: Array
    ) -> FloatArray:
        """Return the logarithms of the densities of proposed hits."""
        density = np.empty(len(value))
        kernels.energy_densities(law.energy(known), left, value, density)
        kernels.position_densities(law.position(known, chosen), law.rings, old, place, density)
        return density

    def _residual(self, rows: Rows, known: Array, draft_known: Array) -> _Hits:
        """Draw a hit from the residual law for each row."""
        chosen = _Hits.empty(len(rows.shower))
        waiting, trial = np.arange(len(rows.shower)), 1
        while len(waiting):
            repeated = np.repeat(waiting, _TRIALS)
            given = rows.selected(repeated)
            trials = np.tile(trial + np.arange(_TRIALS), len(waiting))
            uniform = trial_uniforms(self._seed, given.index, given.number, trials)
            hits = self._proposed(self._law, known[repeated], given, uniform)
            of_draft = self._densities(
                self._draft.law, draft_known[repeated], given.left, given.position, hits.value, hits.place,
                hits.logit_and_log,
            )  # fmt: skip
            passes = uniform[:, PER_HIT] < -np.expm1(np.minimum(of_draft - hits.density, 0.0))
            # Both laws are then equal up to rounding; see `TRIAL_BITS`.
            passes |= trials >= (1 << TRIAL_BITS) - 1
            passes = passes.reshape(-1, _TRIALS)
            succeeded = passes.any(1)
            first = (np.arange(len(waiting)) * _TRIALS + passes.argmax(1))[succeeded]
            for table, new in zip(chosen, hits, strict=True):
                table[waiting[succeeded]] = new[first]
            waiting, trial = waiting[~succeeded], trial + _TRIALS
        return chosen


def _follow(rows: Rows, hits: _Hits) -> None:
    """Advance rows past hits, in place."""
    kernels.follow(
        hits.energy, hits.place, hits.logit_and_log, rows.count, rows.energy, *(getattr(rows, name) for name in _KEPT)
    )
