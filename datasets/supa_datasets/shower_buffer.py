"""Showers on their way into a file: columns in the stored types, which are filled in place and leave as whole chunks."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from supa import Ragged, Showers
from supa.arrays import Array
from supa_datasets.layout import HITS, PARTICLES, PRIMARIES, SHOWER_CHUNK, SHOWER_TYPES, Table

# A block ends with the first shower that reaches one of these limits. The bytes of the file therefore do not depend on
# how the showers were divided between calls of ``append``.
BLOCK_ROWS = 1 << 20
"""Rows of one table in a block."""
BLOCK_SHOWERS = 1 << 16
"""Showers in a block."""

# Blocks without a complete chunk of each column, after which incomplete chunks are written as well. Such chunks are
# written again when they are complete, so this is only done for large showers, of which a kill would lose many.
_MOST_UNSAVED_BLOCKS = 4


class Piece(NamedTuple):
    """Consecutive rows of one column, which are ready to be written."""

    column: str
    """Path of the column."""
    first: int
    """Number of the first row in the file, a multiple of the size of a chunk."""
    rows: Array
    """Rows of whole chunks; the last chunk may end with zeros."""
    length: int
    """Number of rows of the column in the file after this piece, without those zeros."""


class Block(NamedTuple):
    """Pieces that are written together."""

    pieces: list[Piece]
    num_showers: int
    """Number of showers that the file contains completely after this block."""
    arrays: list[tuple["_Rows", dict[str, Array]]]
    """Memory of the pieces, for ``ShowerBuffer.recycle``."""


class _Rows:
    """Arrays for columns of equal length.

    Args:
        types: Stored type of each column by path.
        chunk: Number of rows of a chunk.
        capacity: Number of rows for which memory is reserved; more rows fit, too.
    """

    def __init__(self, types: Mapping[str, str], chunk: int, capacity: int) -> None:
        self.types, self.chunk = types, chunk
        self.first = 0  # number of rows that left the buffer
        self.arrays = self._allocated(capacity + chunk)
        self.spare: list[dict[str, Array]] = []

    def fill(self, start: int, columns: Mapping[str, Array]) -> None:
        """Copy columns into the arrays from a row on."""
        stop = start + len(next(iter(columns.values())))
        if stop > self.capacity:
            self.arrays = self._copied(0, start, self._allocated(max(stop, 2 * self.capacity)))
        for path, values in columns.items():
            self.arrays[path][start:stop] = values

    def take(self, count: int, whole: int) -> dict[str, Array]:
        """Return the arrays, of which ``count`` rows are filled, and keep a copy of the rows from ``whole`` on."""
        taken, capacity = self.arrays, self.capacity
        fresh = self.spare.pop() if self.spare else {}
        if not fresh or len(next(iter(fresh.values()))) < capacity:
            fresh = self._allocated(capacity)
        self.arrays = self._copied(whole, count, fresh)
        self.first += whole
        return taken

    @property
    def capacity(self) -> int:
        """Number of rows for which there is memory, whole chunks."""
        return len(next(iter(self.arrays.values())))

    def _copied(self, start: int, stop: int, arrays: dict[str, Array]) -> dict[str, Array]:
        for path, array in arrays.items():
            array[: stop - start] = self.arrays[path][start:stop]
        return arrays

    def _allocated(self, rows: int) -> dict[str, Array]:
        return {path: np.empty(-(-rows // self.chunk) * self.chunk, kind) for path, kind in self.types.items()}


class ShowerBuffer:
    """Showers that are not yet in the file.

    The arrays are filled in place. When a block is complete, its whole chunks leave the buffer, and the remaining rows
    stay. Everything depends only on the showers that were appended, in their order.

    Args:
        tables: Ragged tables of the file.
    """

    def __init__(self, tables: tuple[Table, ...]) -> None:
        self._tables = tables
        self._showers = _Rows({f"showers/{name}": kind for name, kind in SHOWER_TYPES.items()}, SHOWER_CHUNK, 1 << 14)
        self._offsets = {table.group: _Rows({table.offset: "i8"}, SHOWER_CHUNK, 1 << 14) for table in tables}
        self._rows = {
            table.group: _Rows(
                {f"{table.group}/{name}": kind for name, kind in table.types.items()},
                table.chunk,
                BLOCK_ROWS if table is not PRIMARIES else 1 << 14,
            )
            for table in tables
        }
        # One attribute contains all counts of rows, so that an exception leaves either all of them or none changed.
        self._filled: dict[_Rows, int] = dict.fromkeys((self._showers, *self._rows.values()), 0)
        for rows in self._offsets.values():
            rows.fill(0, dict.fromkeys(rows.types, np.zeros(1, np.int64)))
            self._filled[rows] = 1
        self._saved = self._blocks_since_save = 0
        self._begin_block()

    def _begin_block(self) -> None:
        self._block_start = {rows: self._total(rows) for rows in (self._showers, *self._rows.values())}

    def _total(self, rows: _Rows) -> int:
        return rows.first + self._filled[rows]

    @property
    def num_showers(self) -> int:
        """Number of showers that were appended."""
        return self._total(self._showers)

    @property
    def block_is_full(self) -> bool:
        """Whether the block must be taken before the next call of ``append``."""
        grown = {rows: self._total(rows) - start for rows, start in self._block_start.items()}
        return grown.pop(self._showers) >= BLOCK_SHOWERS or max(grown.values()) >= BLOCK_ROWS

    def fitting(self, showers: Showers) -> int:
        """Return how many showers complete the block.

        Args:
            showers: The next showers.

        Returns:
            Number of showers to append, at least 1 and at most all of them.
        """
        room = BLOCK_SHOWERS - (self.num_showers - self._block_start[self._showers])
        for table, rows in self._ragged(showers):
            buffered = self._rows[table.group]
            left = BLOCK_ROWS - (self._total(buffered) - self._block_start[buffered])
            room = min(room, 1 + int(np.searchsorted(rows.offset[1:], left)))
        return min(room, len(showers))

    def append(self, showers: Showers) -> None:
        """Copy showers into the buffer.

        Args:
            showers: Showers, of which at most ``fitting(showers)`` are allowed.
        """
        filled = dict(self._filled)

        def fill(rows: _Rows, columns: dict[str, Array]) -> None:
            rows.fill(filled[rows], columns)
            filled[rows] += len(next(iter(columns.values())))

        fill(self._showers, {f"showers/{name}": getattr(showers, name) for name in SHOWER_TYPES})
        for table, rows in self._ragged(showers):
            buffered = self._rows[table.group]
            fill(self._offsets[table.group], {table.offset: rows.offset[1:] + self._total(buffered)})
            fill(buffered, {f"{table.group}/{name}": rows[name] for name in table.types})
        self._filled = filled

    def _ragged(self, showers: Showers) -> Iterator[tuple[Table, Ragged]]:
        found = {HITS.group: showers.hits, PRIMARIES.group: showers.primaries, PARTICLES.group: showers.particles}
        for table in self._tables:
            rows = found[table.group]
            assert rows is not None
            yield table, rows

    def take(self, *, everything: bool = False) -> Block:
        """Take the whole chunks out of the buffer.

        Args:
            everything: Whether to take also copies of incomplete chunks, filled up with zeros.

        Returns:
            Block to write.
        """
        saved = self._saved_by_whole_chunks()
        self._blocks_since_save = 0 if saved > self._saved else self._blocks_since_save + 1
        if everything or self._blocks_since_save >= _MOST_UNSAVED_BLOCKS:
            everything, saved, self._blocks_since_save = True, self.num_showers, 0
        self._saved = saved
        pieces, arrays = [], []
        filled = dict(self._filled)
        for rows, count in self._filled.items():
            whole = count // rows.chunk * rows.chunk
            stop = -(-count // rows.chunk) * rows.chunk if everything else whole
            if stop == 0:
                continue
            first, taken = rows.first, rows.take(count, whole)
            filled[rows] = count - whole
            arrays.append((rows, taken))
            for path, array in taken.items():
                array[count:stop] = 0
                pieces.append(Piece(path, first, array[:stop], first + min(count, stop)))
        self._filled = filled
        self._begin_block()
        return Block(pieces, saved, arrays)

    def recycle(self, block: Block) -> None:
        """Reuse the memory of a block that was written. Another thread may call this function.

        Args:
            block: Block from ``take``.
        """
        for rows, arrays in block.arrays:
            rows.spare.append(arrays)

    def _saved_by_whole_chunks(self) -> int:
        """Return the number of showers whose rows are all in whole chunks, in the file or in the buffer."""

        def whole(rows: _Rows) -> int:
            return rows.first + self._filled[rows] // rows.chunk * rows.chunk

        saved = whole(self._showers)
        for table in self._tables:
            offsets, rows = self._offsets[table.group], self._rows[table.group]
            buffered = offsets.arrays[table.offset][: self._filled[offsets]]
            complete = int(np.searchsorted(buffered, whole(rows), side="right"))
            # If the last complete shower is before the buffered ones, it is not known which one it is.
            saved = min(saved, whole(offsets) - 1, offsets.first + complete - 1 if complete else self._saved)
        return max(saved, self._saved)


def as_stored(showers: Showers) -> Showers:
    """Return a copy of showers in the types of the file, which share no memory with the original.

    Args:
        showers: Showers.

    Returns:
        Showers of the same run.
    """

    def stored(rows: Ragged, table: Table) -> Ragged:
        return Ragged({name: np.array(rows[name], kind) for name, kind in table.types.items()}, rows.offset.copy())

    return replace(
        showers,
        index=showers.index.copy(),
        incident_energy=showers.incident_energy.copy(),
        leaked_energy=showers.leaked_energy.copy(),
        hits=stored(showers.hits, HITS),
        primaries=stored(showers.primaries, PRIMARIES),
        particles=stored(showers.particles, PARTICLES) if showers.particles is not None else None,
    )
