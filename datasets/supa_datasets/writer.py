"""Writing shower files atomically and resuming interrupted runs. See ``docs/reference/file_format.md``."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import Any, Self

import h5py
import numpy as np

from supa import Ragged, Run, Showers
from supa.atomic_file import promote
from supa.checks import counted
from supa.file_lock import open_locked_temporary
from supa_datasets.hdf5_create import Compression, append_rows, compression_filters, create_columns, create_file
from supa_datasets.layout import (
    HITS,
    PARTICLES,
    PRIMARIES,
    PROGRESS,
    SHOWER_TYPES,
    Table,
    dataset_at,
    read_run,
    tables_of,
)
from supa_datasets.reader import checked, columns_of, named_errors, pieces, read_showers
from supa_datasets.resume import OutputNames, describe_difference, resumable

# A block is written at once. It ends with the first shower that reaches one of these limits. The bytes of the file
# therefore do not depend on how the showers were divided between calls of ``append``.
_BLOCK_HITS = 1 << 20
_BLOCK_PARTICLES = 1 << 22  # showers may have many recorded particles and few hits
_BLOCK_SHOWERS = 1 << 16


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
        overwrite: Whether to replace an existing finished or partial file.
        resume: Whether to continue after the showers of an existing finished or partial file of the same run.
        on_existing: Function that is called with each piece of the reused showers.

    Raises:
        FileExistsError: If a finished or partial file exists, and ``overwrite`` and ``resume`` are False.
        FileNotFoundError: If the folder does not exist.
        ValueError: If the file to resume belongs to another run or is damaged, another process is writing it, the path
            is not that of a regular file, or the compression is not available.

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
        overwrite: bool = False,
        resume: bool = False,
        on_existing: Callable[[Showers], None] | None = None,
    ) -> None:
        if overwrite and resume:
            raise ValueError("overwrite and resume are mutually exclusive; choose one.")
        filters = compression_filters(compression)
        self._names = OutputNames(path)
        self._run = run
        self._has_particles = has_particles
        self._tables = tables_of(has_particles)
        self._pending: list[Showers] = []
        self._pending_hits = self._pending_particles = self._pending_showers = 0
        self._num_showers = self._to_take_over = 0
        self._attempts: int | None = 0
        self._next_attempt = run.first
        self._lock: int | None = open_locked_temporary(self._names.fresh, called=self._names.path)
        self._file: Any = None
        self._columns: dict[str, h5py.Dataset] = {}
        try:
            source = self._names.source(overwrite=overwrite, resume=resume)
            stored = resumable(path, run, has_particles=has_particles) if source else None
            with self._abandoned_on_failure():
                self._file = create_file(self._names.fresh, self._lock)
                self._columns = create_columns(self._file, run, has_particles=has_particles, filters=filters)
            if source is not None and stored is not None:
                self._take_over(source, stored.showers, on_existing)
            self._promote()
        except BaseException:
            self._abandon()
            self._names.fresh.unlink(missing_ok=True)
            raise

    # ------------------------------------------------------------------ life

    @property
    def num_showers(self) -> int:
        """Number of showers appended so far, including the reused ones."""
        return self._num_showers + self._pending_showers

    @property
    def next_attempt(self) -> int:
        """Index of the attempt after the last shower, at which a resumed run continues."""
        return self._next_attempt

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if not self._file:
            return  # a failed write has closed the file
        if kind is None:
            self.finish()
        else:
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
        while len(showers):
            # Number of showers that fill the block.
            room = _BLOCK_SHOWERS - self._pending_showers
            fill = min(room, 1 + int(np.searchsorted(showers.offset[1:], _BLOCK_HITS - self._pending_hits)))
            if showers.particles is not None:
                left = _BLOCK_PARTICLES - self._pending_particles
                fill = min(fill, 1 + int(np.searchsorted(showers.particles.offset[1:], left)))
            head, showers = showers[:fill], showers[fill:]
            self._pending.append(_as_stored(head))
            self._pending_hits += head.hits.num_rows
            self._pending_particles += head.particles.num_rows if head.particles is not None else 0
            self._pending_showers += len(head)
            self._next_attempt = int(head.index[-1]) + 1
            if (
                self._pending_hits >= _BLOCK_HITS
                or self._pending_particles >= _BLOCK_PARTICLES
                or self._pending_showers >= _BLOCK_SHOWERS
            ):
                self._write_block()

    def finish(self) -> None:
        """Complete the file and rename it from its temporary name to its final name.

        Raises:
            OSError: If the disk is full or fails. The partial file keeps the earlier showers.
        """
        self._write_block()
        if self._attempts is not None:
            with self._abandoned_on_failure():
                self._file.attrs.modify("attempts", np.int64(self._attempts))
                acceptance = self._num_showers / self._attempts if self._attempts else 1.0
                self._file.attrs.modify("acceptance", acceptance)
                self._file.flush()
        self._file.close()
        promote(self._names.partial, self._names.path)
        self._unlock()

    def suspend(self) -> None:
        """Write the appended showers and close the partial file, which can be resumed.

        Raises:
            OSError: If the disk is full or fails. The partial file keeps the earlier showers.
        """
        self._write_block()
        self._file.close()
        self._unlock()

    def _unlock(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    @contextmanager
    def _abandoned_on_failure(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self._abandon()
            reason = os.strerror(error.errno) if error.errno else str(error).splitlines()[0]
            kept = ""
            if self._num_showers:
                are = "is" if self._num_showers == 1 else "are"
                kept = f"; {counted(self._num_showers, 'shower')} {are} saved in {self._names.partial.name}"
            raise OSError(f"{self._names.path}: the file cannot be written ({reason}){kept}.") from None

    def _abandon(self) -> None:
        """Close the file without writing pending data."""
        if self._file:
            # HDF5 retries forever to close a file that it cannot write, so its last writes go to the null device.
            nowhere = os.open(os.devnull, os.O_RDWR)
            os.dup2(nowhere, self._file.id.get_vfd_handle())
            os.close(nowhere)
            self._file.close()
        self._unlock()

    # ------------------------------------------------------------------ writing

    def _take_over(self, source: Path, count: int, on_existing: Callable[[Showers], None] | None) -> None:
        self._to_take_over = count
        with self._names.opened(source) as old, named_errors(source):
            columns, run = columns_of(old), replace(read_run(old), attempts=None)
            offsets = {table.group: dataset_at(old, table.offset, "i8")[: count + 1] for table in self._tables}
            for start, stop in pieces(list(offsets.values())):
                piece = {group: offset[start : stop + 1] for group, offset in offsets.items()}
                showers = checked(read_showers(columns, run, piece, start, stop))
                self.append(showers)
                if on_existing is not None:
                    on_existing(showers)
        self._attempts = self._next_attempt - self._run.first

    def _promote(self) -> None:
        """Replace the partial file by the fresh one as soon as the fresh one contains all reused showers."""
        if self._names.fresh.exists() and self._num_showers >= self._to_take_over:
            promote(self._names.fresh, self._names.partial)

    def _write_block(self) -> None:
        if not self._pending:
            return
        block = Showers.concatenate(self._pending)
        self._pending, self._pending_hits, self._pending_particles, self._pending_showers = [], 0, 0, 0
        tables = {HITS: block.hits, PRIMARIES: block.primaries, PARTICLES: block.particles}
        with self._abandoned_on_failure():
            for name in SHOWER_TYPES:
                append_rows(self._columns[f"showers/{name}"], getattr(block, name))
            for table, rows in tables.items():
                if rows is None or table not in self._tables:
                    continue
                for name in table.types:
                    append_rows(self._columns[f"{table.group}/{name}"], rows[name])
                offsets = self._columns[table.offset]
                append_rows(offsets, rows.offset[1:] + offsets[-1])
            # The count is written after the showers, so it never exceeds the showers in the file.
            self._file.flush()
            self._columns[PROGRESS][0] = self._num_showers + len(block)
            self._file.flush()
        self._num_showers += len(block)
        self._promote()


def _as_stored(showers: Showers) -> Showers:
    """Return a copy of the showers in the types of the file."""

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
