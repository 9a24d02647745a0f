"""Showers from a generator: thousands at once, each a function of the model, the seed and its index."""

import hashlib
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch

from supa import Run, Showers, from_hits
from supa.arrays import Array, FloatArray, IntArray
from supa.checks import check_int
from supa.initial_conditions import EnergyLike
from supa.presets import ConfigLike, as_config
from supa.primaries import draw_primaries
from supa.ragged import counts_to_offsets
from supa.random import MAX_INDEX, MAX_SEED
from supa_mamba.generator.coding import SHARE_BITS, HitCoding
from supa_mamba.generator.model import ShowerGenerator
from supa_mamba.generator.sampling.cpu import CpuStepper
from supa_mamba.generator.sampling.rows import Hits, Rows

_BLOCK = 256
"""Showers are prepared and returned in blocks. The index of the first one is a multiple of this number, so that the
vectorised conversion of a shower's conditions does not depend on where a sample begins."""

_MOST_SLOTS = 1 << 20


def sample_showers(
    model: ShowerGenerator,
    config: ConfigLike,
    num_showers: int,
    *,
    seed: int,
    first: int = 0,
    energy: EnergyLike | None = None,
    batch_size: int = 1024,
) -> Showers:
    """Sample showers from a generator.

    Args:
        model: The generator, on the CPU.
        config: Name of a preset, or config, of the training showers. It determines the readout layers and the
            distribution of the incident energy.
        num_showers: Number of showers.
        seed: Random seed from 0 to 2**64 - 1. The incident energies are those of a simulation with the same seed.
        first: Index of the first shower.
        energy: Distribution of the incident energy, by default that of the config; see `supa.EnergySpectrum`.
        batch_size: Number of showers that are sampled at the same time. It does not change the showers.

    Returns:
        The showers, in the order of their indices. Each has one primary along the axis, to which all hits belong.

    Raises:
        ValueError: If an argument is out of range, the model is not on the CPU or was not trained on such showers, or
            an energy is outside the training energies.
        MemoryError: If the states of the showers do not fit into the memory.

    Example:
        >>> import supa
        >>> from supa_mamba import GeneratorConfig, HitCoding, ShowerGenerator, sample_showers
        >>> showers = supa.simulate(20, "critical", seed=1)
        >>> model = ShowerGenerator(GeneratorConfig(d_model=32, n_layer=1), HitCoding.fit(showers))  # untrained
        >>> sample = sample_showers(model, "critical", 10, seed=1)
        >>> len(sample), bool((sample.incident_energy == showers.incident_energy[:10]).all())
        (10, True)
    """
    pieces = sample_stream(model, config, num_showers, seed=seed, first=first, energy=energy, batch_size=batch_size)
    return Showers.concatenate(pieces)


def sample_stream(
    model: ShowerGenerator,
    config: ConfigLike,
    num_showers: int,
    *,
    seed: int,
    first: int = 0,
    energy: EnergyLike | None = None,
    batch_size: int = 1024,
) -> Iterator[Showers]:
    """Sample showers piece by piece, with bounded memory.

    Args:
        model: See `sample_showers`.
        config: See `sample_showers`.
        num_showers: See `sample_showers`.
        seed: See `sample_showers`.
        first: See `sample_showers`.
        energy: See `sample_showers`.
        batch_size: See `sample_showers`.

    Returns:
        Iterator over pieces in the order of the indices, at least one.

    Raises:
        ValueError: See `sample_showers`.

    Example:
        >>> import supa
        >>> from supa_mamba import GeneratorConfig, HitCoding, ShowerGenerator, sample_stream
        >>> showers = supa.simulate(20, "critical", seed=1)
        >>> model = ShowerGenerator(GeneratorConfig(d_model=32, n_layer=1), HitCoding.fit(showers))  # untrained
        >>> sum(len(piece) for piece in sample_stream(model, "critical", 300, seed=1))
        300
    """
    physics = as_config(config)
    if energy is not None:
        physics = physics.replace(incident_energy=energy)
    seed = check_int(0, MAX_SEED, "seed", seed)
    num_showers = check_int(0, MAX_INDEX, "num_showers", num_showers)
    first = check_int(0, MAX_INDEX - num_showers, "first", first, "(2**56 - 1 - num_showers)")
    slots = min(check_int(1, _MOST_SLOTS, "batch_size", batch_size), max(num_showers, 1))
    check_model(model)
    model.coding.conditions.check(physics, torch.tensor(physics.spectrum.values))
    run = Run(
        config=physics, seed=seed, first=first, engine="imported", keep="all", attempts=None, model=model_name(model)
    )
    return _pieces(CpuStepper(model, physics, seed, slots), run, num_showers, slots)


def check_model(model: ShowerGenerator) -> None:
    """Check that showers can be sampled from a model.

    Args:
        model: The generator.

    Raises:
        ValueError: If the model is not on the CPU, or its weights are not finite.
    """
    for name, weights in model.named_parameters():
        if weights.device.type != "cpu":
            raise ValueError(f"model: it is on {weights.device}, but a CPU is needed; pass model.cpu().")
        if not weights.isfinite().all():
            raise ValueError(f"model: {name} has values that are not finite; the training has diverged.")


def model_name(model: ShowerGenerator) -> str:
    """Return a name that identifies a generator in a shower file.

    Args:
        model: The generator.

    Returns:
        Kind and sizes of the model, and a checksum of its coding and its weights in float32.
    """
    config, checksum = model.config, hashlib.sha256(model.coding.to_json().encode())
    for name, weights in model.state_dict().items():
        checksum.update(name.encode())
        checksum.update(weights.detach().float().contiguous().numpy().tobytes())
    return f"ShowerGenerator {config.model} {config.n_layer}x{config.d_model} sha256:{checksum.hexdigest()[:16]}"


@dataclass
class _Block:
    """Consecutive showers of a sample.

    Args:
        start: Number of the first shower.
        stop: Number after the last shower.
        incident_energy: (n,) float64 incident energies (GeV).
        condition: (n, C) float32 conditions.
        energy: (n,) int64 deposited energies in units of 2^-40 of the incident energies.
        waiting: Numbers of the showers that have hits and have not been sampled.
    """

    start: int
    stop: int
    incident_energy: FloatArray
    condition: Array
    energy: IntArray
    waiting: IntArray

    @classmethod
    def prepared(cls, stepper: CpuStepper, run: Run, start: int, stop: int) -> "_Block":
        """Draw the incident energies, and choose how much of them leaks."""
        begin = (run.first + start) // _BLOCK * _BLOCK
        wanted = slice(run.first + start - begin, run.first + stop - begin)
        aligned = np.arange(begin, begin + _BLOCK)
        incident = draw_primaries(run.config, stepper.seed, aligned).incident_energy
        condition = stepper.coding.conditions(run.config, torch.from_numpy(incident)).numpy()[wanted]
        energy = stepper.leaks(aligned[wanted], condition)
        return cls(start, stop, incident[wanted], condition, energy, start + np.flatnonzero(energy))


class _Queue:
    """Showers that wait for a slot, and the blocks to which showers in progress belong."""

    def __init__(self, stepper: CpuStepper, run: Run, num_showers: int) -> None:
        self._stepper, self._run, self._num_showers = stepper, run, num_showers
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
        """Return the next showers, at most one for each slot."""
        parts = [self._take(slots)]
        taken = len(parts[0].shower)
        while taken < len(slots) and self._last.stop < self._num_showers:
            self._last = self._prepare(self._last.stop)
            self.unfinished.append(self._last)
            parts.append(self._take(slots[taken:]))
            taken += len(parts[-1].shower)
        return Rows.joined(parts)

    def _take(self, slots: IntArray) -> Rows:
        block = self._last
        shower, block.waiting = block.waiting[: len(slots)], block.waiting[len(slots) :]
        place = shower - block.start
        return Rows.entering(
            shower, self._run.first + shower, slots[: len(shower)], block.energy[place], block.condition[place],
            self._stepper.coding.num_slices,
        )  # fmt: skip

    def _prepare(self, start: int) -> _Block:
        last = (self._run.first + start) // _BLOCK * _BLOCK + _BLOCK - self._run.first
        return _Block.prepared(self._stepper, self._run, start, min(last, self._num_showers))


def _pieces(stepper: CpuStepper, run: Run, num_showers: int, slots: int) -> Iterator[Showers]:
    """Sample showers. A finished shower leaves its slot, and the next one enters."""
    with torch.no_grad():
        queue, free, parts = _Queue(stepper, run, num_showers), np.arange(slots), list[Hits]()
        rows = queue.take(free[:0])
    while queue.unfinished or not queue.is_prepared:
        with torch.no_grad():
            if len(free):
                new = queue.take(free)
                stepper.clear(new.slot)
                free = free[len(new.slot) :]
                rows = Rows.joined([rows, new])
            if len(rows.shower):
                hits = stepper.step(rows)
                parts.append(hits)
                if hits.is_last.any():
                    free = np.concatenate([free, rows.slot[hits.is_last]])
                    rows = rows.selected(~hits.is_last)
        # Showers enter in order, so all before the oldest one in progress are finished.
        oldest = rows.shower.min(initial=queue.next)
        while queue.unfinished and queue.unfinished[0].stop <= oldest:
            block = queue.unfinished.popleft()
            whole = Hits.joined(parts)
            mine = whole.shower < block.stop
            parts = [whole.selected(~mine)]
            yield _showers(block, whole.selected(mine), stepper.coding, run)


def _showers(block: _Block, hits: Hits, coding: HitCoding, run: Run) -> Showers:
    """Return the showers of a block from all of its hits, in any order of showers."""
    hits = hits.selected(np.argsort(hits.shower, kind="stable"))
    place, incident, unit = hits.shower - block.start, block.incident_energy, 2.0**-SHARE_BITS
    position = np.multiply(hits.position, coding.position_scale, dtype=np.float32)
    showers = from_hits(
        run.config,
        offset=counts_to_offsets(np.bincount(place, minlength=block.stop - block.start)),
        incident_energy=incident,
        x=position[:, 0],
        y=position[:, 1],
        energy=hits.energy * unit * incident[place],
        slice=hits.slice + coding.slices[0],
        index=run.first + np.arange(block.start, block.stop),
        leaked_energy=((1 << SHARE_BITS) - block.energy) * unit * incident,
    )
    return replace(showers, run=replace(run, attempts=len(showers)))
