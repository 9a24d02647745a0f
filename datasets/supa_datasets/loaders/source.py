"""Where a loader takes its showers from: containers and files, one or several, as one sequence."""

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
    """Some showers of a source, in the order that was asked for."""

    showers: Showers
    """The showers. Where a source has parts of several configs, their run is that of the first part."""
    part: IntArray
    """(n,) number of the part that each shower is from."""


class ShowerSource:
    """Showers of one or several containers or files, behind each other.

    It may be pickled into another process: files are opened anew there.

    Args:
        given: Showers, a ShowerFile, a path, or a list of these.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: nothing was given, something else was given, or the slice spacings differ.
    """

    def __init__(self, given: SourceLike) -> None:
        many = given if isinstance(given, list | tuple) else [given]
        if not many:
            raise ValueError("No showers were given; give Showers, a file, or a list of these.")
        self.parts = [_opened(one) for one in many]
        spacings = {part.run.config.slice_spacing for part in self.parts}
        if len(spacings) > 1:
            raise ValueError(
                f"Showers of different slice spacings ({', '.join(f'{s:g}' for s in sorted(spacings))}) were given; "
                "their depths do not compare, so load each on its own."
            )
        self.has_particles = all(_has_particles(part) for part in self.parts)
        self._first = counts_to_offsets(np.array([len(part) for part in self.parts]))

    def __len__(self) -> int:
        return int(self._first[-1])

    @property
    def runs(self) -> list[Run]:
        """What made each part."""
        return [part.run for part in self.parts]

    @property
    def index(self) -> IntArray:
        """(n,) the attempt that became each shower."""
        columns = [p.index if isinstance(p, Showers) else p.column("showers", "index") for p in self.parts]
        return np.concatenate(columns)

    @property
    def num_hits(self) -> IntArray:
        """(n,) number of hits of each shower."""
        return np.concatenate([part.num_hits for part in self.parts])

    @property
    def num_particles(self) -> IntArray:
        """(n,) number of recorded particles of each shower."""
        return np.concatenate(
            [p.num_particles if isinstance(p, ShowerFile) else _particles(p).counts for p in self.parts]
        )

    @property
    def path_lengths(self) -> IntArray:
        """(n,) number of particles on all paths from a primary to a hit of each shower."""
        slices = [p.column("hits", "slice") if isinstance(p, ShowerFile) else p.slice for p in self.parts]
        total = counts_to_offsets(np.concatenate(slices).astype(np.int64) + 1)
        return np.diff(total[counts_to_offsets(self.num_hits)])

    def configs(self, numbers: IntArray) -> tuple[ShowerConfig, ...]:
        """Return the different configs of some showers.

        Args:
            numbers: (n,) numbers of the showers, from 0.

        Returns:
            Each config once, in the order of the parts.
        """
        return tuple(dict.fromkeys(self.parts[p].run.config for p in np.unique(self._part(numbers))))

    def _part(self, numbers: IntArray) -> IntArray:
        return np.searchsorted(self._first, numbers, side="right") - 1

    def take(self, numbers: IntArray) -> Sample:
        """Read some showers.

        Args:
            numbers: (n,) numbers of the showers, from 0, in any order.

        Returns:
            The showers; their particles only if every part has them.

        Raises:
            ValueError: a file is damaged.
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
        """Return showers the form that those of all parts share."""
        particles = showers.particles if self.has_particles else None
        return dataclasses.replace(showers, run=self.parts[0].run, particles=particles)


def _opened(one: object) -> Showers | ShowerFile:
    if isinstance(one, Showers | ShowerFile):
        return one
    if isinstance(one, str | PathLike):
        return ShowerFile(one)
    raise ValueError(
        f"{format_value(one)} was given, but showers are Showers, a ShowerFile, a path, or a list of these."
    )


def _particles(showers: Showers) -> Ragged:
    assert showers.particles is not None
    return showers.particles


def _has_particles(part: Showers | ShowerFile) -> bool:
    return part.particles is not None if isinstance(part, Showers) else part.has_particles
