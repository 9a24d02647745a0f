"""Showers on their way into a file: columns in the stored types, filled in place chunk by chunk."""

from collections import deque
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np

from supa import Ragged, Showers
from supa.arrays import Array
from supa.recycling import Recycler
from supa_datasets.layout import HITS, PARTICLES, PRIMARIES, SHOWER_CHUNK, SHOWER_TYPES, Table

# A batch ends with the first shower that reaches one of these limits. The bytes of the file therefore do not depend on
# how the showers were divided between calls of ``append``. A batch is small enough to stay in the caches of a processor
# until it is written.
BATCH_ROWS = 1 << 17
"""Rows of one table in a batch."""
BATCH_SHOWERS = 1 << 13
"""Showers in a batch."""


_CAPACITY = 6  # chunks for which there is memory at first
_MOST_UNUSED = 8  # sets of arrays that are kept


class Piece(NamedTuple):
    """Consecutive chunks of a column, which are ready to be written."""

    column: str
    """Path of the column."""
    first: int
    """Number of the first row in the file, a multiple of the size of a chunk."""
    chunks: list[Array]
    """Whole chunks; an incomplete one ends with zeros."""
    length: int
    """Number of rows of the column in the file after these chunks, without those zeros."""


class _Rows:
    """Columns of equal length: the rows that have not been taken, and memory for more.

    Args:
        types: Stored type of each column by path.
        chunk: Number of rows of a chunk.
    """

    def __init__(self, types: Mapping[str, str], chunk: int) -> None:
        self._types, self._chunk = types, chunk
        self._capacity = _CAPACITY * chunk
        self._recycler: Recycler[dict[str, Array]] = Recycler(_MOST_UNUSED)
        self._arrays = self._lent()
        self._start = self._stop = 0  # places in the arrays
        self.length = 0
        """Number of rows that were appended."""

    @property
    def whole(self) -> int:
        """Number of rows in complete chunks."""
        return self.length // self._chunk * self._chunk

    @property
    def _first(self) -> int:
        """Number of rows that were taken, whole chunks."""
        return self.length - (self._stop - self._start)

    def append(self, columns: Mapping[str, Array]) -> None:
        """Copy columns to the end."""
        count = len(next(iter(columns.values())))
        if self._stop + count > self._capacity:
            self._make_room(count)
        for path, values in columns.items():
            _copy(values, self._arrays[path][self._stop : self._stop + count])
        self._stop += count
        self.length += count

    def _make_room(self, count: int) -> None:
        """Move the rows into other memory, since chunks that were taken may still be in use."""
        kept, before = self._stop - self._start, self._arrays
        enough = -(-(kept + count) // self._chunk) * self._chunk
        if enough > self._capacity:
            self._capacity = max(enough, 2 * self._capacity)
        self._arrays = self._lent()
        for path, array in before.items():
            self._arrays[path][:kept] = array[self._start : self._stop]
        self._start, self._stop = 0, kept

    def _lent(self) -> dict[str, Array]:
        """Return arrays that nobody uses."""
        arrays = self._recycler.take()
        if arrays is None or len(next(iter(arrays.values()))) < self._capacity:
            arrays = {path: np.empty(self._capacity, kind) for path, kind in self._types.items()}
        return self._recycler.lend(arrays, arrays)

    def take(self) -> Iterator[Piece]:
        """Take the complete chunks."""
        first, start = self._first, self._start
        stop = start + self.whole - first
        if start == stop:
            return
        self._start = stop
        for path, array in self._arrays.items():
            chunks = [array[place : place + self._chunk] for place in range(start, stop, self._chunk)]
            yield Piece(path, first, chunks, first + stop - start)

    def incomplete(self) -> Iterator[Piece]:
        """Return copies of the incomplete chunks. The complete ones must have been taken."""
        for path, array in self._arrays.items() if self._stop > self._start else ():
            copy = np.zeros(self._chunk, array.dtype)
            copy[: self._stop - self._start] = array[self._start : self._stop]
            yield Piece(path, self._first, [copy], self.length)


def _copy(values: Array, target: Array) -> None:
    """Copy values into an array, and convert them if its type is another one.

    NumPy releases the interpreter lock while it copies, and then waits for the threads that simulate. This takes longer
    than a copy without a conversion.
    """
    if values.dtype == target.dtype and values.flags.c_contiguous:
        target.data[:] = values.data
    else:
        target[:] = values


class ShowerBuffer:
    """Showers that are not yet in the file.

    The arrays are filled in place. Complete chunks are taken at the end of a batch. Their order depends only on the
    showers. The memory of chunks is used again when nothing refers to them any more.

    Args:
        tables: Ragged tables of the file.
    """

    def __init__(self, tables: tuple[Table, ...]) -> None:
        self._tables = tables
        shower_types = {f"showers/{name}": kind for name, kind in SHOWER_TYPES.items()}
        self._showers = _Rows(shower_types, SHOWER_CHUNK)
        self._rows, self._offsets = {}, {}
        for table in tables:
            types = {f"{table.group}/{name}": kind for name, kind in table.types.items()}
            self._rows[table.group] = _Rows(types, table.chunk)
            self._offsets[table.group] = _Rows({table.offset: "i8"}, SHOWER_CHUNK)
            self._offsets[table.group].append({table.offset: np.zeros(1, np.int64)})
        # The lengths at the end of each batch whose showers are not all in complete chunks, and the number of showers.
        self._ends: deque[tuple[int, tuple[int, ...]]] = deque()
        self._saved = 0
        self._begin_batch()

    def _all_rows(self) -> tuple[_Rows, ...]:
        return (self._showers, *self._rows.values(), *self._offsets.values())

    def _begin_batch(self) -> None:
        self._showers_left = BATCH_SHOWERS
        self._rows_left = dict.fromkeys(self._rows, BATCH_ROWS)

    @property
    def num_showers(self) -> int:
        """Number of showers that were appended."""
        return self._showers.length

    @property
    def batch_is_complete(self) -> bool:
        """Whether the batch must be taken before the next call of ``append``."""
        return self._showers_left <= 0 or min(self._rows_left.values()) <= 0

    def append(self, showers: Showers, start: int) -> int:
        """Copy showers to the end of the batch.

        Args:
            showers: Showers.
            start: Number of showers to skip, less than all.

        Returns:
            Number of showers that were skipped or copied.
        """
        stop = min(start + self._showers_left, len(showers))
        for table, rows in self._ragged(showers):
            limit = rows.offset[start] + self._rows_left[table.group]
            stop = min(stop, int(np.searchsorted(rows.offset, limit)))
        self._showers.append({f"showers/{name}": getattr(showers, name)[start:stop] for name in SHOWER_TYPES})
        for table, rows in self._ragged(showers):
            first, last = int(rows.offset[start]), int(rows.offset[stop])
            shift = self._rows[table.group].length - first
            self._rows[table.group].append({f"{table.group}/{name}": rows[name][first:last] for name in table.types})
            self._offsets[table.group].append({table.offset: rows.offset[start + 1 : stop + 1] + shift})
            self._rows_left[table.group] -= last - first
        self._showers_left -= stop - start
        return stop

    def _ragged(self, showers: Showers) -> Iterator[tuple[Table, Ragged]]:
        found = {HITS.group: showers.hits, PRIMARIES.group: showers.primaries, PARTICLES.group: showers.particles}
        for table in self._tables:
            rows = found[table.group]
            assert rows is not None
            yield table, rows

    def take(self) -> Iterator[Piece]:
        """End the batch and take its complete chunks.

        Returns:
            Iterator over the chunks by column.
        """
        self._ends.append((self.num_showers, tuple(rows.length for rows in self._all_rows())))
        self._begin_batch()
        for rows in self._all_rows():
            yield from rows.take()

    def incomplete(self) -> Iterator[Piece]:
        """Return copies of the incomplete chunks, which stay in the buffer."""
        for rows in self._all_rows():
            yield from rows.incomplete()

    def num_in_complete_chunks(self) -> int:
        """Return the number of showers all of whose rows were in chunks that were taken, up to the end of a batch."""
        whole = [rows.whole for rows in self._all_rows()]
        while self._ends and all(length <= most for length, most in zip(self._ends[0][1], whole, strict=True)):
            self._saved = self._ends.popleft()[0]
        return self._saved
