"""Opening and reading shower files."""

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

# The only heap of a shower file contains the strings of its attributes, which are written first.
_HEAP_BYTES = 1 << 20
_PIECE_SHOWERS = 1 << 14
_PIECE_ROWS = 1 << 20
_READ_AT_ONCE = 1 << 28  # number of bytes below which the available memory is not checked


def open_for_reading(path: Path) -> h5py.File:
    """Open a file.

    Args:
        path: Path of the file.

    Returns:
        The open file.

    Raises:
        FileNotFoundError: If the file does not exist.
        ValueError: If the file is not an HDF5 file, is damaged, or is being written.
    """
    with _opening(path):
        return h5py.File(path, "r")


@contextmanager
def open_unfinished(path: Path) -> Iterator[h5py.File]:
    """Open a file whose writer may have been killed.

    Args:
        path: Path of the file, which no process may be writing.

    Returns:
        Context manager that returns the open file.

    Raises:
        FileNotFoundError: If the file does not exist.
        ValueError: If the file is not an HDF5 file or is damaged.
    """
    with ExitStack() as stack:
        with _opening(path):
            content = stack.enter_context(AsFinished(path))
            file = stack.enter_context(h5py.File(content, "r"))
        yield file


@contextmanager
def _opening(path: Path) -> Iterator[None]:
    """Check a file before HDF5 opens it, and turn errors of HDF5 into clear messages."""
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
        raise ValueError(f"{name}: another process is writing it; wait until it has finished.") from None
    except OSError as error:
        if "open for write" in str(error):
            raise ValueError(f"{name}: it is unfinished; finish it first (supa generate --resume).") from None
        other = _format_of(path)
        if other == _PYTORCH:
            raise ValueError(f"{name}: it is not a shower file but {other}; give a file of showers.") from None
        if other:
            raise ValueError(
                f"{name}: it is not a shower file but {other}; convert it first: supa convert "
                f"{printable(path.name)} NAME.h5"
            ) from None
        raise ValueError(f"{name}: it is not an HDF5 file, or it is damaged or truncated ({_line(error)}).") from None
    except ValueError as error:
        raise ValueError(f"{name}: {_line(error)}.") from None


_PYTORCH = "a PyTorch file, such as a checkpoint"


def _format_of(path: Path) -> str | None:
    """Return a description of a file in another format, recognised by its first bytes, or None."""
    with path.open("rb") as file:
        start = file.read(200)
    if start.startswith(b"PK\x03\x04") and b"/data.pkl" in start:  # the name of the first member
        return _PYTORCH
    kinds = {b"PAR1": "a Parquet file", b"root": "a ROOT file", b"PK\x03\x04": "a zip archive such as npz"}
    return kinds.get(start[:4])


@contextmanager
def named_errors(path: Path) -> Iterator[None]:
    """Turn every error about the contents into a ValueError with one line that names the file."""
    name = printable(str(path))
    try:
        yield
    except (ValueError, MemoryError) as error:
        raise ValueError(f"{name}: {_line(error)}.") from None
    except (OSError, KeyError, TypeError, RuntimeError, ArithmeticError) as error:  # raised by h5py
        if "filter" in str(error):
            raise ValueError(
                f"{name}: it is damaged, or its compression is not installed: pip install "
                f"'supa-showers[compression]' ({_line(error)})."
            ) from None
        raise ValueError(f"{name}: it is damaged ({_line(error)}).") from None


def _line(error: Exception) -> str:
    return printable(str(error.args[0] if isinstance(error, KeyError) else error).rstrip("."))


def columns_of(file: h5py.File) -> dict[str, h5py.Dataset]:
    """Return all columns by path. The look-up by path takes longer than the read of a shower, so it is done once."""
    types = {
        f"{table.group}/{name}": kind
        for table in tables_of(stores_particles(file))
        for name, kind in table.types.items()
    }
    types |= {f"showers/{name}": kind for name, kind in SHOWER_TYPES.items()}
    return {path: dataset_at(file, path, kind) for path, kind in types.items()}


def read_showers(columns: dict[str, h5py.Dataset], run: Run, offsets: dict[str, Any], start: int, stop: int) -> Showers:
    """Read consecutive showers without checking their values.

    Args:
        columns: Columns of the file by path.
        run: Run of the showers.
        offsets: (showers + 1,) offsets of each table for these showers.
        start: Position of the first shower.
        stop: Position after the last shower.

    Returns:
        The showers.

    Raises:
        ValueError: If the showers do not fit into the memory.
    """
    tables = tables_of(PARTICLES.group in offsets)
    check_memory(sum(int(offsets[t.group][-1] - offsets[t.group][0]) * t.bytes_per_row for t in tables), start, stop)
    rows = {}
    for table in tables:
        offset = offsets[table.group]
        values = {name: columns[f"{table.group}/{name}"][offset[0] : offset[-1]] for name in table.types}
        rows[table.group] = Ragged(values, offset - offset[0])
    return assembled(run, {name: columns[f"showers/{name}"][start:stop] for name in SHOWER_TYPES}, rows)


def check_memory(needed: int, start: int, stop: int) -> None:
    """Raise an error if showers do not fit into the memory.

    Args:
        needed: Number of bytes of the showers.
        start: Position of the first shower.
        stop: Position after the last shower.

    Raises:
        ValueError: If less memory is available.
    """
    if needed > _READ_AT_ONCE and needed > available_bytes():
        raise ValueError(
            f"its showers {start} to {stop - 1} need {needed / 1e9:,.1f} GB of memory, more than is available; read "
            "fewer showers at a time (ShowerFile.chunks)"
        )


def assembled(run: Run, columns: dict[str, Any], tables: dict[str, Ragged]) -> Showers:
    """Build showers from columns that were read.

    Args:
        run: Run of the showers.
        columns: Columns of the table ``"showers"``.
        tables: Hits, primaries and, if recorded, particles.

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
    """Return showers after a check of their values.

    Args:
        showers: Showers that were read from a file.

    Returns:
        The same showers.

    Raises:
        ValueError: If a value is impossible for a shower.
    """
    # A check needs several times the memory of the checked values, so it is done in pieces.
    offsets = [t.offset for t in (showers.hits, showers.primaries, showers.particles) if t is not None]
    for start, stop in pieces(offsets):
        check_rows(showers[start:stop] if stop - start < len(showers) else showers)
    return showers


def pieces(offsets: Sequence[IntArray]) -> Iterator[tuple[int, int]]:
    """Divide showers into pieces that need little memory.

    Args:
        offsets: Offsets of each table, (showers + 1,) each.

    Returns:
        Iterator over (start, stop). A piece has at most 2**14 showers, and at most 2**20 rows unless it is one shower.
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
