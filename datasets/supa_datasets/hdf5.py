"""Shower files: random access with `ShowerFile`, and `load` and `save` for complete files."""

import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import Any, Self

import h5py
import numpy as np

from supa import Ragged, Run, Showers
from supa.arrays import IntArray
from supa.checks import counted
from supa.ragged import counts_to_offsets
from supa.selection import selected
from supa_datasets.compression import Compression
from supa_datasets.layout import (
    HITS,
    PARTICLES,
    SHOWER_TYPES,
    attribute_of,
    check_columns,
    check_format,
    dataset_at,
    read_run,
    stores_particles,
    tables_of,
)
from supa_datasets.memory_map import MappedColumns, mappable
from supa_datasets.reader import (
    assembled,
    checked,
    columns_of,
    named_errors,
    open_for_reading,
    pieces,
    read_showers,
)
from supa_datasets.validation import Fault, find_faults
from supa_datasets.writer import ShowerWriter


class ShowerFile:
    """A shower file that is open for reading.

    ``len(file)`` is the number of showers. Indexing reads only the selected showers and returns them as
    `supa.Showers`: ``file[5]``, ``file[10:20]``, or ``file[array]`` with a boolean or integer array. An open file can
    be pickled or inherited by another process, which then opens the file again.

    Args:
        path: Path of the file.

    Raises:
        FileNotFoundError: If the file does not exist.
        ValueError: If the file is damaged, truncated, of another format or of a newer version.

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
        self._open()

    def _open(self) -> None:
        self._file = open_for_reading(self._path)
        self._process = os.getpid()
        with named_errors(self._path):
            try:
                check_format(self._file)
                self._has_particles = stores_particles(self._file)
                check_columns(self._file)
                self._run = read_run(self._file)
                self._columns = columns_of(self._file)
                self._offsets = {
                    table.group: dataset_at(self._file, table.offset, "i8")[:]
                    for table in tables_of(self._has_particles)
                }
                mapped = all(mappable(column) for column in self._columns.values())
                self._mapped = MappedColumns(self._file, self._columns) if mapped else None
            except BaseException:
                self._file.close()
                raise

    # ------------------------------------------------------------------ life

    def close(self) -> None:
        """Close the file. Reading from a closed file raises ValueError."""
        self._file.close()
        self._mapped = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __getstate__(self) -> tuple[Path, tuple[Any, ...]]:
        return self._path, self._contents()

    def __setstate__(self, state: tuple[Path, tuple[Any, ...]]) -> None:
        self._path, contents = state
        self._open()
        if self._contents() != contents:
            self.close()
            raise ValueError(f"{self._path}: the file has changed since it was pickled; open it again.")

    def _contents(self) -> tuple[Any, ...]:
        """Return the values by which a replaced file is recognised."""
        return self._run, self._has_particles, *(int(offset[-1]) for offset in self._offsets.values()), len(self)

    def __repr__(self) -> str:
        state = "" if self._file else ", closed"
        hits = counted(int(self._offsets["hits"][-1]), "hit")
        return f"<ShowerFile {self._path}: {counted(len(self), 'shower')}, {hits}{state}>"

    # ------------------------------------------------------------------ contents

    @property
    def path(self) -> Path:
        """Path of the file."""
        return self._path

    @property
    def run(self) -> Run:
        """Config, seed and other settings with which the showers were simulated."""
        return self._run

    @property
    def has_particles(self) -> bool:
        """Whether the file contains the recorded particles of the shower trees."""
        return self._has_particles

    @property
    def num_hits(self) -> IntArray:
        """Number of hits of each shower, (showers,) int64."""
        counts: IntArray = np.diff(self._offsets[HITS.group])
        return counts

    @property
    def num_particles(self) -> IntArray:
        """Number of recorded particles of each shower, (showers,) int64; ValueError if they were not recorded."""
        if not self._has_particles:
            raise ValueError(f"{self._path}: its particles were not recorded; simulate with record='particles'.")
        counts: IntArray = np.diff(self._offsets[PARTICLES.group])
        return counts

    @property
    def compression(self) -> str:
        """Name of the HDF5 filter of the hits; ``"none"`` without compression."""
        properties = self._columns["hits/x"].id.get_create_plist()
        names = [properties.get_filter(k)[3].decode() for k in range(properties.get_nfilters())]
        return ", ".join(names) or "none"

    @property
    def attributes(self) -> dict[str, Any]:
        """Attributes of the file by name, such as ``config``, ``seed``, ``energy_unit`` and ``version``."""
        file = self._opened()
        with named_errors(self._path):
            return {name: attribute_of(file, name) for name in file.attrs}

    def __len__(self) -> int:
        return len(self._offsets[HITS.group]) - 1

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
        if isinstance(chosen, tuple):
            return self._read_checked(*chosen)
        if self._mapped is not None:
            return self._gather(chosen)
        wanted, place = np.unique(chosen, return_inverse=True)
        if not len(wanted):
            return self._read_checked(0, 0)
        gaps = np.flatnonzero(np.diff(wanted) != 1) + 1
        runs = np.split(wanted, gaps)
        return Showers.concatenate([self._read_checked(int(run[0]), int(run[-1]) + 1) for run in runs])[place]

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
        file = self._opened()
        types = {table.group: {**table.types, "offset": "i8"} for table in tables_of(self._has_particles)}
        types["showers"] = {**SHOWER_TYPES, "offset": "i8"}
        if name not in types.get(table, {}):
            known = (
                f"the columns of {table!r} are {', '.join(types[table])}"
                if table in types
                else (f"the tables are {', '.join(types)}")
            )
            raise ValueError(f"{self._path}: there is no column {table}/{name}; {known}.")
        with named_errors(self._path):
            return dataset_at(file, f"{table}/{name}", types[table][name])[:]

    def faults(self, progress: Callable[[int], None] | None = None) -> list[Fault]:
        """Check every value of the file. These checks are more thorough than those on reading.

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
        self._opened()
        found: dict[str, Fault] = {}
        for start, stop in pieces(list(self._offsets.values())):
            try:
                faults = find_faults(self._read(start, stop), start)
            except ValueError:
                faults = [Fault("an unreadable shower", stop - start, start)]
            for fault in faults:
                before = found.get(fault.kind)
                count = fault.count + (before.count if before else 0)
                found[fault.kind] = Fault(fault.kind, count, before.shower if before else fault.shower)
            if progress is not None:
                progress(stop)
        return list(found.values())

    def _opened(self) -> h5py.File:
        if not self._file:
            raise ValueError(f"{self._path}: the file was closed; open it again.")
        if self._process != os.getpid():
            self._open()
        return self._file

    def _gather(self, chosen: IntArray) -> Showers:
        """Copy showers from the memory-mapped file."""
        self._opened()
        mapped = self._mapped
        assert mapped is not None
        with named_errors(self._path):
            mapped.check()
        run, single = replace(self._run, attempts=None), np.ones(len(chosen), dtype=np.int64)
        tables = {}
        for table in tables_of(self._has_particles):
            offset = self._offsets[table.group]
            start = offset[chosen]
            count = offset[chosen + 1] - start
            columns = {name: mapped.rows(f"{table.group}/{name}", start, count) for name in table.types}
            tables[table.group] = Ragged(columns, counts_to_offsets(count))
        columns = {name: mapped.rows(f"showers/{name}", chosen, single) for name in SHOWER_TYPES}
        with named_errors(self._path):
            return checked(assembled(run, columns, tables))

    def _read_checked(self, start: int, stop: int) -> Showers:
        showers = self._read(start, stop)
        with named_errors(self._path):
            return checked(showers)

    def _read(self, start: int, stop: int) -> Showers:
        self._opened()
        whole = stop - start == len(self)
        run = self._run if whole else replace(self._run, attempts=None)
        with named_errors(self._path):
            offsets = {group: offset[start : stop + 1] for group, offset in self._offsets.items()}
            return read_showers(self._columns, run, offsets, start, stop)

    def _repr_html_(self) -> str:
        """Return the table that a notebook shows."""
        from supa import preset_name
        from supa.html_table import html_table

        run, hits = self._run, int(self._offsets["hits"][-1])
        rows: list[tuple[str, object]] = [
            ("state", "open" if self._file else "closed"),
            ("showers", f"{len(self):,}"),
            ("hits", f"{hits:,}" + (f", {hits / len(self):.1f} per shower" if len(self) else "")),
            ("particles", "recorded" if self._has_particles else "not recorded"),
            ("config", preset_name(run.config) or "custom"),
            ("incident energy", f"{run.config.spectrum} GeV"),
            ("seed", "-" if run.seed is None else run.seed),
            ("engine", run.engine),
            ("keep", run.keep),
        ]
        if self._file:
            rows.append(("compression", self.compression))
        return html_table(rows, caption=f"ShowerFile {self._path}")


def load(path: str | PathLike[str]) -> Showers:
    """Read all showers of a file into memory.

    Use `ShowerFile` to read parts of a file that is larger than the memory.

    Args:
        path: Path of the file.

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
    showers: Showers, path: str | PathLike[str], *, compression: Compression = "none", overwrite: bool = False
) -> None:
    """Write showers to a file atomically.

    The file appears under its name only when it is complete.

    Args:
        showers: The showers. Positions and energies of the hits are stored as float32.
        path: Path of the file to create; its folder must exist.
        compression: One of ``COMPRESSIONS``: ``"none"``, ``"gzip"``, ``"lz4"`` or ``"zstd"``. The last two need the
            package hdf5plugin.
        overwrite: Whether to replace an existing file.

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
        path, showers.run, has_particles=showers.particles is not None, compression=compression, overwrite=overwrite
    ) as writer:
        writer.append(showers)
