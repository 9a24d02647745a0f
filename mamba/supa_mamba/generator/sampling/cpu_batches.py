"""Continuous batches on a CPU: a finished shower leaves its slot, and the next one enters."""

from collections import deque
from collections.abc import Callable, Iterator
from typing import Protocol

import numpy as np
import torch

from supa import Run, Showers
from supa.arrays import Array, BoolArray, IntArray
from supa_mamba.generator.model import ShowerGenerator
from supa_mamba.generator.sampling.blocks import Block
from supa_mamba.generator.sampling.cpu import CpuStepper
from supa_mamba.generator.sampling.leaks import LeakSampler
from supa_mamba.generator.sampling.profiles import Profiles, ProfileSampler
from supa_mamba.generator.sampling.rows import Hits, Rows

ProfileChoice = Callable[[IntArray, Array, IntArray], Profiles]
"""Function of the indices, conditions and deposited energies of showers; see `ProfileSampler`."""


class SamplingSteps(Protocol):
    """Model and states of showers that are sampled step by step, with one or several hits of a shower in a step."""

    def enter(self, rows: Rows) -> None:
        """Let showers enter their slots."""

    def step(self, rows: Rows) -> tuple[Hits, BoolArray]:
        """Return the next hits of showers, and an (M,) mask of the showers that are finished."""

    def close(self) -> None:
        """Release what the steps hold."""


class Queue:
    """Showers that wait for a slot, and the blocks to which showers in progress belong.

    Args:
        model: The generator.
        run: The sample.
        seed: Its random seed.
        num_showers: Number of showers.
        profiles: Choice of the profiles.
    """

    def __init__(self, model: ShowerGenerator, run: Run, seed: int, num_showers: int, profiles: ProfileChoice) -> None:
        self._coding, self._run, self._num_showers = model.coding, run, num_showers
        self._leaks, self._profiles = LeakSampler(model, seed), profiles
        self._last = self._prepare(0)
        self.unfinished = deque([self._last])

    @property
    def next(self) -> int:
        """A number up to which no shower waits: that of the first one, or the end of the last block."""
        return int(self._last.waiting[0]) if len(self._last.waiting) else self._last.stop

    @property
    def is_prepared(self) -> bool:
        """Whether the last block ends with the last shower."""
        return self._last.stop == self._num_showers

    def take(self, slots: IntArray) -> Rows:
        """Return the next showers, at most one for each slot.

        Args:
            slots: (M,) int64 free slots.

        Returns:
            The showers before their first hits.
        """
        parts = [self._take(slots)]
        taken = len(parts[0].shower)
        while taken < len(slots) and self._last.stop < self._num_showers:
            self._last = self._prepare(self._last.stop)
            self.unfinished.append(self._last)
            parts.append(self._take(slots[taken:]))
            taken += len(parts[-1].shower)
        return Rows.joined(parts)

    def finished(self, rows: Rows, parts: list[Hits]) -> Iterator[Showers]:
        """Return the showers of finished blocks.

        Args:
            rows: The showers in progress.
            parts: All hits of unfinished blocks. Those of finished blocks are removed.

        Yields:
            The showers of each finished block.
        """
        # Showers enter in order, so all before the oldest one in progress are finished.
        oldest = rows.shower.min(initial=self.next)
        while self.unfinished and self.unfinished[0].stop <= oldest:
            block = self.unfinished.popleft()
            whole = Hits.joined(parts)
            mine = whole.shower < block.stop
            parts[:] = [whole.selected(~mine)]
            yield block.showers(whole.selected(mine), self._coding, self._run)

    def _take(self, slots: IntArray) -> Rows:
        block = self._last
        shower, block.waiting = block.waiting[: len(slots)], block.waiting[len(slots) :]
        place = shower - block.start
        return Rows.entering(
            shower, self._run.first + shower, slots[: len(shower)], block.condition[place],
            self._of_last.selected(place),
        )  # fmt: skip

    def _prepare(self, start: int) -> Block:
        block = Block.prepared(self._leaks, self._coding, self._run, self._num_showers, start, 1)
        index = self._run.first + np.arange(block.start, block.stop)
        self._of_last = self._profiles(index, block.condition, block.energy)
        return block


def pieces_on_cpu(model: ShowerGenerator, run: Run, seed: int, num_showers: int, slots: int) -> Iterator[Showers]:
    """Sample showers.

    Args:
        model: The generator.
        run: The sample.
        seed: Its random seed.
        num_showers: Number of showers.
        slots: Number of showers that are sampled at the same time.

    Returns:
        Iterator over blocks of showers, in order.
    """
    queue = Queue(model, run, seed, num_showers, ProfileSampler(model, run.config, seed))
    return pieces_of(CpuStepper(model, seed, slots), queue, slots)


def pieces_of(steps: SamplingSteps, queue: Queue, slots: int) -> Iterator[Showers]:
    """Sample the showers of a queue. Finished showers leave their slots, and waiting ones enter.

    Args:
        steps: Model and states.
        queue: The showers.
        slots: Number of showers that are sampled at the same time.

    Yields:
        Blocks of showers, in order.
    """
    try:
        with torch.no_grad():
            free, parts = np.arange(slots), list[Hits]()
            rows = queue.take(free[:0])
        while queue.unfinished or not queue.is_prepared:
            with torch.no_grad():
                if len(free):
                    new = queue.take(free)
                    steps.enter(new)
                    free = free[len(new.slot) :]
                    rows = Rows.joined([rows, new])
                if len(rows.shower):
                    hits, is_done = steps.step(rows)
                    parts.append(hits)
                    if is_done.any():
                        free = np.concatenate([free, rows.slot[is_done]])
                        rows = rows.selected(~is_done)
            yield from queue.finished(rows, parts)
    finally:
        steps.close()
