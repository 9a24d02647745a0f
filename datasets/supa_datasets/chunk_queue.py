"""Chunks on their way from memory into the columns of a file, compressed and written in threads."""

from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import h5py
import numpy as np
from h5py._objects import phil

from supa_datasets.compression import Encode, chunk_encoder
from supa_datasets.shower_buffer import Piece

_PIECES_PER_THREAD = 8  # pieces that are compressed or wait to be written
_MOST_PENDING = 6  # calls whose work has not begun, so that the memory does not grow if the disk is slow


class ChunkQueue:
    """Write chunks in order, while the caller prepares the next ones.

    All calls of HDF5 run in one thread. Other threads compress.

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
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="supa-write")
        self._pending: deque[Future[None]] = deque()
        self._failed = False
        # Pieces, whose compressed chunks are futures, and numbers of showers.
        self._entries: deque[tuple[Piece, list[Any]] | int] = deque()

    def put(self, pieces: Iterable[Piece]) -> None:
        """Compress and write pieces in the background.

        Args:
            pieces: Pieces of columns. Their arrays must not change any more.

        Raises:
            OSError: If earlier pieces could not be written.
        """
        self._submit(self._put, list(pieces))

    def put_save(self, num_showers: int) -> None:
        """Call ``save`` after everything before it.

        Args:
            num_showers: Number of showers whose rows were put before.

        Raises:
            OSError: If earlier pieces could not be written.
        """
        self._submit(self._put_save, num_showers)

    def drain(self) -> None:
        """Write everything.

        Raises:
            OSError: If the file cannot be written.
        """
        self._submit(self._write, 0)
        self._await(0)

    def close(self) -> None:
        """End the threads. Everything whose write has not begun is dropped."""
        self._writer.shutdown(cancel_futures=True)
        self._threads.shutdown(cancel_futures=True)

    def _submit(self, work: Callable[[Any], None], argument: Any) -> None:
        self._pending.append(self._writer.submit(self._unless_failed, work, argument))
        self._await(_MOST_PENDING)

    def _await(self, most: int) -> None:
        """Wait for the oldest calls until at most a given number is left, and raise their errors."""
        while len(self._pending) > most:
            self._pending.popleft().result()

    # ------------------------------------------------------------------ in the thread that writes

    def _unless_failed(self, work: Callable[[Any], None], argument: Any) -> None:
        """Do nothing after an error, because a number of finished showers must not include a chunk that is missing."""
        if self._failed:
            return
        try:
            work(argument)
        except BaseException:
            self._failed = True
            raise

    def _put(self, pieces: list[Piece]) -> None:
        for piece in pieces:
            encode = self._encoders.get(piece.column)
            contents: list[Any] = piece.chunks
            if encode is not None:
                contents = [self._threads.submit(encode, chunk) for chunk in piece.chunks]
            self._entries.append((piece, contents))
            self._write(self._most)

    def _put_save(self, num_showers: int) -> None:
        self._entries.append(num_showers)
        self._write(self._most)

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
        start, size = piece.first, len(piece.chunks[0])
        for content in contents:
            write_chunk(column, start, content.result() if isinstance(content, Future) else content)
            start += size


def write_chunk(column: h5py.Dataset, first: int, chunk: Any) -> None:
    """Write a chunk past the filters of its column.

    HDF5 may only be used by one thread at a time. All functions of h5py hold a lock for this reason, but its
    ``write_direct_chunk`` does so only since version 3.16 (h5py pull request 2764).

    Args:
        column: Column of one dimension.
        first: Row with which the chunk begins.
        chunk: Bytes of the chunk, after the filters.
    """
    with phil:
        column.id.write_direct_chunk((first,), chunk)
