"""Showers as packed tensors: normalised hits, offsets and targets."""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from supa import ShowerConfig
from supa.arrays import Array, IntArray
from supa.checks import counted
from supa.ragged import counts_to_offsets
from supa.serialise import Config
from supa_datasets import Normalisation, SequenceDataset
from supa_datasets.loaders.tasks import ShowerTask, shower_task, task_classes, task_target
from supa_datasets.offsets import counts_to_offsets as torch_offsets
from supa_learning.count_baseline import CountBaseline

_BLOCK_HITS = 500_000
"""Approximate number of hits that are read at once."""


@dataclass(frozen=True)
class TaskEncoding(Config):
    """Conversion of showers into tensors and targets, fitted to the training showers.

    Args:
        name: Name of the task, one of ``supa_datasets.loaders.tasks.SHOWER_TASKS``.
        classes: Names of the classes; empty for regression.
        normalisation: Normalisation of the features.
        mean: Mean of the target; 0 for classes.
        std: Standard deviation of the target; 1 for classes.
        configs: Configs of the training showers.
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
        """Task that the encoding belongs to."""
        return shower_task(self.name)

    @property
    def outputs(self) -> int:
        """Number of outputs of the model."""
        return max(1, len(self.classes))

    def target(self, columns: Mapping[str, Array]) -> Array:
        """Compute the target of the model.

        Args:
            columns: Targets of the showers by name.

        Returns:
            (showers,) or (hits,) int64 classes, or float32 normalised values.

        Raises:
            ValueError: If the showers cannot be used for the task.
        """
        target: Array = task_target(self.task, columns, self.classes)
        if self.classes:
            return target
        return ((target.astype(np.float64) - self.mean) / self.std).astype(np.float32)


@dataclass(frozen=True, eq=False)
class Batch:
    """A batch of packed showers, or one process's share of it.

    Args:
        points: (hits, features) float32 normalised features.
        offset: (showers + 1,) int64 offsets of the showers.
        target: (showers,) or (hits,) int64 classes, or float32 normalised values.
        units: Number of predicted showers or hits in the complete batch, over all processes.
        showers: () int64 number of showers before the padding; None if there is no padding.
        longest: Upper bound of the number of hits of a shower; None if it is unknown.
    """

    points: Tensor
    offset: Tensor
    target: Tensor
    units: int
    showers: Tensor | None = None
    longest: int | None = None

    def sum(self, values: Tensor, *, by_hit: bool) -> Tensor:
        """Sum values without those of the padding, whose gradients are zero.

        Args:
            values: (hits,) or (showers,) values.
            by_hit: Whether there is a value for each hit.

        Returns:
            () sum.
        """
        if self.showers is not None:
            # Indexing with a tensor would synchronise with the device.
            end = self.offset.index_select(0, self.showers) if by_hit else self.showers
            values = torch.where(torch.arange(len(values), device=values.device) < end, values, 0.0)
        return values.sum()


class PackedShowers:
    """Showers as flat tensors in the memory of one device, where batches are gathered.

    Args:
        points: (hits, features) float32 normalised features.
        counts: (showers,) int64 number of hits of each shower.
        target: (showers,) or (hits,) int64 classes, or float32 normalised values.
        number: (showers,) int64 index of each shower among the given showers.
        by_hit: Whether each hit has a target.
    """

    def __init__(self, points: Tensor, counts: IntArray, target: Tensor, number: IntArray, *, by_hit: bool) -> None:
        self.points, self.counts, self.target, self.number, self.by_hit = points, counts, target, number, by_hit
        self._counts = torch.from_numpy(counts).to(points.device)
        self._begins = torch.from_numpy(counts_to_offsets(counts)[:-1]).to(points.device)

    def __len__(self) -> int:
        return len(self.counts)

    @property
    def device(self) -> torch.device:
        """Device of the tensors."""
        return self.points.device

    def to(self, device: str | torch.device) -> "PackedShowers":
        """Copy the showers to a device.

        Args:
            device: The device.

        Returns:
            The copied showers.
        """
        return PackedShowers(
            self.points.to(device), self.counts, self.target.to(device), self.number, by_hit=self.by_hit
        )

    def batches(
        self, order: IntArray, batch_size: int, *, first: int = 0, share: tuple[int, int] = (0, 1)
    ) -> Iterator[Batch]:
        """Return batches with almost equal numbers of showers, without host-device synchronisation.

        Args:
            order: (n,) int64 indices of the showers, in the order of the batches.
            batch_size: Maximum number of showers per batch.
            first: Number of the first batch.
            share: (k, n) to return the k-th of n shares of each batch.

        Returns:
            An iterator over the batches.
        """
        on_device = torch.from_numpy(order).to(self.device)
        cuts = batch_cuts(len(order), batch_size)
        k, n = share
        for begin, end in zip(cuts[first:-1].tolist(), cuts[first + 1 :].tolist(), strict=True):
            own = slice(begin + (end - begin) * k // n, begin + (end - begin) * (k + 1) // n)
            units = int(self.counts[order[begin:end]].sum()) if self.by_hit else end - begin
            yield self._batch(on_device[own], self.counts[order[own]], units)

    def _batch(self, numbers: Tensor, counts_on_host: IntArray, units: int) -> Batch:
        counts, hits = self._counts[numbers], int(counts_on_host.sum())
        offset = torch_offsets(counts)
        # Passing the known number of rows avoids a host-device synchronisation.
        shift = (self._begins[numbers] - offset[:-1]).repeat_interleave(counts, output_size=hits)
        rows = torch.arange(hits, device=self.device) + shift
        target = self.target[rows if self.by_hit else numbers]
        return Batch(self.points[rows], offset, target, units, longest=int(counts_on_host.max(initial=0)))

    def digest(self) -> str:
        """Compute a checksum of the showers.

        Returns:
            Checksum of all columns as a hexadecimal string.
        """
        name = hashlib.blake2b(digest_size=16)
        for column in (self.points.cpu().numpy(), self.counts, self.target.cpu().numpy()):
            name.update(np.ascontiguousarray(column).data)
        return name.hexdigest()


def batch_cuts(showers: int, batch_size: int) -> IntArray:
    """Divide showers into batches whose sizes differ by at most one.

    Args:
        showers: Number of showers.
        batch_size: Maximum number of showers per batch.

    Returns:
        (batches + 1,) int64 offsets: batch k consists of showers ``cuts[k]`` to ``cuts[k + 1] - 1``.
    """
    batches = -(-showers // batch_size)
    return np.arange(batches + 1) * showers // max(batches, 1)


def training_showers(showers: Any, task: str) -> tuple[TaskEncoding, PackedShowers]:
    """Read the training showers and fit the encoding to them.

    Args:
        showers: `supa.Showers`, a `supa_datasets.ShowerFile`, a path, or a list of these. For ``"preset"``, a list with
            several presets.
        task: Name of the task, one of ``supa_datasets.loaders.tasks.SHOWER_TASKS``.

    Returns:
        The encoding, and the showers of the training split on the CPU.

    Raises:
        FileNotFoundError: If a file does not exist.
        ValueError: If the task is unknown, the training split is empty, all showers have the same target, or the
            showers cannot be used for the task.
    """
    about = shower_task(task)
    dataset = _dataset(showers, "train", about, "fit")
    columns = _read(dataset)
    classes = task_classes(about, columns.targets)
    target = task_target(about, columns.targets, classes)
    if (target == target[:1]).all():
        raise ValueError(
            f"All training showers have the same {task}, so there is nothing to learn; provide showers with different "
            "values."
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
        train: The training showers.
        encoding: Conversion of showers into tensors and targets.

    Returns:
        The baseline. For hit-level tasks it predicts a constant.
    """
    target: Array = train.target.cpu().numpy()
    if not encoding.classes:
        target = target.astype(np.float64) * encoding.std + encoding.mean
    counts = None if encoding.task.level == "hit" else train.counts
    return CountBaseline.fit(target, counts, classes=bool(encoding.classes))


def packed_showers(showers: Any, split: str, encoding: TaskEncoding) -> PackedShowers:
    """Read showers with a fitted encoding.

    Args:
        showers: `supa.Showers`, a `supa_datasets.ShowerFile`, a path, or a list of these.
        split: ``"train"``, ``"validation"``, ``"test"`` or ``"all"``. The index of a shower determines its split.
        encoding: Conversion of showers into tensors and targets.

    Returns:
        The showers, on the CPU.

    Raises:
        FileNotFoundError: If a file does not exist.
        ValueError: If the split is empty, or the showers cannot be used for the task.
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
        raise ValueError(
            f"The {split} split is empty for {counted(len(dataset.source), 'shower')}; provide more showers."
        )
    return dataset


def _read(dataset: SequenceDataset) -> _Columns:
    """Read all showers in blocks of about ``_BLOCK_HITS`` hits."""
    counts = dataset.num_points
    cuts = np.flatnonzero(np.diff(np.cumsum(counts) // _BLOCK_HITS)) + 1
    parts = [
        dataset.collate(dataset.__getitems__(numbers.tolist())) for numbers in np.split(np.arange(len(dataset)), cuts)
    ]
    targets = {target.name: torch.cat([part[target.name] for part in parts]).numpy() for target in dataset.targets}
    return _Columns(torch.cat([part["points"] for part in parts]).contiguous(), counts, targets)


def _packed(dataset: SequenceDataset, columns: _Columns, encoding: TaskEncoding) -> PackedShowers:
    return PackedShowers(
        columns.points,
        columns.counts,
        torch.from_numpy(encoding.target(columns.targets)),
        dataset.numbers,
        by_hit=encoding.task.level == "hit",
    )
