"""Showers for the training of a generator: packed hits, and their columns in a batch."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from supa import ShowerConfig, Showers
from supa.arrays import IntArray
from supa.checks import counted
from supa_datasets import in_split
from supa_datasets.loaders.source import ShowerSource
from supa_mamba.generator.hits import HitColumns
from supa_mamba.packed_showers import Batch, PackedShowers

FEATURES = ("x", "y", "slice", "energy")
"""Features of the hits of a batch."""
TARGETS = ("incident_energy", "leaked_energy", "source")
"""Columns of the targets of a batch. The source is the number of the config."""

_LARGEST_BELOW_ONE = 1 - 2**-24  # in float32
_PADDING_ENERGY = 64.0  # GeV


def split_showers(showers: Any, split: str) -> list[Showers]:
    """Read the showers of a split.

    Args:
        showers: `supa.Showers`, a `supa_datasets.ShowerFile`, a path, or a list of these.
        split: ``"train"``, ``"validation"``, ``"test"`` or ``"all"``. The index of a shower determines its split.

    Returns:
        The showers of each element of the list.

    Raises:
        FileNotFoundError: If a file does not exist.
        ValueError: If the split is empty.
    """
    source = ShowerSource(showers)
    indices = (part.index if isinstance(part, Showers) else part.column("showers", "index") for part in source.parts)
    found = [part[np.flatnonzero(in_split(index, split))] for part, index in zip(source.parts, indices, strict=True)]
    if not any(map(len, found)):
        raise ValueError(f"The {split} split is empty for {counted(len(source), 'shower')}; provide more showers.")
    return found


def distinct_configs(parts: Sequence[Showers]) -> tuple[ShowerConfig, ...]:
    """Return the configs of showers.

    Args:
        parts: The showers.

    Returns:
        Each config once.
    """
    return tuple(dict.fromkeys(part.config for part in parts if len(part)))


def packed(parts: Sequence[Showers], configs: Sequence[ShowerConfig]) -> PackedShowers:
    """Pack showers for the batches of a training.

    Args:
        parts: The showers.
        configs: The distinct configs of the showers, in the order of their numbers.

    Returns:
        The showers on the CPU, with `FEATURES`, and `TARGETS` of shape (showers, 3).
    """
    points = [np.stack([getattr(part, name) for name in FEATURES], 1, dtype=np.float32) for part in parts]
    targets = [
        target_columns(
            torch.from_numpy(part.incident_energy),
            torch.from_numpy(part.leaked_energy),
            torch.full((len(part),), configs.index(part.config)),
        )
        for part in parts
        if len(part)
    ]
    counts: IntArray = np.concatenate([part.num_hits for part in parts])
    return PackedShowers(
        torch.from_numpy(np.concatenate(points)), counts, torch.cat(targets), np.arange(len(counts)), by_hit=False
    )


def target_columns(incident_energy: Tensor, leaked_energy: Tensor, source: Tensor) -> Tensor:
    """Combine the values of showers.

    Args:
        incident_energy: (S,) incident energies (GeV).
        leaked_energy: (S,) leaked energies (GeV).
        source: (S,) numbers of the configs.

    Returns:
        (S, 3) float32 values. The leaked energy stays below the incident energy after rounding, because the logarithm
        of the difference is coded.
    """
    incident = incident_energy.float()
    return torch.stack([incident, leaked_energy.float().minimum(incident * _LARGEST_BELOW_ONE), source.float()], 1)


def columns_of(batch: Batch, first_slice: int) -> HitColumns:
    """Return the columns of a batch. Padding becomes showers with possible values.

    Args:
        batch: Batch of `packed` showers, with or without padding.
        first_slice: A slice of the readout layers.

    Returns:
        The columns.
    """
    x, y, of_slice, energy = batch.points.unbind(1)
    incident, leaked, _ = batch.target.unbind(1)
    if batch.showers is not None:
        of_slice = of_slice.masked_fill(energy == 0, first_slice)  # no hit has an energy of 0
        incident = incident.masked_fill(incident == 0, _PADDING_ENERGY)
    return HitColumns(batch.offset, of_slice, x, y, energy, incident, leaked)
