"""What a format is: how its files are found, read and written."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from supa import Grid, Run, ShowerConfig, Showers, preset
from supa.grids import Depth
from supa_datasets.conversion.names import SUFFIXES


@dataclass(frozen=True)
class Choices:
    """What the user chose for a conversion.

    Args:
        config: the physics of showers whose file does not tell it, or None.
        depth: whether depth is the readout layer or the slice, where a format has room for one of them.
        binning: the cells of a voxel format that does not tell them.
        note: called with each sentence on what is assumed or lost.
    """

    config: ShowerConfig | None
    depth: Depth | None
    binning: Grid | None
    note: Callable[[str], None]

    def config_for(self, stored: ShowerConfig | None, default: str = "standard") -> ShowerConfig:
        """Choose the physics of imported showers.

        Args:
            stored: what their file tells, or None.
            default: the preset that is assumed where neither the file nor the user tells.

        Returns:
            The config.

        Raises:
            ValueError: the file tells another config than the user.
        """
        if stored is not None:
            if self.config not in (None, stored):
                raise ValueError("it tells the config that made its showers, and another one was given; give none")
            return stored
        if self.config is None:
            self.note(f"The file does not tell the physics of its showers; the preset {default!r} is assumed.")
        return self.config or preset(default)


@dataclass(frozen=True)
class Source:
    """Showers on their way from a file.

    Args:
        run: what made them.
        total: how many there are.
        has_particles: whether they have recorded particles.
        chunks: the showers in pieces of bounded size; at least one, which may be empty.
    """

    run: Run
    total: int
    has_particles: bool
    chunks: Iterator[Showers]


Reader = Callable[[Path, Choices], AbstractContextManager[Source]]
Writer = Callable[[Path, Source, Choices], None]


@dataclass(frozen=True)
class Format:
    """A file format of showers.

    Args:
        name: its name on the command line and in Python, one of ``names.SUFFIXES``.
        description: one line on what it is.
        reader: opens a file, or None where it cannot be read.
        writer: writes a whole file, or None where it cannot be written.
        datasets: HDF5 datasets by which its files are told from those of other formats with the same extension.
    """

    name: str
    description: str
    reader: Reader | None
    writer: Writer | None
    datasets: tuple[str, ...] = ()

    @property
    def extensions(self) -> tuple[str, ...]:
        """Endings of its files, with the dot."""
        return SUFFIXES[self.name]
