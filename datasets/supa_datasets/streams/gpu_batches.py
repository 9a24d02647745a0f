"""Batches of points and sequences that are made on the GPU on which their showers were simulated."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.utils.dlpack import from_dlpack

from supa import preset_name
from supa.engines.cuda.walker import Chunk
from supa_datasets.loaders.column_batch import ColumnBatch, RaggedColumn
from supa_datasets.loaders.points import PointDataset
from supa_datasets.loaders.sequences import SequenceDataset
from supa_datasets.loaders.tasks import PRESET_CLASSES
from supa_datasets.offsets import counts_to_offsets

Columns: TypeAlias = Mapping[str, Tensor]


@dataclass(frozen=True, eq=False)
class GpuSample:
    """Some showers as tensors on a GPU.

    Args:
        showers: Columns with one value for each shower: ``attempt``, ``source``, ``incident_energy``,
            ``leaked_energy``, ``num_hits`` and ``num_primaries``, each (n,).
        hits: Columns with one value for each hit: ``x``, ``y``, ``energy``, ``slice``, ``layer`` and ``primary``.
        offset: (n + 1,) int64; the hits of shower k are ``offset[k]`` to ``offset[k + 1]``.
    """

    showers: Columns
    hits: Columns
    offset: Tensor

    @classmethod
    def of(cls, chunk: Chunk, first: int, source: int) -> "GpuSample":
        """Return the showers of a chunk, without a copy of its arrays.

        Args:
            chunk: Consecutive showers.
            first: Index of the first one.
            source: Number of the config.

        Returns:
            The showers. They must not be used after the chunk is deleted.
        """
        offset = from_dlpack(chunk.hit_offset)
        attempt = torch.arange(first, first + chunk.count, device=offset.device)
        showers = {
            "attempt": attempt,
            "source": torch.full_like(attempt, source),
            "incident_energy": from_dlpack(chunk.incident_energy),
            "leaked_energy": from_dlpack(chunk.leaked_energy),
            "num_hits": offset.diff(),
            "num_primaries": from_dlpack(chunk.primary_offset).diff(),
        }
        return cls(showers, {name: from_dlpack(column) for name, column in chunk.hits.items()}, offset)

    def part(self, start: int, stop: int) -> "GpuSample":
        """Return consecutive showers.

        Args:
            start: Number of the first shower.
            stop: Number after the last shower.

        Returns:
            The showers, without a copy of their columns.
        """
        begin, end = self.offset[[start, stop]].tolist()
        return GpuSample(
            {name: column[start:stop] for name, column in self.showers.items()},
            {name: column[begin:end] for name, column in self.hits.items()},
            self.offset[start : stop + 1] - begin,
        )

    def take(self, numbers: Tensor) -> "GpuSample":
        """Copy any showers in any order.

        Args:
            numbers: (m,) int64 numbers of the showers.

        Returns:
            The showers.
        """
        showers = {name: column[numbers] for name, column in self.showers.items()}
        offset = counts_to_offsets(showers["num_hits"])
        shift = self.offset[numbers] - offset[:-1]
        rows = torch.arange(int(offset[-1]), device=offset.device) + shift.repeat_interleave(showers["num_hits"])
        return GpuSample(showers, {name: column[rows] for name, column in self.hits.items()}, offset)

    @staticmethod
    def joined(samples: Sequence["GpuSample"]) -> "GpuSample":
        """Concatenate samples.

        Args:
            samples: One or more samples.

        Returns:
            All showers.
        """
        showers = {name: torch.cat([s.showers[name] for s in samples]) for name in samples[0].showers}
        hits = {name: torch.cat([s.hits[name] for s in samples]) for name in samples[0].hits}
        return GpuSample(showers, hits, counts_to_offsets(showers["num_hits"]))


def is_made_on_gpu(dataset: object) -> bool:
    """Return whether the batches of a dataset can be made on a GPU.

    Args:
        dataset: Dataset of a stream.

    Returns:
        Whether it has batches of points, or of hits ordered by depth.
    """
    return isinstance(dataset, PointDataset) or (isinstance(dataset, SequenceDataset) and dataset.order == "depth")


def items_on_gpu(dataset: Any, sample: GpuSample) -> ColumnBatch:
    """Return the items of showers, as ``dataset.items_of`` does for showers in the memory of the host.

    Args:
        dataset: Dataset for which `is_made_on_gpu` is True.
        sample: The showers.

    Returns:
        The items, which ``dataset.collate`` combines into a batch on the GPU. Normalised energies can differ in their
        last bit, because the logarithm of the GPU is another one.
    """
    runs = dataset.source.runs
    hits = _by_depth(sample) if isinstance(dataset, SequenceDataset) else dict(sample.hits)
    hits["z"] = hits["slice"].double() * runs[0].config.slice_spacing
    values = torch.stack([_feature(name, sample, hits).float() for name in dataset.features], 1)
    if dataset.normalisation is not None:
        values = dataset.normalisation.apply(values)
    each, rows = {}, {"points": RaggedColumn(values, sample.offset)}
    for target in dataset.targets:
        if target.level == "hit":
            rows[target.name] = RaggedColumn(_target(hits[target.name]), sample.offset)
        elif target.name == "preset":
            classes = [PRESET_CLASSES.index(str(preset_name(run.config))) for run in runs]
            each["preset"] = torch.tensor(classes, device=values.device)[sample.showers["source"]]
        else:
            each[target.name] = _target(sample.showers[target.name])
    return ColumnBatch(len(sample.offset) - 1, each, rows)


def _target(values: Tensor) -> Tensor:
    return values.float() if values.is_floating_point() else values.long()


def _feature(name: str, sample: GpuSample, hits: Columns) -> Tensor:
    if name != "energy_fraction":
        return hits[name]
    return hits["energy"] / sample.showers["incident_energy"].repeat_interleave(sample.showers["num_hits"])


def _by_depth(sample: GpuSample) -> dict[str, Tensor]:
    """Order the hits of each shower as `supa_datasets.loaders.ordering.by_depth` does."""
    counts, hits = sample.showers["num_hits"], sample.hits
    shower = torch.arange(len(counts), device=counts.device).repeat_interleave(counts)
    place = (shower * 256 + hits["layer"]) * 256 + hits["slice"]
    rows = hits["energy"].sort(descending=True, stable=True).indices
    rows = rows[place[rows].sort(stable=True).indices]
    return {name: column[rows] for name, column in hits.items()}
