"""Shower files and folders of shards: random access with `ShowerFile`, and `load` and `save` for complete files."""

from collections.abc import Callable, Iterator
from os import PathLike
from pathlib import Path
from typing import Any, Self

from supa import Run, Showers
from supa.arrays import FloatArray, IntArray
from supa.checks import counted
from supa.selection import selected
from supa_datasets.compression import Compression
from supa_datasets.layout import HITS, PARTICLES, SHOWER_TYPES, WEIGHT, tables_of
from supa_datasets.shards.opening import open_stored
from supa_datasets.validation import Fault
from supa_datasets.writer import ShowerWriter


class ShowerFile:
    """A shower file, or a folder of shards, that is open for reading.

    ``len(file)`` is the number of showers. Indexing reads only the selected showers and returns them as
    `supa.Showers`: ``file[5]``, ``file[10:20]``, or ``file[array]`` with a boolean or integer array. An open file can
    be pickled or inherited by another process, which then opens the file again.

    A folder that `generate_shards` wrote, and a virtual file of `merge_shards`, behave as one file. Their shards are
    opened when they are read.

    Args:
        path: Path of the file or the folder.

    Raises:
        FileNotFoundError: If the file does not exist.
        ValueError: If the file is damaged, truncated, of another format or of a newer version, or if a shard is missing
            or is not the one that the manifest states.

    Example:
        >>> import supa
        >>> from supa_datasets import ShowerFile, save
        >>> save(supa.simulate(100, "standard", seed=1), "showers.h5")
        >>> with ShowerFile("showers.h5") as file:
        ...     print(len(file), file.run.seed)
        ...     part = file[10:20]
        100 1
        >>> part.index
        array([10, 11, 12, 13, 14, 15, 16, 17, 18, 19])

    Source:
        The page *The file format* of the documentation describes the format.
    """

    def __init__(self, path: str | PathLike[str]) -> None:
        self._path = Path(path)
        self._stored = open_stored(self._path)

    # ------------------------------------------------------------------ life

    def close(self) -> None:
        """Close the file. Reading from a closed file raises ValueError."""
        self._stored.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __getstate__(self) -> tuple[Path, tuple[Any, ...]]:
        return self._path, self._stored.identity

    def __setstate__(self, state: tuple[Path, tuple[Any, ...]]) -> None:
        self._path, identity = state
        self._stored = open_stored(self._path)
        if self._stored.identity != identity:
            self.close()
            raise ValueError(f"{self._path}: the file has changed since it was pickled; open it again.")

    def __repr__(self) -> str:
        state = "" if self._stored.is_open else ", closed"
        hits = counted(self._stored.num_rows(HITS.group), "hit")
        return f"<ShowerFile {self._path}: {counted(len(self), 'shower')}, {hits}{state}>"

    # ------------------------------------------------------------------ contents

    @property
    def path(self) -> Path:
        """Path of the file."""
        return self._path

    @property
    def run(self) -> Run:
        """Config, seed and other settings with which the showers were simulated."""
        return self._stored.run

    @property
    def has_particles(self) -> bool:
        """Whether the file contains the recorded particles of the shower trees."""
        return self._stored.has_particles

    @property
    def num_hits(self) -> IntArray:
        """Number of hits of each shower, (showers,) int64."""
        return self._stored.counts(HITS.group)

    @property
    def num_particles(self) -> IntArray:
        """Number of recorded particles of each shower, (showers,) int64; ValueError if they were not recorded."""
        if not self.has_particles:
            raise ValueError(f"{self._path}: its particles were not recorded; simulate with record='particles'.")
        return self._stored.counts(PARTICLES.group)

    @property
    def num_bytes(self) -> int:
        """Size in bytes; for a folder or a virtual file, that of all shards together."""
        return self._stored.num_bytes

    @property
    def shards(self) -> tuple[Path, ...]:
        """Paths of the files that contain the showers: the file itself, or the shards of a folder or a virtual file."""
        return self._stored.paths

    @property
    def compression(self) -> str:
        """Name of the HDF5 filter of the hits; ``"none"`` without compression."""
        return self._stored.compression

    @property
    def attributes(self) -> dict[str, Any]:
        """Attributes of the file by name, such as ``config``, ``seed``, ``energy_unit`` and ``version``."""
        return self._stored.attributes

    def __len__(self) -> int:
        return len(self._stored)

    def __iter__(self) -> Iterator[Showers]:
        """Iterate over single showers, which are read in chunks."""
        for chunk in self.chunks():
            yield from chunk

    def chunks(self, size: int = 8192) -> Iterator[Showers]:
        """Iterate over the file in chunks.

        Args:
            size: Number of showers per chunk.

        Returns:
            Iterator over `supa.Showers`. A file without showers has one empty chunk.
        """
        for start in range(0, max(len(self), 1), size):
            yield self[start : start + size]

    def __getitem__(self, key: Any) -> Showers:
        """Read the showers that an integer, a slice, or a boolean or integer array selects."""
        chosen = selected(key, len(self))
        return self._stored.read_checked(*chosen) if isinstance(chosen, tuple) else self._stored.take(chosen)

    def column(self, table: str, name: str) -> Any:
        """Read one column of all showers.

        Args:
            table: Name of the table: ``"showers"``, ``"hits"``, ``"primaries"`` or ``"particles"``.
            name: Name of the column, such as ``"energy"``. Each table also has an ``"offset"``; that of
                ``"showers"`` is the offset of the hits.

        Returns:
            (rows,) array with the dtype of the column.

        Raises:
            ValueError: If the file has no such column.
        """
        types = {table.group: {**table.types, "offset": "i8"} for table in tables_of(self.has_particles)}
        types["showers"] = {**SHOWER_TYPES, "offset": "i8"}
        if self.run.refinement is not None and self.run.refinement.by == "weights":
            types["showers"][WEIGHT] = "f8"
        if name not in types.get(table, {}):
            known = (
                f"the columns of {table!r} are {', '.join(types[table])}"
                if table in types
                else (f"the tables are {', '.join(types)}")
            )
            raise ValueError(f"{self._path}: there is no column {table}/{name}; {known}.")
        return self._stored.column(f"{table}/{name}", types[table][name])

    def faults(self, progress: Callable[[int], None] | None = None) -> list[Fault]:
        """Check every value of the file and the checksum of each shard, more thoroughly than on reading.

        Args:
            progress: Function that is called with the number of showers checked so far.

        Returns:
            One `Fault` for each kind of impossible value; an empty list for a valid file.

        Example:
            >>> import supa
            >>> from supa_datasets import ShowerFile, save
            >>> save(supa.simulate(100), "showers.h5")
            >>> with ShowerFile("showers.h5") as file:
            ...     file.faults()
            []
        """
        found: dict[str, Fault] = {}
        for fault in self._stored.faults(progress or _ignore):
            before = found.get(fault.kind)
            count = fault.count + (before.count if before else 0)
            found[fault.kind] = Fault(fault.kind, count, before.shower if before else fault.shower)
        return list(found.values())

    def _repr_html_(self) -> str:
        """Return the table that a notebook shows."""
        from supa import preset_name
        from supa.html_table import html_table

        run, hits = self.run, self._stored.num_rows(HITS.group)
        rows: list[tuple[str, object]] = [
            ("state", "open" if self._stored.is_open else "closed"),
            ("showers", f"{len(self):,}"),
            ("hits", f"{hits:,}" + (f", {hits / len(self):.1f} per shower" if len(self) else "")),
            ("particles", "recorded" if self.has_particles else "not recorded"),
            ("config", preset_name(run.config) or "custom"),
            ("incident energy", f"{run.config.spectrum} GeV"),
            ("seed", "-" if run.seed is None else run.seed),
            ("engine", run.engine),
            *([("model", run.model)] if run.model is not None else []),
            *([("refinement", run.refinement)] if run.refinement is not None else []),
            ("keep", run.keep),
        ]
        if self._stored.is_open:
            rows.append(("compression", self.compression))
        return html_table(rows, caption=f"ShowerFile {self._path}")


def load(path: str | PathLike[str]) -> Showers:
    """Read all showers of a file, or of a folder of shards, into memory.

    Use `ShowerFile` to read parts of a file that is larger than the memory.

    Args:
        path: Path of the file or the folder.

    Returns:
        The showers. Positions (length unit) and energies (GeV) of the hits are float32.

    Raises:
        FileNotFoundError: If the file does not exist.
        ValueError: If the file is damaged, truncated, of another format or of a newer version, or does not fit into
            the memory.

    Example:
        >>> import supa
        >>> from supa_datasets import load, save
        >>> save(supa.simulate(100, "standard", seed=1), "showers.h5")
        >>> load("showers.h5")
        <Showers: 100 of standard at 65.0 GeV, seed 1; 6,684 hits, 66.8 per shower>
    """
    with ShowerFile(path) as file:
        return file[:]


def save(
    showers: Showers,
    path: str | PathLike[str],
    *,
    compression: Compression = "none",
    overwrite: bool = False,
    weight: FloatArray | None = None,
) -> None:
    """Write showers to a file atomically.

    The file appears under its name only when it is complete.

    Args:
        showers: The showers. Positions and energies of the hits are stored as float32.
        path: Path of the file to create; its folder must exist.
        compression: One of ``COMPRESSIONS``: ``"none"``, ``"gzip"``, ``"lz4"`` or ``"zstd"``. The last two need the
            package hdf5plugin.
        overwrite: Whether to replace an existing file.
        weight: (showers,) weights of a sample that was refined with weights.

    Raises:
        FileExistsError: If the file exists and ``overwrite`` is False.
        FileNotFoundError: If the folder does not exist.
        ValueError: If ``showers`` is not a `supa.Showers` object, or the compression is not available.

    Example:
        >>> import supa
        >>> from supa_datasets import load, save
        >>> showers = supa.simulate(100, "standard", seed=1)
        >>> save(showers[:50], "first.h5", compression="gzip")
        >>> len(load("first.h5"))
        50
    """
    if not isinstance(showers, Showers):
        raise ValueError(
            f"The first argument of save must be a Showers object, got {type(showers).__name__}; the path comes second."
        )
    with ShowerWriter(
        path,
        showers.run,
        has_particles=showers.particles is not None,
        compression=compression,
        overwrite=overwrite,
        weight=weight,
    ) as writer:
        writer.append(showers)


def _ignore(_done: int) -> None:
    """Ignore the progress."""
