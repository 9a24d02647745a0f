"""Writing shower files atomically and resuming interrupted runs. See ``docs/reference/file_format.md``."""

import os
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import Any, Self

import h5py
import numpy as np

from supa import Run, Showers
from supa.arrays import FloatArray
from supa.atomic_file import promote
from supa.checks import check_int, counted
from supa.file_lock import open_locked_temporary
from supa.simulation_plan import MAX_THREADS, available_processors
from supa_datasets.chunk_queue import ChunkQueue, write_chunk
from supa_datasets.compression import Compression, compression_filters
from supa_datasets.hdf5_create import create_columns, create_file
from supa_datasets.layout import PROGRESS, SHOWER_CHUNK, SHOWER_TYPES, dataset_at, read_run, tables_of
from supa_datasets.reader import checked, columns_of, named_errors, pieces, read_showers
from supa_datasets.resume import OutputNames, describe_difference, resumable
from supa_datasets.shower_buffer import ShowerBuffer

_SAVE_BATCHES = 8  # batches after which the number of finished showers is written
_SYNC_SAVES = 4  # of these, after which the disk begins to store the file, so that little is left for the end

# Numbers written in a row without a new finished shower, after which incomplete chunks are written as well. They are
# written again when they are complete, so this is only done for large showers, of which a kill would lose many.
_MOST_FRUITLESS_SAVES = 4


class ShowerWriter:
    """Write a shower file piece by piece.

    The file appears under its name only when it is complete. Until then, the showers are stored in ``NAME.partial``,
    which remains readable if the process is killed. A later writer with ``resume=True`` reuses them. As a context
    manager, the writer finishes the file on success and keeps the partial file after an exception. The bytes of the
    file depend only on the showers, the run and the versions of the software. They do not depend on interruptions or
    on how the showers were divided between calls of `append`.

    Args:
        path: Path of the file to create; its folder must exist.
        run: Config, seed and other settings of the run, as in ``showers.run``; its attempts are ignored.
        has_particles: Whether the particles of the shower trees are written in addition to the hits.
        compression: One of ``COMPRESSIONS``: ``"none"``, ``"gzip"``, ``"lz4"`` or ``"zstd"``. The last two need the
            package hdf5plugin.
        threads: Number of threads that compress. By default one for each processor that this process may use.
        overwrite: Whether to replace an existing finished or partial file.
        resume: Whether to continue after the showers of an existing finished or partial file of the same run.
        on_existing: Function that is called with each piece of the reused showers.
        weight: (showers,) weights of all showers of the file, for a sample that was refined with weights.

    Raises:
        FileExistsError: If a finished or partial file exists, and ``overwrite`` and ``resume`` are False.
        FileNotFoundError: If the folder does not exist.
        ValueError: If the file to resume belongs to another run or is damaged, another process is writing it, the path
            is not that of a regular file, the compression is not available, or the number of threads is not allowed.

    Example:
        >>> import supa
        >>> from supa_datasets import ShowerWriter, load
        >>> run = supa.simulate(1, "standard", seed=1).run
        >>> with ShowerWriter("showers.h5", run) as writer:
        ...     for first in range(0, 300, 100):
        ...         writer.append(supa.simulate(100, "standard", seed=1, first=first))
        >>> load("showers.h5")
        <Showers: 300 of standard at 65.0 GeV, seed 1; 20,274 hits, 67.6 per shower>
    """

    def __init__(
        self,
        path: str | PathLike[str],
        run: Run,
        *,
        has_particles: bool = False,
        compression: Compression = "none",
        threads: int | None = None,
        overwrite: bool = False,
        resume: bool = False,
        on_existing: Callable[[Showers], None] | None = None,
        weight: FloatArray | None = None,
    ) -> None:
        if overwrite and resume:
            raise ValueError("overwrite and resume are mutually exclusive; choose one.")
        filters = compression_filters(compression)
        threads = check_int(1, MAX_THREADS, "threads", available_processors() if threads is None else threads)
        self._names = OutputNames(path)
        self._run = run
        self._num_weights = None if weight is None else len(weight)
        self._has_particles = has_particles
        self._tables = tables_of(has_particles)
        self._buffer = ShowerBuffer(self._tables)
        self._appending = False
        self._to_take_over = 0
        self._attempts: int | None = 0
        self._next_attempt = run.first
        self._syncer = ThreadPoolExecutor(1, thread_name_prefix="supa-sync")
        self._sync: Future[None] | None = None
        self._batches = self._saves = self._fruitless_saves = 0
        self._num_queued = self._num_saved = 0  # finished showers: in the queue and in the file
        self._lock: int | None = open_locked_temporary(self._names.fresh, called=self._names.path)
        self._file: Any = None
        self._columns: dict[str, h5py.Dataset] = {}
        self._queue: ChunkQueue | None = None
        try:
            source = self._names.source(overwrite=overwrite, resume=resume)
            stored = resumable(path, run, has_particles=has_particles) if source else None
            with self._closed_on_failure():
                self._file = create_file(self._names.fresh, self._lock, aligned=not filters)
                self._columns = create_columns(
                    self._file, run, has_particles=has_particles, filters=filters, weight=weight
                )
            self._queue = ChunkQueue(self._columns, threads=threads, save=self._save)
            self._to_take_over = stored.showers if stored is not None else 0
            self._write_rest()  # the first offset, without which the file is not readable
            if source is not None and stored is not None:
                self._take_over(source, stored.showers, on_existing)
        except BaseException:
            self._close()
            self._names.fresh.unlink(missing_ok=True)
            raise

    # ------------------------------------------------------------------ life

    @property
    def num_showers(self) -> int:
        """Number of showers appended so far, including the reused ones."""
        return self._buffer.num_showers

    @property
    def next_attempt(self) -> int:
        """Index of the attempt after the last shower, at which a resumed run continues."""
        return self._next_attempt

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._file and kind is None:
            self.finish()
        elif self._file:
            self.suspend()

    def append(self, showers: Showers) -> None:
        """Append showers to the file.

        Args:
            showers: The next showers of the run. The arrays are copied and may be changed afterwards.

        Raises:
            ValueError: If the showers belong to another run, do not follow the previous ones, or lack the recorded
                particles that the file requires.
            OSError: If the disk is full or fails. The file is closed, and the partial file keeps the earlier showers.
        """
        self._check_open()
        difference = describe_difference(showers.run, self._run)
        if difference:
            raise ValueError(f"{self._names.path}: the showers belong to another run ({difference}).")
        if self._has_particles and showers.particles is None:
            raise ValueError(f"{self._names.path}: the showers lack the recorded particles that the file requires.")
        if showers.run.attempts is not None and self._run.seed is not None and len(showers):
            index = int(showers.index[0])
            if index < self._next_attempt or (self._run.keep == "all" and index != self._next_attempt):
                raise ValueError(f"{self._names.path}: got shower {index}, but the next one is {self._next_attempt}.")
        if self._attempts is not None:
            self._attempts = None if showers.run.attempts is None else self._attempts + showers.run.attempts
        if not self._has_particles:
            showers = replace(showers, particles=None)
        start = 0
        self._appending = True
        while start < len(showers):
            if self._buffer.batch_is_complete:
                self._write_batch()
            start = self._buffer.append(showers, start)
        self._appending = False
        if len(showers):
            self._next_attempt = int(showers.index[-1]) + 1

    def finish(self) -> None:
        """Complete the file and rename it from its temporary name to its final name.

        Raises:
            OSError: If the disk is full or fails. The partial file keeps the earlier showers.
        """
        self._check_open()
        self._write_rest()
        if self._num_weights not in (None, self.num_showers):
            self._close()
            raise ValueError(
                f"{self._names.path}: {self._num_weights:,} weights were given for "
                f"{counted(self.num_showers, 'shower')}."
            )
        with self._closed_on_failure():
            if self._sync is not None:
                self._sync.result()
            if self._attempts is not None:
                self._file.attrs.modify("attempts", np.int64(self._attempts))
                acceptance = self.num_showers / self._attempts if self._attempts else 1.0
                self._file.attrs.modify("acceptance", acceptance)
                self._file.flush()
        self._file.close()
        promote(self._names.partial, self._names.path)
        self._end_threads()
        self._unlock()

    def suspend(self) -> None:
        """Write the appended showers and close the partial file, which can be resumed.

        Raises:
            OSError: If the disk is full or fails. The partial file keeps the earlier showers.
        """
        if not self._appending:  # otherwise the showers in the buffer are incomplete
            self._check_open()
            self._write_rest()
        self._file.close()
        self._end_threads()
        self._unlock()

    def _check_open(self) -> None:
        if not self._file or self._appending:
            reason = "an interruption left showers incomplete" if self._file else "it was closed"
            raise ValueError(f"{self._names.path}: nothing can be written, because {reason}; resume the file.")

    def _end_threads(self) -> None:
        assert self._queue is not None
        self._queue.close()
        self._syncer.shutdown()

    def _unlock(self) -> None:
        if self._sync is not None:
            wait([self._sync])  # it uses the descriptor
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    @contextmanager
    def _closed_on_failure(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self._close(writable=False)
            reason = os.strerror(error.errno) if error.errno else str(error).splitlines()[0]
            kept = ""
            if self._num_saved:
                are = "is" if self._num_saved == 1 else "are"
                kept = f"; {counted(self._num_saved, 'shower')} {are} saved in {self._names.partial.name}"
            raise OSError(f"{self._names.path}: the file cannot be written ({reason}){kept}.") from None
        except BaseException:
            self._close()
            raise

    def _close(self, *, writable: bool = True) -> None:
        """Close the file without the showers that are not yet in it."""
        file, self._file = self._file, None
        if self._queue is not None:
            self._queue.close()  # its threads use the file
        if file and not writable:
            # HDF5 retries forever to close a file that it cannot write, so its last writes go to the null device.
            nowhere = os.open(os.devnull, os.O_RDWR)
            os.dup2(nowhere, file.id.get_vfd_handle())
            os.close(nowhere)
            if self._columns:
                # A chunk whose write failed has a place beyond the end of the file. HDF5 would extend the file to it,
                # which the null device does not allow. After the write of a last chunk, the end is where it should be.
                column = self._columns[f"showers/{next(iter(SHOWER_TYPES))}"]
                end = -(-len(column) // SHOWER_CHUNK) * SHOWER_CHUNK
                column.id.set_extent((end + 1,))
                write_chunk(column, end, np.zeros(SHOWER_CHUNK, column.dtype))
        if file:
            file.close()
        self._unlock()

    # ------------------------------------------------------------------ writing

    def _take_over(self, source: Path, count: int, on_existing: Callable[[Showers], None] | None) -> None:
        with self._names.opened(source) as old:
            with named_errors(source):
                columns, run = columns_of(old), replace(read_run(old), attempts=None)
                offsets = {table.group: dataset_at(old, table.offset, "i8")[: count + 1] for table in self._tables}
            for start, stop in pieces(list(offsets.values())):
                with named_errors(source):
                    piece = {group: offset[start : stop + 1] for group, offset in offsets.items()}
                    showers = checked(read_showers(columns, run, piece, start, stop))
                self.append(showers)
                if on_existing is not None:
                    on_existing(showers)
        self._attempts = self._next_attempt - self._run.first

    def _promote(self) -> None:
        """Replace the partial file by the fresh one as soon as the fresh one contains all reused showers."""
        if self._names.fresh.exists() and self._num_saved >= self._to_take_over:
            promote(self._names.fresh, self._names.partial)

    def _write_batch(self) -> None:
        """Write the complete chunks of a batch, and sometimes the number of showers that they finish."""
        with self._closed_on_failure():
            assert self._queue is not None
            self._queue.put(self._buffer.take())
            self._batches += 1
            if self._batches % _SAVE_BATCHES == 0:
                finished = max(self._buffer.num_in_complete_chunks(), self._num_queued)
                self._fruitless_saves = 0 if finished > self._num_queued else self._fruitless_saves + 1
                if self._fruitless_saves >= _MOST_FRUITLESS_SAVES:
                    finished = self.num_showers
                    self._fruitless_saves = 0
                    self._queue.put(self._buffer.incomplete())
                self._num_queued = finished
                self._queue.put_save(finished)

    def _write_rest(self) -> None:
        """Write everything that was appended."""
        with self._closed_on_failure():
            assert self._queue is not None
            self._queue.put(self._buffer.take())
            self._queue.put(self._buffer.incomplete())
            self._queue.put_save(self.num_showers)
            self._queue.drain()

    def _save(self, num_showers: int) -> None:
        """Write the number of finished showers after their rows, so that it never exceeds the showers in the file."""
        self._file.flush()
        self._columns[PROGRESS][0] = num_showers
        self._file.flush()
        self._num_saved = num_showers
        self._promote()
        self._saves += 1
        # The disk stores what was written so far, unless it is still busy with earlier batches.
        if self._saves % _SYNC_SAVES == 0 and (self._sync is None or self._sync.done()):
            if self._sync is not None:
                self._sync.result()  # raises its error
            self._sync = self._syncer.submit(os.fsync, self._lock)  # type: ignore[arg-type]
