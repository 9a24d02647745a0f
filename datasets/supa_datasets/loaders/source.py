"""The showers of one or several containers or files as one sequence."""

import dataclasses
from collections.abc import Sequence
from os import PathLike
from typing import NamedTuple, TypeAlias

import numpy as np

from supa import Ragged, Run, ShowerConfig, Showers
from supa.arrays import IntArray
from supa.checks import format_value
from supa.ragged import counts_to_offsets
from supa_datasets.hdf5 import ShowerFile

OneSource: TypeAlias = Showers | ShowerFile | str | PathLike[str]
SourceLike: TypeAlias = OneSource | Sequence[OneSource]


class Sample(NamedTuple):
    """Several showers of a source in the requested order."""

    showers: Showers
    """The showers. Their run is that of the first part of the source."""
    part: IntArray
    """(n,) int64 number of the part of each shower."""


class ShowerSource:
    """Showers of one or several containers or files, concatenated.

    A source can be pickled into another process, which opens the files again.

    Args:
        given: Showers, a ShowerFile, a path, or a list of these.

    Raises:
        FileNotFoundError: If a file does not exist.
        ValueError: If the argument has another type, the list is empty, or the slice spacings differ.
    """

    def __init__(self, given: SourceLike) -> None:
        many = given if isinstance(given, list | tuple) else [given]
        if not many:
            raise ValueError("No showers were given; give Showers, a file, or a list of these.")
        self.parts = [_opened(one) for one in many]
        spacings = {part.run.config.slice_spacing for part in self.parts}
        if len(spacings) > 1:
            raise ValueError(
                f"The showers have different slice spacings ({', '.join(f'{s:g}' for s in sorted(spacings))}); load "
                "them separately, since their depths cannot be compared."
            )
        self.has_particles = all(_has_particles(part) for part in self.parts)
        self._first = counts_to_offsets(np.array([len(part) for part in self.parts]))

    def __len__(self) -> int:
        return int(self._first[-1])

    @property
    def runs(self) -> list[Run]:
        """Run of each part."""
        return [part.run for part in self.parts]

    @property
    def index(self) -> IntArray:
        """(n,) int64 index of each shower."""
        columns = [p.index if isinstance(p, Showers) else p.column("showers", "index") for p in self.parts]
        return np.concatenate(columns)

    @property
    def num_hits(self) -> IntArray:
        """(n,) int64 number of hits of each shower."""
        return np.concatenate([part.num_hits for part in self.parts])

    @property
    def num_particles(self) -> IntArray:
        """(n,) int64 number of recorded particles of each shower."""
        return np.concatenate(
            [p.num_particles if isinstance(p, ShowerFile) else _particles(p).counts for p in self.parts]
        )

    @property
    def path_lengths(self) -> IntArray:
        """(n,) int64 total number of particles on the paths from the primaries to the hits of each shower."""
        slices = [p.column("hits", "slice") if isinstance(p, ShowerFile) else p.slice for p in self.parts]
        total = counts_to_offsets(np.concatenate(slices).astype(np.int64) + 1)
        return np.diff(total[counts_to_offsets(self.num_hits)])

    def configs(self, numbers: IntArray) -> tuple[ShowerConfig, ...]:
        """Return the distinct configs of some showers.

        Args:
            numbers: (n,) integers, positions of the showers, from 0.

        Returns:
            Each config once, in the order of the parts.
        """
        return tuple(dict.fromkeys(self.parts[p].run.config for p in np.unique(self._part(numbers))))

    def _part(self, numbers: IntArray) -> IntArray:
        return np.searchsorted(self._first, numbers, side="right") - 1

    def take(self, numbers: IntArray) -> Sample:
        """Read some showers.

        Args:
            numbers: (n,) integers, positions of the showers, from 0, in any order.

        Returns:
            The showers, with recorded particles if every part has them.

        Raises:
            ValueError: If a file is damaged.
        """
        part = self._part(numbers)
        if len(self.parts) == 1:
            return Sample(self._plain(self.parts[0][numbers]), part)
        order = np.argsort(part, kind="stable")
        pieces = [
            self._plain(self.parts[p][numbers[part == p] - self._first[p]]) for p in np.unique(part) if len(numbers)
        ] or [self._plain(self.parts[0][numbers])]
        place = np.empty_like(order)
        place[order] = np.arange(len(order))
        return Sample(Showers.concatenate(pieces)[place], part)

    def _plain(self, showers: Showers) -> Showers:
        """Return showers with the run and the tables that all parts share."""
        particles = showers.particles if self.has_particles else None
        return dataclasses.replace(showers, run=self.parts[0].run, particles=particles)


def _opened(one: object) -> Showers | ShowerFile:
    if isinstance(one, Showers | ShowerFile):
        return one
    if isinstance(one, str | PathLike):
        return ShowerFile(one)
    raise ValueError(
        f"{format_value(one)} was given, but it must be Showers, a ShowerFile, a path, or a list of these."
    )


def _particles(showers: Showers) -> Ragged:
    assert showers.particles is not None
    return showers.particles


def _has_particles(part: Showers | ShowerFile) -> bool:
    return part.particles is not None if isinstance(part, Showers) else part.has_particles
