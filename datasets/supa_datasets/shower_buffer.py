"""Showers on their way into a file: columns in the stored types, filled in place chunk by chunk."""

from collections import deque
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np

from supa import Ragged, Showers
from supa.arrays import Array
from supa_datasets.layout import HITS, PARTICLES, PRIMARIES, SHOWER_CHUNK, SHOWER_TYPES, Table

# A batch ends with the first shower that reaches one of these limits. The bytes of the file therefore do not depend on
# how the showers were divided between calls of ``append``. A batch is small enough to stay in the caches of a processor
# until it is written.
BATCH_ROWS = 1 << 17
"""Rows of one table in a batch."""
BATCH_SHOWERS = 1 << 13
"""Showers in a batch."""


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
    """Columns of equal length: one incomplete chunk of each, and complete ones that have not been taken.

    Args:
        types: Stored type of each column by path.
        chunk: Number of rows of a chunk.
        reuse: Whether to use the memory of chunks again.
    """

    def __init__(self, types: Mapping[str, str], chunk: int, *, reuse: bool) -> None:
        self._types, self._size, self._reuse = types, chunk, reuse
        self._spare: list[dict[str, Array]] = []
        self._current = self._allocated()
        self._complete: list[dict[str, Array]] = []
        self._first = 0  # number of the first row of the first chunk
        self.length = 0

    @property
    def whole(self) -> int:
        """Number of rows in complete chunks."""
        return self.length // self._size * self._size

    def append(self, columns: Mapping[str, Array]) -> None:
        """Copy columns to the end."""
        count, done = len(next(iter(columns.values()))), 0
        while done < count:
            start = self.length - self.whole
            step = min(self._size - start, count - done)
            for path, values in columns.items():
                self._current[path][start : start + step] = values[done : done + step]
            done += step
            self.length += step
            if start + step == self._size:
                self._complete.append(self._current)
                self._current = self._spare.pop() if self._spare else self._allocated()

    def take(self) -> Iterator[Piece]:
        """Take the complete chunks. With ``reuse``, they are used again after the last piece was requested."""
        complete, self._complete = self._complete, []
        if not complete:
            return
        first, self._first = self._first, self._first + len(complete) * self._size
        for path in self._types:
            yield Piece(path, first, [arrays[path] for arrays in complete], self._first)
        if self._reuse:
            self._spare += complete

    def incomplete(self) -> Iterator[Piece]:
        """Return copies of the incomplete chunks."""
        count = self.length - self.whole
        for path, rows in self._current.items() if count else ():
            copy = np.zeros_like(rows)
            copy[:count] = rows[:count]
            yield Piece(path, self.whole, [copy], self.length)

    def _allocated(self) -> dict[str, Array]:
        return {path: np.empty(self._size, kind) for path, kind in self._types.items()}


class ShowerBuffer:
    """Showers that are not yet in the file.

    The arrays are filled in place. Complete chunks are taken at the end of a batch. Their order depends only on the
    showers.

    Args:
        tables: Ragged tables of the file.
        reuse: Whether the memory of chunks is used again when the next batch is filled.
    """

    def __init__(self, tables: tuple[Table, ...], *, reuse: bool) -> None:
        self._tables = tables
        shower_types = {f"showers/{name}": kind for name, kind in SHOWER_TYPES.items()}
        self._showers = _Rows(shower_types, SHOWER_CHUNK, reuse=reuse)
        self._rows, self._offsets = {}, {}
        for table in tables:
            types = {f"{table.group}/{name}": kind for name, kind in table.types.items()}
            self._rows[table.group] = _Rows(types, table.chunk, reuse=reuse)
            self._offsets[table.group] = _Rows({table.offset: "i8"}, SHOWER_CHUNK, reuse=reuse)
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
