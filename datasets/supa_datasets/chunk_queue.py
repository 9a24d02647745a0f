"""Chunks on their way from memory into the columns of a file, compressed in threads."""

from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import h5py
import numpy as np

from supa_datasets.compression import Encode, chunk_encoder
from supa_datasets.shower_buffer import Piece

_PIECES_PER_THREAD = 8  # pieces that are compressed or wait to be written


class ChunkQueue:
    """Write chunks in order, while threads compress the next ones.

    HDF5 runs in the thread of the caller, and only stores the chunks. Uncompressed chunks are written at once.

    Args:
        columns: Columns of the file by path.
        threads: Number of threads that compress.
        save: Function that is called with a number of showers when everything before it has been written.
    """

    def __init__(self, columns: dict[str, h5py.Dataset], *, threads: int, save: Callable[[int], None]) -> None:
        self._columns, self._save = columns, save
        self._encoders: dict[str, Encode | None] = {
            path: chunk_encoder(column)
            for path, column in columns.items()
            if column.id.get_create_plist().get_nfilters()
        }
        self._most = _PIECES_PER_THREAD * threads if self._encoders else 0
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="supa-compress")
        # Pieces, whose compressed chunks are futures, and numbers of showers.
        self._entries: deque[tuple[Piece, list[Any]] | int] = deque()

    def put(self, pieces: Iterable[Piece]) -> None:
        """Start to compress pieces, and write what is ready.

        Args:
            pieces: Pieces of columns. Without compression, their memory may be used again after this call.

        Raises:
            OSError: If the file cannot be written.
        """
        for piece in pieces:
            encode = self._encoders.get(piece.column)
            contents: list[Any] = piece.chunks
            if encode is not None:
                contents = [self._threads.submit(encode, chunk) for chunk in piece.chunks]
            self._entries.append((piece, contents))
            self._write(self._most)

    def put_save(self, num_showers: int) -> None:
        """Call ``save`` after everything before it.

        Args:
            num_showers: Number of showers whose rows were put before.

        Raises:
            OSError: If the file cannot be written.
        """
        self._entries.append(num_showers)
        self._write(self._most)

    def drain(self) -> None:
        """Write everything.

        Raises:
            OSError: If the file cannot be written.
        """
        self._write(0)

    def close(self) -> None:
        """End the threads."""
        self._threads.shutdown()

    def _write(self, most: int) -> None:
        """Write the oldest entries until at most a given number is left."""
        while len(self._entries) > most:
            entry = self._entries.popleft()
            if isinstance(entry, int):
                self._save(entry)
            else:
                self._write_piece(*entry)

    def _write_piece(self, piece: Piece, contents: list[Any]) -> None:
        column = self._columns[piece.column]
        column.id.set_extent((piece.length,))
        if self._encoders.get(piece.column, True) is None:  # only HDF5 can compress this column
            column[piece.first :] = np.concatenate(piece.chunks)[: piece.length - piece.first]
            return
        write, start, size = column.id.write_direct_chunk, piece.first, len(piece.chunks[0])
        for content in contents:
            write((start,), content.result() if isinstance(content, Future) else content)
            start += size
