"""The showers of one open HDF5 file: its columns, and reads of any of its showers."""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from supa import Ragged, Run, Showers
from supa.arrays import IntArray
from supa.ragged import counts_to_offsets
from supa_datasets.layout import (
    HITS,
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


class StoredShowers:
    """The showers of one file that is open for reading.

    A process that inherits an open file opens it again.

    Args:
        path: Path of the file.

    Raises:
        FileNotFoundError: If the file does not exist.
        ValueError: If the file is damaged, truncated, of another format or of a newer version.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._open()

    def _open(self) -> None:
        self._file = open_for_reading(self.path)
        self._process = os.getpid()
        with named_errors(self.path):
            try:
                check_format(self._file)
                self.has_particles = stores_particles(self._file)
                check_columns(self._file)
                self.run: Run = read_run(self._file)
                self._columns = columns_of(self._file)
                self._offsets = {
                    table.group: dataset_at(self._file, table.offset, "i8")[:]
                    for table in tables_of(self.has_particles)
                }
                mapped = all(mappable(column) for column in self._columns.values())
                self._mapped = MappedColumns(self._file, self._columns) if mapped else None
            except BaseException:
                self._file.close()
                raise

    def close(self) -> None:
        """Close the file."""
        self._file.close()
        self._mapped = None

    def __len__(self) -> int:
        return len(self._offsets[HITS.group]) - 1

    @property
    def is_open(self) -> bool:
        """Whether the file is open."""
        return bool(self._file)

    @property
    def paths(self) -> tuple[Path, ...]:
        """The path of the file."""
        return (self.path,)

    @property
    def identity(self) -> tuple[Any, ...]:
        """The values by which a replaced file is recognised."""
        return self.run, self.has_particles, *(int(offset[-1]) for offset in self._offsets.values()), len(self)

    @property
    def num_bytes(self) -> int:
        """Size of the file in bytes."""
        return self.path.stat().st_size

    @property
    def compression(self) -> str:
        """Name of the HDF5 filter of the hits; ``"none"`` without compression."""
        properties = self._columns["hits/x"].id.get_create_plist()
        names = [properties.get_filter(k)[3].decode() for k in range(properties.get_nfilters())]
        return ", ".join(names) or "none"

    @property
    def attributes(self) -> dict[str, Any]:
        """Attributes of the file by name."""
        file = self._opened()
        with named_errors(self.path):
            return {name: attribute_of(file, name) for name in file.attrs}

    def num_rows(self, group: str) -> int:
        """Return the number of rows of a table.

        Args:
            group: Name of the table, such as ``"hits"``.

        Returns:
            Number of rows of all showers together.
        """
        return int(self._offsets[group][-1])

    def counts(self, group: str) -> IntArray:
        """Return the number of rows of each shower in a table.

        Args:
            group: Name of the table, such as ``"hits"``.

        Returns:
            (showers,) int64.
        """
        counts: IntArray = np.diff(self._offsets[group])
        return counts

    def column(self, path: str, kind: str, start: int = 0, stop: int | None = None) -> Any:
        """Read rows of one column.

        Args:
            path: Path of the column, such as ``"hits/energy"``.
            kind: Dtype of the column.
            start: First row.
            stop: Row after the last; None for the end of the column.

        Returns:
            (rows,) array.
        """
        file = self._opened()
        with named_errors(self.path):
            return dataset_at(file, path, kind)[start:stop]

    def read(self, start: int, stop: int) -> Showers:
        """Read consecutive showers without checking their values.

        Args:
            start: Position of the first shower.
            stop: Position after the last shower.

        Returns:
            The showers.
        """
        self._opened()
        whole = stop - start == len(self)
        run = self.run if whole else replace(self.run, attempts=None)
        with named_errors(self.path):
            offsets = {group: offset[start : stop + 1] for group, offset in self._offsets.items()}
            return read_showers(self._columns, run, offsets, start, stop)

    def read_checked(self, start: int, stop: int) -> Showers:
        """Read consecutive showers and check their values.

        Args:
            start: Position of the first shower.
            stop: Position after the last shower.

        Returns:
            The showers.
        """
        showers = self.read(start, stop)
        with named_errors(self.path):
            return checked(showers)

    def take(self, numbers: IntArray) -> Showers:
        """Read any showers and check their values.

        Args:
            numbers: (n,) int64 positions of the showers, in any order.

        Returns:
            The showers in the given order.
        """
        if self._mapped is not None:
            return self._gather(numbers)
        wanted, place = np.unique(numbers, return_inverse=True)
        if not len(wanted):
            return self.read_checked(0, 0)
        gaps = np.flatnonzero(np.diff(wanted) != 1) + 1
        runs = np.split(wanted, gaps)
        return Showers.concatenate([self.read_checked(int(run[0]), int(run[-1]) + 1) for run in runs])[place]

    def _gather(self, chosen: IntArray) -> Showers:
        """Copy showers from the memory-mapped file."""
        self._opened()
        mapped = self._mapped
        assert mapped is not None
        with named_errors(self.path):
            mapped.check()
        run, single = replace(self.run, attempts=None), np.ones(len(chosen), dtype=np.int64)
        tables = {}
        for table in tables_of(self.has_particles):
            offset = self._offsets[table.group]
            start = offset[chosen]
            count = offset[chosen + 1] - start
            columns = {name: mapped.rows(f"{table.group}/{name}", start, count) for name in table.types}
            tables[table.group] = Ragged(columns, counts_to_offsets(count))
        columns = {name: mapped.rows(f"showers/{name}", chosen, single) for name in SHOWER_TYPES}
        with named_errors(self.path):
            return checked(assembled(run, columns, tables))

    def faults(self, progress: Callable[[int], None]) -> list[Fault]:
        """Check every value of the file.

        Args:
            progress: Function that is called with the number of showers checked so far.

        Returns:
            One fault for each kind of impossible value and each piece of the file, in order.
        """
        self._opened()
        found = []
        for start, stop in pieces(list(self._offsets.values())):
            try:
                found += find_faults(self.read(start, stop), start)
            except ValueError:
                found.append(Fault("an unreadable shower", stop - start, start))
            progress(stop)
        return found

    def _opened(self) -> h5py.File:
        if not self._file:
            raise ValueError(f"{self.path}: the file was closed; open it again.")
        if self._process != os.getpid():
            self._open()
        return self._file
