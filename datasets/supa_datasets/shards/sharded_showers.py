"""The showers of several files as one sequence, which are opened when they are read."""

from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from supa import Run, Showers
from supa.arrays import IntArray
from supa.ragged import counts_to_offsets
from supa_datasets.layout import HITS, tables_of
from supa_datasets.reader import check_memory, named_errors
from supa_datasets.shards.checking import full_check
from supa_datasets.shards.manifest import Manifest, Shard
from supa_datasets.stored_showers import StoredShowers
from supa_datasets.validation import Fault

MOST_OPEN = 100
"""Maximum number of open shards. An uncompressed file needs two file descriptors; systems allow 1,024 by default."""


class ShardedShowers:
    """The showers of all shards of a dataset, with the interface of ``StoredShowers``.

    Args:
        path: Path of the folder or of the virtual file.
        folder: Folder to which the names of the files are relative.
        manifest: The dataset, of which all files were checked.
    """

    def __init__(self, path: Path, folder: Path, manifest: Manifest) -> None:
        self.path = path
        self.run: Run = manifest.run
        self.has_particles = manifest.has_particles
        self.is_open = True
        self._folder, self._manifest = folder, manifest
        self._first = counts_to_offsets(np.array([shard.count for shard in manifest.shards]))
        sizes = [max(shard.bytes or 0, HITS.bytes_per_row * (shard.hits or 0)) for shard in manifest.shards]
        self._bytes = counts_to_offsets(np.array(sizes))
        self._parts: OrderedDict[int, StoredShowers] = OrderedDict()

    def close(self) -> None:
        """Close all files."""
        for part in self._parts.values():
            part.close()
        self._parts.clear()
        self.is_open = False

    def __len__(self) -> int:
        return int(self._first[-1])

    @property
    def identity(self) -> tuple[Any, ...]:
        """The values by which a replaced dataset is recognised."""
        return (self._manifest,)

    @property
    def paths(self) -> tuple[Path, ...]:
        """Path of each shard."""
        return tuple(self._folder / shard.file for shard in self._manifest.shards)

    @property
    def num_bytes(self) -> int:
        """Size of all shards in bytes."""
        return sum(shard.bytes or 0 for shard in self._manifest.shards)

    @property
    def compression(self) -> str:
        """Name of the HDF5 filter of the hits; ``"none"`` without compression."""
        return self._part(0).compression

    @property
    def attributes(self) -> dict[str, Any]:
        """Attributes of the first shard, with the attempts of all shards."""
        return {**self._part(0).attributes, "attempts": self.run.attempts}

    def num_rows(self, group: str) -> int:
        """Return the number of rows of a table."""
        if group == HITS.group:
            return sum(shard.hits or 0 for shard in self._manifest.shards)
        return sum(part.num_rows(group) for part in self._all_parts())

    def counts(self, group: str) -> IntArray:
        """Return the number of rows of each shower in a table, (showers,) int64."""
        return np.concatenate([part.counts(group) for part in self._all_parts()])

    def column(self, path: str, kind: str) -> Any:
        """Read one column of all showers; offsets are those of one table with the rows of all shards."""
        offset_of = {table.offset: table.group for table in tables_of(self.has_particles)}
        if path in offset_of:
            return counts_to_offsets(self.counts(offset_of[path]))
        return np.concatenate([part.column(path, kind) for part in self._all_parts()])

    def read_checked(self, start: int, stop: int) -> Showers:
        """Read consecutive showers and check their values."""
        first, last = (int(k) for k in self._number_of(np.array([start, max(start, stop - 1)])))
        if last > first:
            with named_errors(self.path):
                check_memory(self._bytes_of(start, stop), start, stop)
        pieces = []
        for k in range(first, last + 1):
            begin, end = int(self._first[k]), int(self._first[k + 1])
            pieces.append(self._part(k).read_checked(max(start, begin) - begin, min(stop, end) - begin))
        return self._joined(pieces, whole=stop - start == len(self))

    def take(self, numbers: IntArray) -> Showers:
        """Read any showers in any order and check their values."""
        number = self._number_of(numbers)
        if not len(numbers):
            return self.read_checked(0, 0)
        order = np.argsort(number, kind="stable")
        needed, begins = np.unique(number[order], return_index=True)
        pieces = [
            self._part(int(k)).take(numbers[chosen] - self._first[k])
            for k, chosen in zip(needed, np.split(order, begins[1:]), strict=True)
        ]
        showers = self._joined(pieces, whole=False)
        if len(pieces) == 1:
            return showers
        place = np.empty_like(order)
        place[order] = np.arange(len(order))
        return showers[place]

    def faults(self, progress: Callable[[int], None]) -> list[Fault]:
        """Check every value of the shards, and their checksums.

        Args:
            progress: Function that is called with the number of showers checked so far.

        Returns:
            Faults in the order of the shards.
        """
        found = []
        for k, shard in enumerate(self._manifest.shards):
            begin = int(self._first[k])
            if not self._has_checksum(shard):
                found.append(Fault(f"the checksum of {shard.file}", shard.count, begin))
            for fault in self._part(k).faults(_after(begin, progress)):
                found.append(replace(fault, shower=begin + fault.shower))
        return found

    def _has_checksum(self, shard: Shard) -> bool:
        with suppress(ValueError):
            full_check(self._folder / shard.file, self._manifest, shard)
            return True
        return False

    def _bytes_of(self, start: int, stop: int) -> int:
        """Estimate the memory that showers of several shards need, which exist twice while they are joined."""
        return int(2 * np.diff(np.interp([start, stop], self._first, self._bytes))[0])

    def _joined(self, pieces: list[Showers], *, whole: bool) -> Showers:
        showers = pieces[0] if len(pieces) == 1 else Showers.concatenate(pieces)
        return replace(showers, run=self.run if whole else replace(self.run, attempts=None))

    def _number_of(self, numbers: IntArray) -> IntArray:
        """Return the shard of each shower."""
        number = np.searchsorted(self._first, numbers, side="right") - 1
        return np.minimum(number, len(self._manifest.shards) - 1)  # a slice may start at the end

    def _all_parts(self) -> Iterator[StoredShowers]:
        return (self._part(k) for k in range(len(self._manifest.shards)))

    def _part(self, number: int) -> StoredShowers:
        """Return a shard, which is opened if necessary. If too many are open, the one unused for longest is closed."""
        if not self.is_open:
            raise ValueError(f"{self.path}: the file was closed; open it again.")
        part = self._parts.get(number)
        if part is None:
            while len(self._parts) >= MOST_OPEN:
                self._parts.popitem(last=False)[1].close()
            part = self._parts[number] = self._opened(self._manifest.shards[number])
        self._parts.move_to_end(number)
        return part

    def _opened(self, shard: Shard) -> StoredShowers:
        part = StoredShowers(self._folder / shard.file)
        if (part.run, len(part), part.num_rows(HITS.group)) != (self._run_of(shard), shard.count, shard.hits):
            part.close()
            raise ValueError(f"{part.path}: it was replaced after the dataset was opened.")
        return part

    def _run_of(self, shard: Shard) -> Run:
        return replace(self.run, first=shard.first, attempts=shard.count)


def _after(begin: int, progress: Callable[[int], None]) -> Callable[[int], None]:
    """Return the progress of a shard that begins at a shower of the dataset."""
    return lambda done: progress(begin + done)
