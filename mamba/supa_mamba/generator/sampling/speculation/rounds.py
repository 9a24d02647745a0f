"""Rounds of speculative sampling in operations of PyTorch, on any device."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from supa.arrays import Array, BoolArray, IntArray
from supa_learning import CapturedStep
from supa_mamba.generator.coding import SHARE_BITS
from supa_mamba.generator.model import Previous, ShowerGenerator
from supa_mamba.generator.sampling.choices import after_hits, before_first_hits
from supa_mamba.generator.sampling.limits import most_hits_of
from supa_mamba.generator.sampling.rows import Hits, Rows
from supa_mamba.generator.sampling.speculation.drafts import Draft, draft_steps, in_float32
from supa_mamba.generator.sampling.speculation.hit_densities import ModelLaw, Proposal, log_density, propose
from supa_mamba.generator.sampling.speculation.replays import ReplayStack
from supa_mamba.generator.sampling.uniforms import PER_HIT, PER_TRIAL, TRIAL_BITS, TRIALS, trial_uniforms
from supa_mamba.ops.backend import device_guard, is_cuda
from supa_mamba.ops.row_linear.function import row_linear

_TRIALS = 4
"""Trials of a rejected hit in a round. If all of them fail, the next round goes on with further trials."""


class Counts(NamedTuple):
    """Numbers of hits of some rounds, by their place in the draft.

    Args:
        tested: (K,) int64 numbers of drafted hits that were tested, because all earlier ones of the round were
            accepted.
        accepted: (K,) int64 numbers of accepted hits.
    """

    tested: IntArray
    accepted: IntArray


class SpeculativeRounds:
    """Model, draft, states and random numbers of showers that are sampled in rounds.

    In a round the draft proposes up to K hits of each shower, one after another. The model scores all of them in one
    pass. A hit is accepted with the probability min(1, p / q) of the densities p of the model and q of the draft. The
    first hit that is rejected is replaced by one that is drawn from p and kept with the probability max(0, 1 - q / p).
    The hits of a shower are a function of its random numbers alone, for any K.

    Args:
        model: The generator, on the device of the samples. It is used in float32.
        draft: The draft.
        seed: Random seed.
        slots: Number of showers that are sampled at the same time, R.
        length: Number of drafted hits of a round, K.
    """

    def __init__(self, model: ShowerGenerator, draft: Draft, seed: int, slots: int, length: int) -> None:
        self._device = device = model.inputs.weight.device
        self._model = in_float32(model, device)
        self._seed, self._slots, self._length = seed, slots, length
        most_rows = most_hits_of(model) + length
        self._draft = draft_steps(draft, device, slots, length, most_rows)
        self._law = ModelLaw(self._model)
        self.target = ReplayStack(self._model.stack, slots, length, most_rows)
        # The kernels take the bits of the seed.
        self._seed_bits = torch.from_numpy(np.array([seed], np.uint64).view(np.int64)).to(device)
        conditions, slices = model.coding.conditions.num_conditions, model.coding.num_slices
        self._index = torch.zeros(slots, dtype=torch.int64, device=device)
        # A free row has no hits left; its other values are those of a shower before its first hit.
        self._total = torch.zeros_like(self._index)
        self._count = torch.zeros(slots, slices, dtype=torch.int64, device=device)
        self._count[:, 0] = 1
        self._energy = self._count << SHARE_BITS
        condition = torch.zeros(slots, conditions, device=device)
        first, rest = before_first_hits(self._count, self._energy, condition)
        self._before, self._rest = Previous(*(column.clone() for column in first)), rest.clone()
        self._trial, self._kept = torch.zeros_like(self._index), torch.zeros_like(self._index)
        self._row = torch.arange(slots, device=device)
        self._captured: CapturedStep[int, None] = CapturedStep(lambda _: self._round(), lambda _: None, device=device)
        self._captured.inputs(0)
        self._tested, self._accepted = (torch.zeros(length, dtype=torch.int64, device=device) for _ in range(2))

    def enter(self, rows: Rows) -> None:
        """Let showers enter their slots.

        Args:
            rows: The showers before their first hits.
        """
        if not len(rows.shower):
            return

        def moved(values: Array) -> Tensor:
            return torch.from_numpy(np.ascontiguousarray(values)).to(self._device)

        slots = moved(rows.slot)
        count, energy, condition = moved(rows.count), moved(rows.energy), moved(rows.condition)
        first, rest = before_first_hits(count, energy, condition)
        first = first._replace(profile=moved(rows.profile))
        for table, new in zip(self._before, first, strict=True):
            table.index_copy_(0, slots, new)
        entering = {"_index": moved(rows.index), "_total": count.sum(1), "_count": count, "_energy": energy}
        for name, new in (entering | {"_rest": rest}).items():
            getattr(self, name).index_copy_(0, slots, new)
        self._trial.index_fill_(0, slots, 0)
        self._kept.index_fill_(0, slots, 0)
        self.target.clear(slots)
        self._draft.clear(slots)

    def step(self, rows: Rows) -> tuple[Hits, BoolArray]:
        """Run a round for the showers in some slots, which are those of all unfinished showers.

        Args:
            rows: The showers, of which only numbers and slots are used.

        Returns:
            The new hits, those of a shower in order, and an (M,) mask of the showers that are finished.
        """
        with torch.no_grad(), torch.autocast(self._device.type, enabled=False), device_guard(self._seed_bits):
            found = self._captured(0).cpu().numpy()
        found, length = found[rows.slot], self._length
        kept, is_done = found[:, 0], found[:, 1].astype(np.bool_)
        row, place = np.nonzero(np.arange(length) < kept[:, None])
        energy, of_slice = found[:, 2 : 2 + length], found[:, 2 + length : 2 + 2 * length]
        position = found[:, 2 + 2 * length :].astype(np.int32).view(np.float32).reshape(-1, length, 2)
        is_last = is_done[row] & (place == kept[row] - 1)
        return Hits(rows.shower[row], of_slice[row, place], position[row, place], energy[row, place], is_last), is_done

    def counts(self) -> Counts:
        """Return the numbers of tested and accepted hits of all rounds.

        Returns:
            The numbers.
        """
        return Counts(self._tested.cpu().numpy(), self._accepted.cpu().numpy())

    def close(self) -> None:
        """Wait for the device, and forget the recorded graph."""
        self._captured.forget()

    def _round(self) -> Tensor:
        """Run a round, and return (R, 2 + 4 K) int64: number of new hits, whether the shower is done, and columns."""
        length, model = self._length, self._model
        known_before, rests, draft_known, found, of_draft, uniform = self._drafted()
        flat = Previous(*(column[:, :-1].flatten(0, 1) for column in known_before))
        features = model.features(flat)
        embedded = row_linear(features, model.inputs.weight, model.inputs.bias)
        hidden = self.target.score(embedded.view(self._slots, length, -1), self._kept).flatten(0, 1)
        known = hidden + row_linear(features, model.direct.weight, model.direct.bias)
        of_model = log_density(self._law, known, flat, Proposal(*(x.flatten(0, 1) for x in found)))
        log_ratio = of_model.view(self._slots, length) - of_draft
        left = (self._total - self._before.number)[:, None] - torch.arange(length, device=self._device)
        passes = (uniform[..., PER_HIT].log() <= log_ratio) & (left > 0)
        passes[:, 0] &= self._trial == 0
        accepted = passes.long().cumprod(1).sum(1)
        tested = torch.arange(length, device=self._device) <= accepted[:, None]
        tested &= (left > 0) & (self._trial == 0)[:, None]
        self._tested += tested.sum(0)
        self._accepted += (tested & passes).sum(0)
        # The first hit that is not accepted, if there is one.
        place = accepted.clamp(max=length - 1)
        is_rejected = (accepted < length) & (left[self._row, place] > 0)
        at = Previous(*(column[self._row, accepted] for column in known_before))
        rest = rests[self._row, accepted]
        replaced, succeeded, trial = self._residual(
            known.view(self._slots, length, -1)[self._row, place], draft_known[self._row, place], at, rest
        )
        is_replaced = is_rejected & succeeded
        self._trial.copy_(torch.where(is_rejected & ~succeeded, trial, 0))
        self._kept.copy_(accepted + is_replaced.long())
        following, of_following = after_hits(
            at, replaced.energy, replaced.position, replaced.energy_logit, rest, self._count, self._energy
        )
        for table, new, old in zip(self._before, following, at, strict=True):
            table.copy_(_where(is_replaced, new, old))
        self._rest.copy_(torch.where(is_replaced, of_following, rest))
        is_here = (torch.arange(length, device=self._device) == accepted[:, None]) & is_replaced[:, None]
        energy = torch.where(is_here, replaced.energy[:, None], found.energy)
        position = torch.where(is_here[..., None], replaced.position[:, None], found.position)
        is_done = (self._before.number >= self._total) & (self._total > 0)
        self._total.copy_(torch.where(is_done, 0, self._total))
        bits = position.contiguous().view(torch.int32).flatten(1).long()
        return torch.cat([self._kept[:, None], is_done.long()[:, None], energy, known_before.slice[:, :-1], bits], 1)

    def _drafted(self) -> tuple[Previous, Tensor, Tensor, Proposal, Tensor, Tensor]:
        """Draft hits, and return them with what is known before each of them and after the last one."""
        self._draft.begin(self._kept)
        before, rest, length = self._before, self._rest, self._length
        numbers = before.number[:, None] + torch.arange(length, device=self._device)
        uniform = self._uniforms(self._index[:, None].expand_as(numbers), numbers, torch.zeros_like(numbers))
        known_before, rests = [before], [rest]
        knowns, found, densities = list[Tensor](), list[Proposal](), list[Tensor]()
        for step in range(length):
            known = self._draft.known(step, before)
            hit, density = propose(self._draft.law, known, before, rest, uniform[:, step])
            before, rest = after_hits(
                before, hit.energy, hit.position, hit.energy_logit, rest, self._count, self._energy
            )
            known_before.append(before)
            found.append(hit)
            for values, value in ((rests, rest), (knowns, known), (densities, density)):
                values.append(value)
        return (
            Previous(*_stacked(known_before)), torch.stack(rests, 1), torch.stack(knowns, 1),
            Proposal(*_stacked(found)), torch.stack(densities, 1), uniform,
        )  # fmt: skip

    def _residual(
        self, known: Tensor, draft_known: Tensor, at: Previous, rest: Tensor
    ) -> tuple[Proposal, Tensor, Tensor]:
        """Try to draw hits from the residual law; return the hits, whether a trial succeeded, and the next trial."""
        first = self._trial.clamp(min=1)
        trial = first[:, None] + torch.arange(_TRIALS, device=self._device)

        def repeated(x: Tensor) -> Tensor:
            return x.repeat_interleave(_TRIALS, 0, output_size=_TRIALS * self._slots)

        before = Previous(*map(repeated, at))
        index, number = self._index[:, None].expand_as(trial), at.number[:, None].expand_as(trial)
        uniform = self._uniforms(index, number, trial).flatten(0, 1)
        found, of_model = propose(self._law, repeated(known), before, repeated(rest), uniform)
        of_draft = log_density(self._draft.law, repeated(draft_known), before, found)
        passes = uniform[:, PER_HIT] < -torch.expm1((of_draft - of_model).clamp(max=0.0))
        # Both laws are then equal up to rounding; see `TRIAL_BITS`.
        passes = passes.view(-1, _TRIALS) | (trial >= (1 << TRIAL_BITS) - 1)
        chosen = passes.to(torch.int8).argmax(1)
        hit = Proposal(*(x.view(-1, _TRIALS, *x.shape[1:])[self._row, chosen] for x in found))
        return hit, passes.any(1), first + _TRIALS

    def _uniforms(self, index: Tensor, number: Tensor, trial: Tensor) -> Tensor:
        """Return the (..., 6) random numbers of trials."""
        columns = (x.reshape(-1) for x in (index, number, trial))
        if is_cuda(self._seed_bits):
            found = random_numbers(self._seed_bits, *columns)
        else:
            found = torch.from_numpy(trial_uniforms(self._seed, *(x.numpy() for x in columns)))
        return found.view(*number.shape, PER_TRIAL)


def random_numbers(seed: Tensor, index: Tensor, number: Tensor, trial: Tensor) -> Tensor:
    """Return the random numbers of trials of hits on a GPU; see `trial_uniforms`.

    Args:
        seed: (1,) int64 bits of the random seed.
        index: (M,) int64 indices of the showers.
        number: (M,) int64 numbers of earlier hits of the showers.
        trial: (M,) int64 numbers of the trials.

    Returns:
        (M, 6) float64 numbers, above 0 and below 1.
    """
    from supa_mamba.generator.sampling.kernels.trials import trial_kernel

    found = torch.empty(len(index), PER_TRIAL, dtype=torch.float64, device=seed.device)
    trial_kernel[(len(index),)](
        seed, index.contiguous(), number.contiguous(), trial.contiguous(), found, TRIALS=TRIALS, BITS=TRIAL_BITS,
        num_warps=1,
    )  # fmt: skip
    return found


def _stacked(rows: Sequence[tuple[Tensor, ...]]) -> list[Tensor]:
    return [torch.stack(columns, 1) for columns in zip(*rows, strict=True)]


def _where(mask: Tensor, one: Tensor, other: Tensor) -> Tensor:
    return torch.where(mask.view(-1, *[1] * (one.ndim - 1)), one, other)
