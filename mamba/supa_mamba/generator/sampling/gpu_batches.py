"""Continuous batches on a GPU: showers enter free rows without the host, which prepares and collects them."""

from collections import deque
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from supa import Run, Showers
from supa_mamba.generator.coding import HitCoding
from supa_mamba.generator.model import ShowerGenerator
from supa_mamba.generator.sampling.blocks import UNIT, Block
from supa_mamba.generator.sampling.gpu import GpuRows, GpuStepper, Log
from supa_mamba.generator.sampling.leaks import LeakSampler
from supa_mamba.generator.sampling.limits import most_hits_of
from supa_mamba.generator.sampling.rows import Hits

_HITS = 1 << 23
"""Upper limit of the hits of a block. Most showers have far fewer hits than the largest possible one."""

_MOST_UNITS = 256

_AHEAD = 2
"""Launches in progress, so that the GPU never waits for the host."""

_FAR_AHEAD = 64
"""Launches in progress while the host converts a block of showers."""

_AHEAD_OF_BLOCK = 16
"""Launches in progress while the host prepares a block. Its showers can enter only after these launches."""


def pieces_on_gpu(model: ShowerGenerator, run: Run, seed: int, num_showers: int, rows: int) -> Iterator[Showers]:
    """Sample showers.

    Args:
        model: The generator.
        run: The sample.
        seed: Its random seed.
        num_showers: Number of showers.
        rows: Number of showers that are sampled at the same time.

    Returns:
        Iterator over blocks of showers, in order.
    """
    units = max(1, min(_HITS // most_hits_of(model) // UNIT, _MOST_UNITS))
    stock = max(units * UNIT, rows)
    on_gpu = GpuRows(model, run.config, seed, rows, stock + units * UNIT)
    return _pieces(model.coding, on_gpu, LeakSampler(model, seed), run, num_showers, units, stock)


class _Flight:
    """A launch in progress."""

    def __init__(self, log: Log) -> None:
        self.hits = log.hits
        status = torch.stack([log.entered, log.oldest])
        self._status, self._arrival = _to_host(status)

    def status(self) -> tuple[int, int]:
        """Wait for the launch, and return how many showers have entered and the oldest one in progress."""
        _wait(self._arrival)
        entered, oldest = self._status.tolist()
        return entered, oldest


def _pieces(
    coding: HitCoding, rows: GpuRows, leaks: LeakSampler, run: Run, num_showers: int, units: int, stock: int
) -> Iterator[Showers]:
    stepper = GpuStepper(rows)
    try:
        yield from _finished_blocks(coding, rows, stepper, leaks, run, num_showers, units, stock)
    finally:
        stepper.close()


def _finished_blocks(
    coding: HitCoding,
    rows: GpuRows,
    stepper: GpuStepper,
    leaks: LeakSampler,
    run: Run,
    num_showers: int,
    units: int,
    stock: int,
) -> Iterator[Showers]:
    blocks, ends = deque[Block](), deque[int]()
    flights, logs = deque[_Flight](), list[Tensor]()
    prepared = queued = entered = oldest = 0
    is_prepared = False
    while blocks or not is_prepared:
        while not is_prepared and queued - entered < stock:
            while len(flights) < _AHEAD_OF_BLOCK and entered < queued:
                flights.append(_Flight(stepper.launch()))
            block = Block.prepared(leaks, coding, run, num_showers, prepared, units)
            place = block.waiting - block.start
            rows.enqueue(block.waiting, run.first + block.waiting, block.energy[place], block.condition[place])
            prepared, queued = block.stop, queued + len(block.waiting)
            is_prepared = prepared == num_showers
            blocks.append(block)
            ends.append(queued)
        if ends[-1] > entered or oldest < prepared:
            while len(flights) < _AHEAD:
                flights.append(_Flight(stepper.launch()))
            flight = flights.popleft()
            entered, oldest = flight.status()
            logs.append(flight.hits)
        # Blocks enter in order, so a block is finished if all of its showers have entered and none is in progress.
        while blocks and ends[0] <= entered and blocks[0].stop <= oldest:
            block = blocks.popleft()
            ends.popleft()
            mine, logs = _split(logs, block.stop)
            hits, arrival = _to_host(mine)
            while len(flights) < _FAR_AHEAD and entered < queued:
                flights.append(_Flight(stepper.launch()))
            _wait(arrival)
            yield block.showers(_hits(hits), coding, run)


def _split(logs: list[Tensor], stop: int) -> tuple[Tensor, list[Tensor]]:
    """Return the hits of showers before a number, sorted by shower and step, and those of all others."""
    if not logs:
        return torch.zeros(0, 4, dtype=torch.int64), []
    whole = torch.cat(logs)
    whole = whole[whole[:, 0] >= 0]
    mine, others = whole[whole[:, 0] < stop], whole[whole[:, 0] >= stop]
    return mine[mine[:, 0].argsort(stable=True)], [others]


def _hits(log: Tensor) -> Hits:
    """Return the columns of hits; see `Log`."""
    shower, energy, place, position = log.t().contiguous().numpy()
    return Hits(shower, place >> 1, position.view("<f4").reshape(-1, 2), energy, (place & 1).astype(bool))


def _to_host(x: Tensor) -> tuple[Tensor, Any]:
    """Start to copy a tensor to the host, and return the copy and its arrival."""
    if x.device.type != "cuda":
        return x, None
    copied = torch.empty(x.shape, dtype=x.dtype, pin_memory=True)
    copied.copy_(x, non_blocking=True)
    arrival = torch.cuda.Event()  # type: ignore[no-untyped-call]
    arrival.record(torch.cuda.current_stream(x.device))
    return copied, arrival


def _wait(arrival: Any) -> None:
    if arrival is not None:
        arrival.synchronize()
