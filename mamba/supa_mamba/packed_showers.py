"""Showers as packed tensors for a task: normalised hits, offsets, and targets."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from supa import ShowerConfig
from supa.arrays import Array, IntArray
from supa.ragged import counts_to_offsets
from supa.serialise import Config
from supa_datasets import Normalisation, SequenceDataset
from supa_datasets.loaders.tasks import ShowerTask, shower_task, task_classes, task_target
from supa_datasets.offsets import counts_to_offsets as torch_offsets
from supa_learning.count_baseline import CountBaseline

_BLOCK_HITS = 500_000
"""Hits that are read together."""


@dataclass(frozen=True)
class TaskEncoding(Config):
    """How showers become tensors and targets for a task; all that is fitted on the training showers.

    Args:
        name: name of the task, one of ``supa_datasets.loaders.tasks.SHOWER_TASKS``.
        classes: names of the classes; empty for values.
        normalisation: of the features.
        mean: mean of the target; 0 for classes.
        std: standard deviation of the target; 1 for classes.
        configs: configs of the training showers.
    """

    name: str
    classes: tuple[str, ...]
    normalisation: Normalisation
    mean: float = 0.0
    std: float = 1.0
    configs: tuple[ShowerConfig, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        shower_task(self.name)

    @property
    def task(self) -> ShowerTask:
        """The task."""
        return shower_task(self.name)

    @property
    def outputs(self) -> int:
        """Number of outputs of a model."""
        return max(1, len(self.classes))


@dataclass(frozen=True, eq=False)
class Batch:
    """Some showers, packed.

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
        """Return batches of almost equal numbers of showers, without a synchronisation of a GPU.

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
        offset = torch_offsets(counts)
        # The number of rows is known here; asked for on a GPU, it would have to be waited for.
        shift = (self._begins[numbers] - offset[:-1]).repeat_interleave(counts, output_size=hits)
        rows = torch.arange(hits, device=self.device) + shift
        return Batch(self.points[rows], offset, self.target[rows if self.by_hit else numbers], units)

    def digest(self) -> str:
        """Compute a checksum of the showers.

        Returns:
            A checksum of all columns, in hexadecimal letters.
        """
        name = hashlib.blake2b(digest_size=16)
        for column in (self.points.cpu().numpy(), self.counts, self.target.cpu().numpy()):
            name.update(np.ascontiguousarray(column).data)
        return name.hexdigest()


def batch_cuts(showers: int, batch_size: int) -> IntArray:
    """Divide showers into batches whose sizes differ by at most one.

    Args:
        showers: how many.
        batch_size: most of a batch.

    Returns:
        (batches + 1,) int64, where each batch begins, and the number of showers.
    """
    batches = -(-showers // batch_size)
    return np.arange(batches + 1) * showers // max(batches, 1)


def training_showers(showers: Any, task: str) -> tuple[TaskEncoding, PackedShowers]:
    """Read the training showers, and fit the encoding on them.

    Args:
        showers: Showers, a ShowerFile, a path, or a list of these; for ``"preset"`` a list of several presets.
        task: name of the task, one of ``supa_datasets.loaders.tasks.SHOWER_TASKS``.

    Returns:
        The encoding, and the showers of the split ``train``, on the CPU.

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
    mean, std = 0.0, 1.0
    if not classes:
        values = target.astype(np.float64)
        mean, std = float(values.mean()), float(values.std())
    assert dataset.normalisation is not None
    configs = dataset.source.configs(dataset.numbers)
    encoding = TaskEncoding(task, classes, dataset.normalisation, mean, std, configs)
    return encoding, _packed(dataset, columns, encoding)


def count_baseline(train: PackedShowers, encoding: TaskEncoding) -> CountBaseline:
    """Fit the baseline that predicts from the number of hits alone.

    Args:
        train: the training showers.
        encoding: how showers become tensors and targets.

    Returns:
        The baseline; for hit-level tasks a constant.
    """
    target: Array = train.target.cpu().numpy()
    if not encoding.classes:
        target = target.astype(np.float64) * encoding.std + encoding.mean
    counts = None if encoding.task.level == "hit" else train.counts
    return CountBaseline.fit(target, counts, classes=bool(encoding.classes))


def packed_showers(showers: Any, split: str, encoding: TaskEncoding) -> PackedShowers:
    """Read showers with a fitted encoding.

    Args:
        showers: Showers, a ShowerFile, a path, or a list of these.
        split: ``"train"``, ``"validation"``, ``"test"`` or ``"all"``; the shower's index decides.
        encoding: how showers become tensors and targets.

    Returns:
        The showers, on the CPU.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the split is empty, or the showers cannot be used for the task.
    """
    dataset = _dataset(showers, split, encoding.task, encoding.normalisation)
    return _packed(dataset, _read(dataset), encoding)


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


def _packed(dataset: SequenceDataset, columns: _Columns, encoding: TaskEncoding) -> PackedShowers:
    target: Array = task_target(encoding.task, columns.targets, encoding.classes)
    if not encoding.classes:
        target = ((target.astype(np.float64) - encoding.mean) / encoding.std).astype(np.float32)
    return PackedShowers(
        columns.points,
        columns.counts,
        torch.from_numpy(target),
        dataset.numbers,
        by_hit=encoding.task.level == "hit",
    )
