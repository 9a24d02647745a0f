"""ShowerWriter: shower files that appear whole or not at all, and that survive a kill. See ``docs/format.md``."""

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self

import h5py
import numpy as np

from supa import Ragged, Run, Showers
from supa.checks import counted, did_you_mean
from supa.file_lock import open_locked, open_locked_temporary, sync_to_disk
from supa_datasets.layout import (
    HITS,
    PARTICLES,
    PRIMARIES,
    PROGRESS,
    SHOWER_CHUNK,
    SHOWER_TYPES,
    Table,
    check_columns,
    check_format,
    dataset_at,
    read_progress,
    read_run,
    stores_particles,
    tables_of,
    write_run,
)
from supa_datasets.reader import (
    checked,
    columns_of,
    named_errors,
    open_for_reading,
    open_unfinished,
    pieces,
    read_showers,
)

Compression = Literal["none", "lz4", "zstd", "gzip"]
COMPRESSIONS: tuple[Compression, ...] = ("none", "lz4", "zstd", "gzip")

# A block is written at once. It ends with the first shower that fills one of these, so that the file's bytes depend on
# the showers alone, not on how they were handed over.
_BLOCK_HITS = 1 << 20
_BLOCK_PARTICLES = 1 << 22  # where they are recorded; there may be many of them and hardly a hit
_BLOCK_SHOWERS = 1 << 16

# Blocks are much larger than chunks, so a cache of chunks only takes memory, in each of some twenty columns.
_WRITE_CACHE_BYTES = 1 << 18


class ShowerWriter:
    """Writes a shower file that appears under its name only when it is whole.

    Until then the showers lie in ``NAME.partial``, which survives a kill; ``resume=True`` takes them over. As a context
    manager the writer finishes the file on success, and keeps the partial file on an exception. The bytes of the file
    depend on the showers, the run and the versions of the software alone: not on how the showers were handed over, nor
    on interruptions.

    Args:
        path: the file to make; its folder must exist.
        run: what makes the showers; its attempts are ignored.
        has_particles: whether every particle is written beside the hits.
        compression: ``"none"``, ``"gzip"``, or ``"lz4"`` or ``"zstd"`` (these two need the package hdf5plugin).
        overwrite: replace a finished or partial file of this name.
        resume: go on behind the showers of a partial file, or of a finished one, of the same run.
        seen: called with each piece of the showers that are taken over.

    Raises:
        FileExistsError: a finished or partial file is there, and neither overwrite nor resume was asked for.
        FileNotFoundError: the folder does not exist.
        ValueError: the file to resume is of another run or damaged, another process is writing it, the name is not that
            of a regular file, or the compression is not available.
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
        seen: Callable[[Showers], None] | None = None,
    ) -> None:
        if overwrite and resume:
            raise ValueError("overwrite and resume exclude each other; choose one.")
        filters = _filters(compression)
        self._names = _Names(path)
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
                _try_disk(self._lock)
                self._file = _create(self._names.fresh)
                self._lay_out(filters)
            if source is not None and stored is not None:
                self._take_over(source, stored.showers, seen)
            self._promote()
        except BaseException:
            self._abandon()
            self._names.fresh.unlink(missing_ok=True)
            raise

    # ------------------------------------------------------------------ life

    @property
    def num_showers(self) -> int:
        """Showers handed over so far, those that were taken over included."""
        return self._num_showers + self._pending_showers

    @property
    def next_attempt(self) -> int:
        """Index of the attempt behind the last shower: where a resumed run goes on."""
        return self._next_attempt

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if not self._file:
            return  # a failed write has closed it
        if kind is None:
            self.finish()
        else:
            self.suspend()

    def append(self, showers: Showers) -> None:
        """Write showers behind those that are there.

        Args:
            showers: the next showers, of the writer's run. They may be changed or reused afterwards.

        Raises:
            ValueError: they are of another run, do not follow those that are there, or have no recorded particles where
                the file has them.
            OSError: the disk does not take them; the file is closed, and the partial file keeps what came before.
        """
        difference = _difference(showers.run, self._run)
        if difference:
            raise ValueError(f"{self._names.path}: the showers are of another run ({difference}).")
        if self._has_particles and showers.particles is None:
            raise ValueError(f"{self._names.path}: the showers lack the recorded particles that the file has.")
        if showers.run.attempts is not None and self._run.seed is not None and len(showers):
            index = int(showers.index[0])
            if index < self._next_attempt or (self._run.keep == "all" and index != self._next_attempt):
                raise ValueError(f"{self._names.path}: shower {index} was given where {self._next_attempt} follows.")
        if self._attempts is not None:
            self._attempts = None if showers.run.attempts is None else self._attempts + showers.run.attempts
        if not self._has_particles:
            showers = replace(showers, particles=None)
        while len(showers):
            # The number of these showers with which the block is full.
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
        """Complete the file and give it its name."""
        self._write_block()
        if self._attempts is not None:
            with self._abandoned_on_failure():
                self._file.attrs.modify("attempts", np.int64(self._attempts))
                acceptance = self._num_showers / self._attempts if self._attempts else 1.0
                self._file.attrs.modify("acceptance", acceptance)
                self._file.flush()
        self._file.close()
        sync_to_disk(self._names.partial)
        self._names.partial.replace(self._names.path)
        sync_to_disk(self._names.path.parent)
        self._unlock()

    def suspend(self) -> None:
        """Write what was handed over and close; the partial file can be resumed."""
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
                kept = f"; {counted(self._num_showers, 'shower')} {are} kept in {self._names.partial.name}"
            raise OSError(f"{self._names.path}: the disk does not take the file ({reason}){kept}.") from None

    def _abandon(self) -> None:
        """Close the file as it lies on the disk."""
        if self._file:
            # HDF5 never closes a file that it cannot write, but tries again and again: let its last words go nowhere.
            nowhere = os.open(os.devnull, os.O_RDWR)
            os.dup2(nowhere, self._file.id.get_vfd_handle())
            os.close(nowhere)
            self._file.close()
        self._unlock()

    # ------------------------------------------------------------------ writing

    def _lay_out(self, filters: dict[str, Any]) -> None:
        write_run(self._file, self._run)
        for group in ("showers", *(table.group for table in self._tables)):
            h5py.h5g.create(self._file.id, group.encode(), gcpl=_without_times(h5py.h5p.GROUP_CREATE))
        for table in self._tables:
            for name, kind in table.types.items():
                self._new_column(f"{table.group}/{name}", kind, table.chunk, **filters)
            self._new_column(table.offset, "i8", SHOWER_CHUNK)
            _extend(self._columns[table.offset], np.zeros(1, "i8"))
        for name, kind in SHOWER_TYPES.items():
            self._new_column(f"showers/{name}", kind, SHOWER_CHUNK)
        self._columns[PROGRESS] = self._file.create_dataset(PROGRESS, (1,), "i8", data=np.zeros(1, "i8"))
        # From here on HDF5 orders its writes so that the file can be read whenever this process dies.
        self._file.swmr_mode = True

    def _new_column(self, name: str, kind: str, chunk: int, **filters: Any) -> None:
        column = self._file.create_dataset(
            name, (0,), kind, maxshape=(None,), chunks=(chunk,), rdcc_nbytes=_WRITE_CACHE_BYTES, **filters
        )
        # Kept open: a column that is closed writes what it still holds, where no error can be caught.
        self._columns[name] = column

    def _take_over(self, source: Path, count: int, seen: Callable[[Showers], None] | None) -> None:
        self._to_take_over = count
        with self._names.opened(source) as old, named_errors(source):
            columns, run = columns_of(old), replace(read_run(old), attempts=None)
            offsets = {table.group: dataset_at(old, table.offset, "i8")[: count + 1] for table in self._tables}
            for start, stop in pieces(list(offsets.values())):
                piece = {group: offset[start : stop + 1] for group, offset in offsets.items()}
                showers = checked(read_showers(columns, run, piece, start, stop))
                self.append(showers)
                if seen is not None:
                    seen(showers)
        self._attempts = self._next_attempt - self._run.first

    def _promote(self) -> None:
        """Let the new file be the partial one as soon as it holds no less than what it takes over."""
        if self._names.fresh.exists() and self._num_showers >= self._to_take_over:
            sync_to_disk(self._names.fresh)
            self._names.fresh.replace(self._names.partial)

    def _write_block(self) -> None:
        if not self._pending:
            return
        block = Showers.concatenate(self._pending)
        self._pending, self._pending_hits, self._pending_particles, self._pending_showers = [], 0, 0, 0
        tables = {HITS: block.hits, PRIMARIES: block.primaries, PARTICLES: block.particles}
        with self._abandoned_on_failure():
            for name in SHOWER_TYPES:
                _extend(self._columns[f"showers/{name}"], getattr(block, name))
            for table, rows in tables.items():
                if rows is None or table not in self._tables:
                    continue
                for name in table.types:
                    _extend(self._columns[f"{table.group}/{name}"], rows[name])
                offsets = self._columns[table.offset]
                _extend(offsets, rows.offset[1:] + offsets[-1])
            # The count follows the showers: what it counts is in the file.
            self._file.flush()
            self._columns[PROGRESS][0] = self._num_showers + len(block)
            self._file.flush()
        self._num_showers += len(block)
        self._promote()


class _Names:
    """The names under which a file is made: a fresh copy, the partial file, the finished file."""

    def __init__(self, path: str | PathLike[str]) -> None:
        # Through a link, so that the file and not the link is replaced.
        self.path = Path(os.path.realpath(path)) if Path(path).is_symlink() else Path(path)
        self.partial = self.path.with_name(self.path.name + ".partial")
        self.fresh = self.path.with_name(self.path.name + ".fresh")
        if not self.path.parent.is_dir():
            raise FileNotFoundError(f"{self.path}: the folder {self.path.parent} does not exist; make it first.")
        if self.path.exists() and not self.path.is_file():
            raise ValueError(f"{self.path}: it is no regular file, so no showers are written to it.")

    def opened(self, source: Path) -> AbstractContextManager[h5py.File]:
        """Open the partial or the finished file."""
        return open_unfinished(source) if source == self.partial else open_for_reading(source)

    def source(self, *, overwrite: bool, resume: bool) -> Path | None:
        """Give the file whose showers are taken over, None to begin anew."""
        if self.partial.exists():
            os.close(open_locked(self.partial))
        there = [path for path in (self.partial, self.path) if path.exists()]
        if not there or overwrite:
            return None
        if resume:
            return there[0]
        if there[0] == self.partial:
            raise FileExistsError(
                f"{self.path}: an unfinished run is in {self.partial.name}; resume it (--resume), or overwrite it "
                "(--overwrite)."
            )
        raise FileExistsError(
            f"{self.path} exists; choose another name, resume it (--resume), or overwrite it (--overwrite; in Python "
            "overwrite=True)."
        )


class ResumeInfo(NamedTuple):
    """What a resumed run finds."""

    showers: int
    """Number of showers that it takes over."""
    finished: bool
    """Whether they are those of a finished file."""


def resumable(path: str | PathLike[str], run: Run, *, has_particles: bool = False) -> ResumeInfo:
    """Tell what a ``ShowerWriter`` with ``resume=True`` would take over.

    Args:
        path: the file to make.
        run: what makes the showers.
        has_particles: whether every particle is written beside the hits.

    Returns:
        The number of showers, 0 if there is nothing to resume, and whether the file is finished.

    Raises:
        ValueError: what is there is of another run, a selection of one, or damaged.
    """
    names = _Names(path)
    source = names.source(overwrite=False, resume=True)
    if source is None:
        return ResumeInfo(0, False)
    with names.opened(source) as file, named_errors(source):
        check_format(file)
        if stores_particles(file) != has_particles:
            raise ValueError("it was recorded otherwise (hits or particles); give the same arguments again")
        check_columns(file, unfinished=source == names.partial)
        count = read_progress(file)
        stored = read_run(file)
        difference = _difference(stored, run)
        if not difference and stored.first != run.first:
            difference = f"first is {stored.first} there, {run.first} here"
        if difference:
            raise ValueError(f"it is of another run ({difference}); give the same arguments again")
        last = int(dataset_at(file, "showers/index", "i8")[count - 1]) + 1 - run.first if count else 0
        if (run.keep == "all" and last != count) or (source == names.path and stored.attempts != last):
            raise ValueError("it holds a selection of showers, not the beginning of a run")
    return ResumeInfo(count, source == names.path)


def _as_stored(showers: Showers) -> Showers:
    """Copy showers in the types of the file."""

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


def _create(path: Path) -> h5py.File:
    access = h5py.h5p.create(h5py.h5p.FILE_ACCESS)
    access.set_fclose_degree(h5py.h5f.CLOSE_STRONG)
    # Single-writer-multiple-reader mode, which makes an unfinished file readable, begins with the layout of HDF5 1.10.
    access.set_libver_bounds(h5py.h5f.LIBVER_V110, h5py.h5f.LIBVER_V110)
    # The lock is the writer's own: in that mode HDF5 would give its lock up.
    access.set_file_locking(False, True)
    creation = _without_times(h5py.h5p.FILE_CREATE)
    return h5py.File(h5py.h5f.create(os.fsencode(path), h5py.h5f.ACC_TRUNC, fcpl=creation, fapl=access))


def _without_times(kind: Any) -> Any:
    """Give properties of a new object that bear no time, so that the same showers make the same bytes."""
    properties = h5py.h5p.create(kind)
    properties.set_obj_track_times(False)
    return properties


def _extend(dataset: h5py.Dataset, values: Any) -> None:
    start = len(dataset)
    dataset.resize(start + len(values), axis=0)
    dataset[start:] = values


def _filters(compression: Compression) -> dict[str, Any]:
    if compression not in COMPRESSIONS:
        raise ValueError(
            f"compression: {compression!r} was given, but it must be one of {', '.join(COMPRESSIONS)}."
            f"{did_you_mean(compression, COMPRESSIONS)}"
        )
    if compression == "none":
        return {}
    if compression == "gzip":
        return {"compression": "gzip", "compression_opts": 4, "shuffle": True}
    try:
        import hdf5plugin
    except ImportError:
        raise ValueError(
            f"compression: {compression!r} needs the package hdf5plugin: pip install 'supa-showers[compression]'."
        ) from None
    return dict(hdf5plugin.Blosc2(cname=compression, clevel=5, filters=hdf5plugin.Blosc2.SHUFFLE))


def _difference(one: Run, other: Run) -> str:
    """Name the first thing in which two runs differ, whatever their first attempts; empty if there is none."""
    for name in ("seed", "engine", "keep"):
        if getattr(one, name) != getattr(other, name):
            return f"{name} is {getattr(one, name)!r} there, {getattr(other, name)!r} here"
    if one.config == other.config:
        return ""
    before, after = one.config.to_dict(), other.config.to_dict()
    name = next(name for name in before if before[name] != after[name])
    return f"{name} is {before[name]!r} there, {after[name]!r} here"


def _try_disk(descriptor: int) -> None:
    """Write a megabyte and take it back: HDF5 crashes where not even its first kilobytes can be written."""
    with os.fdopen(os.dup(descriptor), "wb") as file:
        file.write(bytes(1 << 20))
    os.ftruncate(descriptor, 0)
