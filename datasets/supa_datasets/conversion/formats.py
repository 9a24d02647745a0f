"""Description of a file format: its name, its reader and its writer."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from supa import Grid, Run, ShowerConfig, Showers, preset
from supa.grids import Depth
from supa_datasets.conversion.names import SUFFIXES


@dataclass(frozen=True)
class Choices:
    """Choices of the user for a conversion.

    Args:
        config: Physics of the showers for files that do not store it; None for the default.
        depth: Whether a depth is the readout layer or the slice, for formats that store only one of them.
        binning: Cells of a voxel format that does not store them.
        note: Function that is called with each message about assumptions and losses.
    """

    config: ShowerConfig | None
    depth: Depth | None
    binning: Grid | None
    note: Callable[[str], None]

    def config_for(self, stored: ShowerConfig | None, default: str = "standard") -> ShowerConfig:
        """Choose the physics of imported showers.

        Args:
            stored: Config that is stored in the file, or None.
            default: Name of the preset to assume if neither the file nor the user provides a config.

        Returns:
            The config.

        Raises:
            ValueError: If the file stores another config than the user provides.
        """
        if stored is not None:
            if self.config not in (None, stored):
                raise ValueError("it stores the config of its showers, but another config was given; omit it")
            return stored
        if self.config is None:
            self.note(f"The file does not store the physics of its showers; the preset {default!r} is assumed.")
        return self.config or preset(default)


@dataclass(frozen=True)
class Source:
    """A stream of showers from a file.

    Args:
        run: Run of the showers.
        total: Number of showers.
        has_particles: Whether the showers have recorded particles.
        chunks: Showers in pieces of bounded size; there is at least one piece, which may be empty.
    """

    run: Run
    total: int
    has_particles: bool
    chunks: Iterator[Showers]


Reader = Callable[[Path, Choices], AbstractContextManager[Source]]
Writer = Callable[[Path, Source, Choices], None]


@dataclass(frozen=True)
class Format:
    """A file format for conversions. ``FORMATS`` contains all formats by name.

    Args:
        name: Name of the format on the command line and in Python.
        description: Description in one line.
        reader: Function that opens a file; None if the format cannot be read.
        writer: Function that writes a file; None if the format cannot be written.
        datasets: Names of HDF5 datasets that distinguish the format from others with the same file extension.

    Example:
        >>> from supa_datasets import FORMATS
        >>> FORMATS["parquet"].extensions
        ('.parquet', '.pq')
        >>> [name for name, form in FORMATS.items() if form.writer is None]
        ['reference']
    """

    name: str
    description: str
    reader: Reader | None
    writer: Writer | None
    datasets: tuple[str, ...] = ()

    @property
    def extensions(self) -> tuple[str, ...]:
        """File extensions of the format, with the dot."""
        return SUFFIXES[self.name]
