"""How shower files are opened and read, by readers and by a writer that resumes."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import h5py

from supa import Ragged, Run, Showers
from supa_datasets.heaps import check_heaps
from supa_datasets.layout import HITS, PARTICLES, PRIMARIES, SHOWER_TYPES, check_rows, tables_of

# The only heap of a shower file holds the strings of its attributes, which are written first.
_HEAP_BYTES = 1 << 20
_CHECKED_SHOWERS = 1 << 14


def open_for_reading(path: Path, *, unfinished: bool = False) -> h5py.File:
    """Open a file.

    Args:
        path: the file.
        unfinished: whether a writer may have died while it wrote the file.

    Returns:
        The open file.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no HDF5 file, damaged, or being written.
    """
    if not path.exists():
        raise FileNotFoundError(f"{path}: there is no such file.")
    if not path.is_file():
        raise ValueError(f"{path}: it is {'a folder' if path.is_dir() else 'no regular file'}, not a shower file.")
    try:
        check_heaps(path, first_bytes=_HEAP_BYTES)
    except ValueError as error:
        raise ValueError(f"{path}: {error}.") from None
    with suppress(ImportError):
        import hdf5plugin  # noqa: F401  (registers the filters of compressed files)
    try:
        return h5py.File(path, "r", swmr=True, libver="latest") if unfinished else h5py.File(path, "r")
    except BlockingIOError:
        raise ValueError(f"{path}: another process is writing it; wait for its end.") from None
    except OSError as error:
        if "open for write" in str(error):
            raise ValueError(f"{path}: it is unfinished; finish it first (supa generate --resume).") from None
        other = _format_of(path)
        if other:
            raise ValueError(
                f"{path}: it is no shower file but {other}; make one of it: supa convert {path.name} NAME.h5"
            ) from None
        raise ValueError(f"{path}: it is no HDF5 file, or is damaged or truncated ({error}).") from None


def _format_of(path: Path) -> str | None:
    """Tell a file of another format by its first bytes."""
    with path.open("rb") as file:
        start = file.read(4)
    return {b"PAR1": "a Parquet file", b"root": "a ROOT file", b"PK\x03\x04": "an archive such as npz"}.get(start)


@contextmanager
def named_errors(path: Path) -> Iterator[None]:
    """Turn every complaint about the contents into a ValueError that names the file."""
    try:
        yield
    except OSError as error:
        if "filter" in str(error):
            raise ValueError(
                f"{path}: it is compressed by a method that is not to be had here; pip install "
                f"'supa-showers[compression]' ({error})."
            ) from None
        raise ValueError(f"{path}: it is damaged ({error}).") from None
    except (ValueError, KeyError, TypeError, RuntimeError, ArithmeticError, MemoryError) as error:
        raise ValueError(f"{path}: {str(error).rstrip('.')}.") from None


def columns_of(file: h5py.File, recorded: bool) -> dict[str, h5py.Dataset]:
    """Look the columns up once: to find one by its path takes longer than to read a shower from it."""
    names = [f"{table.group}/{name}" for table in tables_of(recorded) for name in table.types]
    return {name: file[name] for name in [*names, *(f"showers/{name}" for name in SHOWER_TYPES)]}


def read_showers(columns: dict[str, h5py.Dataset], run: Run, offsets: dict[str, Any], start: int, stop: int) -> Showers:
    """Read neighbouring showers.

    Args:
        columns: the file's columns.
        run: what made the showers.
        offsets: offsets of each table for these showers, (showers + 1,).
        start: the first shower.
        stop: the shower behind the last one.

    Returns:
        The showers, checked.

    Raises:
        ValueError: a value cannot be that of a shower.
    """
    tables = {}
    for table in tables_of(PARTICLES.group in offsets):
        offset = offsets[table.group]
        rows = {name: columns[f"{table.group}/{name}"][offset[0] : offset[-1]] for name in table.types}
        tables[table.group] = Ragged(rows, offset - offset[0])
    return checked(run, {name: columns[f"showers/{name}"][start:stop] for name in SHOWER_TYPES}, tables)


def checked(run: Run, columns: dict[str, Any], tables: dict[str, Ragged]) -> Showers:
    """Put showers together that were read.

    Args:
        run: what made them.
        columns: the columns of ``"showers"``.
        tables: the hits, the primaries and, where recorded, the particles.

    Returns:
        The showers.

    Raises:
        ValueError: a value cannot be that of a shower.
    """
    showers = Showers(
        run=run,
        **columns,
        hits=tables[HITS.group],
        primaries=tables[PRIMARIES.group],
        particles=tables.get(PARTICLES.group),
    )
    # Piece by piece, since a check takes several times the memory of what it checks.
    for start in range(0, len(showers), _CHECKED_SHOWERS):
        check_rows(showers[start : start + _CHECKED_SHOWERS])
    return showers
