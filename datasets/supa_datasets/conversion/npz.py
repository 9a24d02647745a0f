"""NumPy archives (``.npz``): one uncompressed array per column, such as ``hits_x``, and offsets (``hits_offset``)."""

import io
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from supa import Ragged, Showers
from supa.checks import counted
from supa.ragged import check_offset
from supa_datasets.conversion.formats import Choices, Format, Source
from supa_datasets.conversion.run_json import RUN, run_to_text
from supa_datasets.conversion.tables import TABLES, assembled, columns_in, named, run_of, stored
from supa_datasets.conversion.untrusted_input import check_memory, spans
from supa_datasets.layout import HITS, SHOWER_TYPES, tables_of

_TABLES = {table.group for table in TABLES}
_COPIED_BYTES = 1 << 20
_MAX_TEXT_BYTES = 1 << 20


@dataclass
class _Column:
    """A column of the archive, which is read sequentially."""

    stream: Any
    dtype: np.dtype[Any]
    length: int

    def take(self, rows: int) -> Any:
        """Read the next rows."""
        content = self.stream.read(rows * self.dtype.itemsize)
        if len(content) != rows * self.dtype.itemsize:
            raise ValueError("it is truncated")
        return np.frombuffer(content, self.dtype)


@contextmanager
def _read(path: Path, choices: Choices) -> Iterator[Source]:
    with ExitStack() as stack:
        archive = stack.enter_context(zipfile.ZipFile(path))
        members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}

        def column(own: str, rows: int | None = None) -> _Column:
            if own not in members:
                raise ValueError(f"the array {own!r} is missing")
            opened = _opened(own, stack.enter_context(archive.open(members[own])), members[own].file_size)
            if rows not in (None, opened.length):
                raise ValueError(f"the array {own!r} has {counted(opened.length, 'row')}, but it needs {rows}")
            return opened

        def offset(own: str, rows: int | None) -> Any:
            found = column(own, rows)
            check_memory(found.length * found.dtype.itemsize, f"the array {own!r}")
            return check_offset(f"the array {own!r}", found.take(found.length))

        text = _text(archive, members)
        found = named(members)
        unfit = {name: str(_header(archive.open(members[name]))[1]) for name in _TABLES & found.keys()}
        chosen = columns_in(found, told=text is not None, unfit=unfit)
        offsets: dict[str, Any] = {}
        for table in chosen.tables:
            rows = len(offsets[HITS.group]) if offsets else None
            offsets[table] = offset(found.get(f"{table}/offset", f"{table}_offset"), rows)
        total = len(offsets[HITS.group]) - 1
        plain = {name: column(own, total) for name, own in chosen.plain.items()}
        tables = {
            table: {name: column(own, int(offsets[table][-1])) for name, own in inside.items()}
            for table, inside in chosen.tables.items()
        }
        run, told = run_of(text, choices, total)

        def chunk(start: int, stop: int) -> Showers:
            rows = {table: int(offset[stop] - offset[start]) for table, offset in offsets.items()}
            nbytes = sum(rows[table] * one.dtype.itemsize for table in tables for one in tables[table].values())
            check_memory(nbytes, f"showers {start} to {stop - 1}")
            parts = {
                table: Ragged(
                    {name: one.take(rows[table]) for name, one in columns.items()},
                    offsets[table][start : stop + 1] - offsets[table][start],
                )
                for table, columns in tables.items()
            }
            return assembled(run, told, {name: one.take(stop - start) for name, one in plain.items()}, parts, start)

        yield Source(
            run,
            total,
            told and "particles" in offsets,
            (chunk(a, b) for a, b in spans(total, int(offsets[HITS.group][-1]))),
        )


def _header(stream: Any) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Return shape and dtype from the header of an array."""
    version = np.lib.format.read_magic(stream)
    header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = header(stream)
    return shape, dtype


def _opened(name: str, stream: Any, size: int) -> _Column:
    """Return a column after checking that it is one-dimensional and complete."""
    shape, dtype = _header(stream)
    if len(shape) != 1 or dtype.kind not in "fiu":
        raise ValueError(f"the array {name!r} must be one-dimensional numbers, got {dtype} {shape}")
    if stream.tell() + shape[0] * dtype.itemsize != size:
        raise ValueError(f"the array {name!r} claims {counted(shape[0], 'row')}, but the file does not contain them")
    return _Column(stream, dtype, shape[0])


def _text(archive: zipfile.ZipFile, members: Mapping[str, zipfile.ZipInfo]) -> str | None:
    if RUN not in members:
        return None
    if members[RUN].file_size > _MAX_TEXT_BYTES:
        raise ValueError(f"its {RUN} is too long")
    text = np.lib.format.read_array(io.BytesIO(archive.read(members[RUN])), allow_pickle=False)
    if text.shape != () or text.dtype.kind != "U":
        raise ValueError(f"its {RUN} is not a string")
    return str(text)


def _write(path: Path, source: Source, _choices: Choices) -> None:
    """Write the archive. It is written array by array, so the columns are first collected in unnamed files."""
    dtypes = {name: np.dtype(kind) for name, kind in SHOWER_TYPES.items()}
    for table in tables_of(source.has_particles):
        dtypes |= {f"{table.group}_{name}": np.dtype(kind) for name, kind in table.types.items()}
        dtypes[f"{table.group}_offset"] = np.dtype("i8")
    with ExitStack() as stack:
        waiting = {name: stack.enter_context(tempfile.TemporaryFile(dir=path.parent)) for name in dtypes}
        last = {f"{table.group}_offset": 0 for table in tables_of(source.has_particles)}
        for name in last:
            waiting[name].write(np.zeros(1, "i8").tobytes())
        for chunk in source.chunks:
            for name, values in _arrays(stored(chunk)).items():
                if name in last:
                    values = values[1:] + last[name]
                    last[name] = int(values[-1]) if len(values) else last[name]
                waiting[name].write(np.ascontiguousarray(values, dtypes[name]).tobytes())
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in waiting.items():
                with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as member:
                    _copy(content, dtypes[name], member)
            text = io.BytesIO()
            np.lib.format.write_array(text, np.array(run_to_text(source.run)), allow_pickle=False)
            archive.writestr(zipfile.ZipInfo(f"{RUN}.npy"), text.getvalue())


def _arrays(showers: Showers) -> dict[str, Any]:
    tables = {"hits": showers.hits, "primaries": showers.primaries, "particles": showers.particles}
    arrays: dict[str, Any] = {name: getattr(showers, name) for name in SHOWER_TYPES}
    for table, rows in tables.items():
        if rows is not None:
            arrays |= {f"{table}_{name}": column for name, column in rows.columns.items()}
            arrays[f"{table}_offset"] = rows.offset
    return arrays


def _copy(content: BinaryIO, dtype: np.dtype[Any], member: Any) -> None:
    length = content.tell() // dtype.itemsize
    header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": (length,)}
    np.lib.format.write_array_header_1_0(member, header)
    content.seek(0)
    while piece := content.read(_COPIED_BYTES):
        member.write(piece)


NPZ = Format("npz", "NumPy arrays: flat columns and offsets", _read, _write)
