"""A mixture of configs: the config of each shower of a stream, and the showers of a span of positions."""

from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np
import torch

from supa import ShowerConfig, Showers
from supa.arrays import IntArray
from supa.checks import check_name
from supa.recycling import Recycler
from supa.simulation_plan import Plan, Record, chunks_in_use, make_plan
from supa.span_walker import GpuSpanWalker, SpanWalker
from supa_datasets.loaders.source import Sample, ShowerSource
from supa_datasets.loaders.splitmix import splitmix64, to_unit
from supa_datasets.streams.gpu_batches import GpuSample

StreamEngine = Literal["cpu", "cuda"]

_GPU_SHARE = 16  # a batch needs only a part of the showers that occupy a GPU
_MOST_SHOWERS = 1 << 30  # so many that only memory limits the size of a chunk


def config_numbers(indices: IntArray, fractions: Sequence[float], seed: int) -> IntArray:
    """Return the config of each shower of a mixture, which depends only on its index, the fractions and the seed.

    Args:
        indices: (n,) indices of the showers.
        fractions: Fraction of each config; the fractions add up to 1.
        seed: Random seed from 0 to 2**64 - 1.

    Returns:
        (n,) int64 numbers of the configs.
    """
    # Both the seed and the index are hashed, so that streams of successive seeds are not shifted copies.
    key = splitmix64(np.array([seed], dtype=np.uint64))
    place = to_unit(splitmix64(key + splitmix64(indices.astype(np.uint64))))
    return np.searchsorted(np.cumsum(fractions)[:-1], place, side="right").astype(np.int64)


class MixtureWalker:
    """Simulate the showers of spans of positions, in one thread.

    Args:
        configs: The configs.
        fractions: Fraction of each config.
        seed: Random seed.
        first: Index of the shower at position 0.
        record: ``"hits"`` or ``"particles"``.
        engine: ``"cpu"`` or ``"cuda"``. The showers are the same.

    Raises:
        ValueError: If an argument is not allowed, or there is no usable GPU.
    """

    def __init__(
        self,
        configs: Sequence[ShowerConfig],
        fractions: Sequence[float],
        seed: int,
        first: int,
        record: Record,
        engine: StreamEngine,
    ) -> None:
        check_name(get_args(StreamEngine), "an engine of a stream", engine)
        plans = [make_plan(_MOST_SHOWERS, config, None, seed, 0, "all", record, engine, 1, None) for config in configs]
        self._walkers = [_walker(plan) for plan in plans]
        self._fractions, self._seed, self._first = fractions, seed, first
        most = min(plan.chunk_size for plan in plans)
        self.chunk_size = most // _GPU_SHARE if engine == "cuda" else most
        """Number of showers to simulate at once, if batches are smaller."""

    def walk(self, start: int, stop: int) -> Sample:
        """Simulate the showers at some positions.

        Args:
            start: First position.
            stop: Position after the last one.

        Returns:
            The showers in the order of their positions. Their parts are the numbers of their configs.
        """
        pieces = self.pieces(start, stop)
        if len(pieces) == 1:
            return Sample(pieces[0], np.zeros(stop - start, dtype=np.int64))
        place = np.empty(stop - start, dtype=np.int64)
        place[np.argsort(self._configs_of(start, stop), kind="stable")] = np.arange(stop - start)
        return ShowerSource(pieces).take(place)

    def pieces(self, start: int, stop: int) -> list[Showers]:
        """Simulate the showers at some positions, separately for each config.

        Args:
            start: First position.
            stop: Position after the last one.

        Returns:
            The showers of each config, in the order of their positions.
        """
        indices = (self._first + start, self._first + stop)
        if len(self._walkers) == 1:
            return [self._walkers[0].walk(*indices)]
        config = self._configs_of(start, stop)
        return [walker.walk(*indices, config == k) for k, walker in enumerate(self._walkers)]

    def walk_on_gpu(self, start: int, stop: int) -> GpuSample:
        """Simulate the showers at some positions, and leave them on the GPU. The engine must be ``"cuda"``.

        Args:
            start: First position.
            stop: Position after the last one.

        Returns:
            The showers in the order of their positions.
        """
        first, last = self._first + start, self._first + stop
        walkers = [walker for walker in self._walkers if isinstance(walker, GpuSpanWalker)]
        samples = [GpuSample.of(walker.walk_on_gpu(first, last), first, k) for k, walker in enumerate(walkers)]
        if len(samples) == 1:
            return samples[0]
        every = GpuSample.joined(samples)
        place = self._configs_of(start, stop) * (stop - start) + np.arange(stop - start)
        return every.take(torch.from_numpy(place).to(every.offset.device))

    def _configs_of(self, start: int, stop: int) -> IntArray:
        indices = np.arange(self._first + start, self._first + stop, dtype=np.int64)
        return config_numbers(indices, self._fractions, self._seed)


def _walker(plan: Plan) -> SpanWalker | GpuSpanWalker:
    return GpuSpanWalker(plan) if plan.engine == "cuda" else SpanWalker(plan, Recycler(chunks_in_use(1)))
