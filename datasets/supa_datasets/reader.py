"""How shower files are opened and read, by readers and by a writer that resumes."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from supa import Ragged, Run, Showers
from supa.arrays import IntArray
from supa.memory import available_bytes
from supa.texts import printable
from supa_datasets.hdf5_integrity import check_heaps
from supa_datasets.layout import HITS, PARTICLES, PRIMARIES, SHOWER_TYPES, dataset_at, stores_particles, tables_of
from supa_datasets.unfinished import AsFinished
from supa_datasets.validation import check_rows

# The only heap of a shower file holds the strings of its attributes, which are written first.
_HEAP_BYTES = 1 << 20
_PIECE_SHOWERS = 1 << 14
_PIECE_ROWS = 1 << 20
_READ_AT_ONCE = 1 << 28  # bytes for which it is not worth to ask how much memory there is


def open_for_reading(path: Path) -> h5py.File:
    """Open a file.

    Args:
        path: the file.

    Returns:
        The open file.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not an HDF5 file, damaged, or being written.
    """
    with _opening(path):
        return h5py.File(path, "r")


@contextmanager
def open_unfinished(path: Path) -> Iterator[h5py.File]:
    """Open a file whose writer may have died while it wrote the file.

    Args:
        path: the file, which no process is writing.

    Returns:
        A context that gives the open file.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not an HDF5 file, or damaged.
    """
    with ExitStack() as stack:
        with _opening(path):
            content = stack.enter_context(AsFinished(path))
            file = stack.enter_context(h5py.File(content, "r"))
        yield file


@contextmanager
def _opening(path: Path) -> Iterator[None]:
    """Check a file before HDF5 opens it, and explain why HDF5 cannot."""
    name = printable(str(path))
    if not path.exists():
        raise FileNotFoundError(f"{name}: there is no such file.")
    if not path.is_file():
        raise ValueError(f"{name}: it is {'a folder, not a shower file' if path.is_dir() else 'not a regular file'}.")
    with suppress(ImportError):
        import hdf5plugin  # noqa: F401  (registers the filters of compressed files)
    try:
        check_heaps(path, first_bytes=_HEAP_BYTES)
        yield
    except BlockingIOError:
        raise ValueError(f"{name}: another process is writing it; wait for its end.") from None
    except OSError as error:
        if "open for write" in str(error):
            raise ValueError(f"{name}: it is unfinished; finish it first (supa generate --resume).") from None
        other = _format_of(path)
        if other:
            raise ValueError(
                f"{name}: it is not a shower file but {other}; make one of it: supa convert "
                f"{printable(path.name)} NAME.h5"
            ) from None
        raise ValueError(f"{name}: it is not an HDF5 file, or is damaged or truncated ({_line(error)}).") from None
    except ValueError as error:
        raise ValueError(f"{name}: {_line(error)}.") from None


def _format_of(path: Path) -> str | None:
    """Recognise a file of another format by its first bytes."""
    with path.open("rb") as file:
        start = file.read(4)
    return {b"PAR1": "a Parquet file", b"root": "a ROOT file", b"PK\x03\x04": "an archive such as npz"}.get(start)


@contextmanager
def named_errors(path: Path) -> Iterator[None]:
    """Turn every complaint about the contents into a ValueError of one line that names the file."""
    name = printable(str(path))
    try:
        yield
    except (ValueError, MemoryError) as error:
        raise ValueError(f"{name}: {_line(error)}.") from None
    except (OSError, KeyError, TypeError, RuntimeError, ArithmeticError) as error:  # the HDF5 library's
        if "filter" in str(error):
            raise ValueError(
                f"{name}: it is damaged, or compressed by a method that is not installed: pip install "
                f"'supa-showers[compression]' ({_line(error)})."
            ) from None
        raise ValueError(f"{name}: it is damaged ({_line(error)}).") from None


def _line(error: Exception) -> str:
    return printable(str(error.args[0] if isinstance(error, KeyError) else error).rstrip("."))


def columns_of(file: h5py.File) -> dict[str, h5py.Dataset]:
    """Look the columns up once: to find one by its path takes longer than to read a shower from it."""
    types = {
        f"{table.group}/{name}": kind
        for table in tables_of(stores_particles(file))
        for name, kind in table.types.items()
    }
    types |= {f"showers/{name}": kind for name, kind in SHOWER_TYPES.items()}
    return {path: dataset_at(file, path, kind) for path, kind in types.items()}


def read_showers(columns: dict[str, h5py.Dataset], run: Run, offsets: dict[str, Any], start: int, stop: int) -> Showers:
    """Read neighbouring showers, without a look at their values.

    Args:
        columns: the file's columns.
        run: what made the showers.
        offsets: offsets of each table for these showers, (showers + 1,).
        start: the first shower.
        stop: the shower behind the last one.

    Returns:
        The showers.

    Raises:
        ValueError: the memory does not hold them.
    """
    tables = tables_of(PARTICLES.group in offsets)
    needed = sum(int(offsets[t.group][-1] - offsets[t.group][0]) * t.bytes_per_row for t in tables)
    if needed > _READ_AT_ONCE and needed > available_bytes():
        raise ValueError(
            f"its showers {start} to {stop - 1} need {needed / 1e9:,.1f} GB of memory, more than there is; read fewer "
            "at a time (ShowerFile.chunks)"
        )
    rows = {}
    for table in tables:
        offset = offsets[table.group]
        values = {name: columns[f"{table.group}/{name}"][offset[0] : offset[-1]] for name in table.types}
        rows[table.group] = Ragged(values, offset - offset[0])
    return assembled(run, {name: columns[f"showers/{name}"][start:stop] for name in SHOWER_TYPES}, rows)


def assembled(run: Run, columns: dict[str, Any], tables: dict[str, Ragged]) -> Showers:
    """Put showers together that were read.

    Args:
        run: what made them.
        columns: the columns of ``"showers"``.
        tables: the hits, the primaries and, where recorded, the particles.

    Returns:
        The showers.
    """
    return Showers(
        run=run,
        **columns,
        hits=tables[HITS.group],
        primaries=tables[PRIMARIES.group],
        particles=tables.get(PARTICLES.group),
    )


def checked(showers: Showers) -> Showers:
    """Check showers that were read.

    Args:
        showers: the showers.

    Returns:
        The same showers.

    Raises:
        ValueError: a value cannot be that of a shower.
    """
    # Piece by piece, since a check takes several times the memory of what it checks.
    offsets = [t.offset for t in (showers.hits, showers.primaries, showers.particles) if t is not None]
    for start, stop in pieces(offsets):
        check_rows(showers[start:stop] if stop - start < len(showers) else showers)
    return showers


def pieces(offsets: Sequence[IntArray]) -> Iterator[tuple[int, int]]:
    """Cut showers into pieces that take little memory.

    Args:
        offsets: offsets of their tables, each (showers + 1,).

    Returns:
        An iterator over (first shower, shower behind the last): at most 2**14 showers, and 2**20 rows if there are
        several.
    """
    if len(offsets[0]) - 1 <= _PIECE_SHOWERS and sum(int(offset[-1]) for offset in offsets) <= _PIECE_ROWS:
        yield 0, len(offsets[0]) - 1  # reading a single shower must be fast
        return
    rows = np.sum(offsets, axis=0)
    start = 0
    while start < len(rows) - 1:
        fitting = int(np.searchsorted(rows, rows[start] + _PIECE_ROWS, side="right")) - 1
        stop = max(start + 1, min(fitting, start + _PIECE_SHOWERS, len(rows) - 1))
        yield start, stop
        start = stop
