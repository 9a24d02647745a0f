"""Showers made into tensors for a task: normalised hits behind each other, and what is to be predicted."""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from supa import ShowerConfig
from supa.arrays import Array, IntArray
from supa.ragged import counts_to_offsets
from supa_datasets import Normalisation, SequenceDataset
from supa_datasets.loaders.tasks import ShowerTask, shower_task, task_classes, task_target

_BLOCK_HITS = 500_000
"""Hits that are read together."""


@dataclass(frozen=True)
class Reading:
    """How showers are read for a task, and what numbers mean: all that is fitted on the showers to train on.

    Args:
        task: name of the task.
        classes: names of the classes; none for values.
        normalisation: of the features.
        mean: mean of the target; 0 for classes.
        spread: standard deviation of the target; 1 for classes.
        configs: of the showers to train on.
    """

    task: str
    classes: tuple[str, ...]
    normalisation: Normalisation
    mean: float = 0.0
    spread: float = 1.0
    configs: tuple[ShowerConfig, ...] = ()

    @property
    def about(self) -> ShowerTask:
        """What is predicted."""
        return shower_task(self.task)

    @property
    def outputs(self) -> int:
        """Number of a model's outputs."""
        return max(1, len(self.classes))

    def to_dict(self) -> dict[str, Any]:
        """Give plain values for a checkpoint.

        Returns:
            A dictionary that JSON can hold.
        """
        return {
            **vars(self),
            "classes": list(self.classes),
            "normalisation": self.normalisation.to_dict(),
            "configs": [config.to_dict() for config in self.configs],
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Reading":
        """Read what ``to_dict`` gave.

        Args:
            values: the dictionary.

        Returns:
            The reading.

        Raises:
            ValueError: it is no such dictionary.
            TypeError: likewise.
        """
        made = cls(
            **{
                **values,
                "classes": tuple(values["classes"]),
                "normalisation": Normalisation.from_dict(values["normalisation"]),
                "configs": tuple(map(ShowerConfig.from_dict, values["configs"])),
            }
        )
        shower_task(made.task)
        return made


@dataclass(frozen=True, eq=False)
class Batch:
    """Some showers behind each other.

    Args:
        points: (hits, features) float32, normalised.
        offset: (showers + 1,) int64.
        target: (showers,) or (hits,) int64 classes, or float32 values, normalised.
        units: how many showers or hits are predicted in the whole batch, of which this may be a share.
    """

    points: Tensor
    offset: Tensor
    target: Tensor
    units: int


class PackedShowers:
    """Showers in memory, as flat tensors on one device; batches are cut by arithmetic there.

    Args:
        points: (hits, features) float32, normalised.
        counts: (showers,) int64 number of hits of each shower.
        target: (showers,) or (hits,) int64 classes, or float32 values, normalised.
        number: (showers,) int64, which of the given showers each one is.
        by_hit: whether each hit has a target.
    """

    def __init__(self, points: Tensor, counts: IntArray, target: Tensor, number: IntArray, *, by_hit: bool) -> None:
        self.points, self.counts, self.target, self.number, self.by_hit = points, counts, target, number, by_hit
        self._counts = torch.from_numpy(counts).to(points.device)
        self._begins = torch.from_numpy(counts_to_offsets(counts)[:-1]).to(points.device)

    def __len__(self) -> int:
        return len(self.counts)

    @property
    def device(self) -> torch.device:
        """Where the tensors are."""
        return self.points.device

    def to(self, device: str | torch.device) -> "PackedShowers":
        """Copy the showers to a device.

        Args:
            device: the device.

        Returns:
            The showers there.
        """
        return PackedShowers(
            self.points.to(device), self.counts, self.target.to(device), self.number, by_hit=self.by_hit
        )

    def batches(
        self, order: IntArray, batch_size: int, *, first: int = 0, share: tuple[int, int] = (0, 1)
    ) -> Iterator[Batch]:
        """Cut batches of like numbers of showers; on a GPU nothing waits for the device.

        Args:
            order: (n,) int64 numbers of showers.
            batch_size: most showers of a batch.
            first: the batch to begin with.
            share: (k, n): give the k-th of n shares of each batch.

        Returns:
            An iterator over the batches.
        """
        on_device = torch.from_numpy(order).to(self.device)
        cuts = batch_cuts(len(order), batch_size)
        k, n = share
        for begin, end in zip(cuts[first:-1].tolist(), cuts[first + 1 :].tolist(), strict=True):
            own = slice(begin + (end - begin) * k // n, begin + (end - begin) * (k + 1) // n)
            units = int(self.counts[order[begin:end]].sum()) if self.by_hit else end - begin
            yield self._batch(on_device[own], int(self.counts[order[own]].sum()), units)

    def _batch(self, numbers: Tensor, hits: int, units: int) -> Batch:
        counts = self._counts[numbers]
        offset = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
        # The number of rows is known here; asked for on a GPU, it would have to be waited for.
        shift = (self._begins[numbers] - offset[:-1]).repeat_interleave(counts, output_size=hits)
        rows = torch.arange(hits, device=self.device) + shift
        return Batch(self.points[rows], offset, self.target[rows if self.by_hit else numbers], units)

    def digest(self) -> str:
        """Name what the showers hold.

        Returns:
            A checksum of all columns, in hexadecimal letters.
        """
        name = hashlib.blake2b(digest_size=16)
        for column in (self.points.cpu().numpy(), self.counts, self.target.cpu().numpy()):
            name.update(np.ascontiguousarray(column).data)
        return name.hexdigest()


def batch_cuts(showers: int, batch_size: int) -> IntArray:
    """Part showers into batches whose sizes differ by one at most.

    Args:
        showers: how many.
        batch_size: most of a batch.

    Returns:
        (batches + 1,) int64, where each batch begins, and the number of showers.
    """
    batches = -(-showers // batch_size)
    return np.arange(batches + 1) * showers // max(batches, 1)


def shower_order(showers: int, seed: int, epoch: int) -> IntArray:
    """Shuffle showers for an epoch.

    Args:
        showers: how many.
        seed: names the orders.
        epoch: its number.

    Returns:
        (showers,) int64 their numbers, a function of seed and epoch alone.
    """
    return np.random.default_rng([seed, epoch]).permutation(showers)


def training_showers(showers: Any, task: str) -> tuple[Reading, PackedShowers]:
    """Read the showers to train on, and fit on them how showers are read.

    Args:
        showers: Showers, a ShowerFile, a path, or a list of these; for ``"preset"`` a list of several presets.
        task: name of the task, one of ``supa_datasets.loaders.tasks.SHOWER_TASKS``.

    Returns:
        The reading, and the showers of the split ``train``, on the CPU.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: there is no such task, no shower to train on, the answer is the same for all, or
            the showers cannot be used for it.
    """
    about = shower_task(task)
    dataset = _dataset(showers, "train", about, "fit")
    columns = _read(dataset)
    classes = task_classes(about, columns.targets)
    target = task_target(about, columns.targets, classes)
    if (target == target[:1]).all():
        raise ValueError(
            f"The showers to train on have the same {task}, and there is nothing to learn; give "
            "showers in which it differs."
        )
    mean, spread = 0.0, 1.0
    if not classes:
        values = target.astype(np.float64)
        mean, spread = float(values.mean()), float(values.std())
    assert dataset.normalisation is not None
    configs = dataset.source.configs(dataset.numbers)
    reading = Reading(task, classes, dataset.normalisation, mean, spread, configs)
    return reading, _packed(dataset, columns, reading)


def packed_showers(showers: Any, split: str, reading: Reading) -> PackedShowers:
    """Read showers as a model was taught to.

    Args:
        showers: Showers, a ShowerFile, a path, or a list of these.
        split: ``"train"``, ``"validation"``, ``"test"`` or ``"all"``; the shower's index decides.
        reading: how.

    Returns:
        The showers, on the CPU.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the split is empty, or the showers cannot be used for the task.
    """
    dataset = _dataset(showers, split, reading.about, reading.normalisation)
    return _packed(dataset, _read(dataset), reading)


class _Columns(NamedTuple):
    points: Tensor
    counts: IntArray
    targets: dict[str, Array]


def _dataset(
    showers: Any, split: str, task: ShowerTask, normalisation: Normalisation | Literal["fit"]
) -> SequenceDataset:
    dataset = SequenceDataset(
        showers, features=task.features, normalisation=normalisation, split=split, targets=task.targets
    )
    if len(dataset) == 0:
        raise ValueError(f"The split {split} has none of the given showers ({len(dataset.source):,}); give more.")
    return dataset


def _read(dataset: SequenceDataset) -> _Columns:
    """Read all showers, some at once."""
    counts = dataset.num_points
    cuts = np.flatnonzero(np.diff(np.cumsum(counts) // _BLOCK_HITS)) + 1
    parts = [
        dataset.collate(dataset.__getitems__(numbers.tolist())) for numbers in np.split(np.arange(len(dataset)), cuts)
    ]
    targets = {target.name: torch.cat([part[target.name] for part in parts]).numpy() for target in dataset.targets}
    return _Columns(torch.cat([part["points"] for part in parts]).contiguous(), counts, targets)


def _packed(dataset: SequenceDataset, columns: _Columns, reading: Reading) -> PackedShowers:
    target: Array = task_target(reading.about, columns.targets, reading.classes)
    if not reading.classes:
        target = ((target.astype(np.float64) - reading.mean) / reading.spread).astype(np.float32)
    return PackedShowers(
        columns.points,
        columns.counts,
        torch.from_numpy(target),
        dataset.numbers,
        by_hit=reading.about.level == "hit",
    )
