"""NumPy's ``.npz``: one uncompressed array for each column, such as ``hits_x``, and the offsets ``hits_offset``."""

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
from supa_datasets.conversion.formats import Choices, Format, Source
from supa_datasets.conversion.guards import check_memory, spans
from supa_datasets.conversion.runs import RUN, run_to_text
from supa_datasets.conversion.tables import assembled, columns_in, run_of, stored
from supa_datasets.layout import HITS, SHOWER_TYPES, tables_of

_COPIED_BYTES = 1 << 20
_MAX_TEXT_BYTES = 1 << 20


@dataclass
class _Column:
    """A column of the archive, read from front to back."""

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

        def column(name: str) -> _Column:
            if name not in members:
                raise ValueError(f"the array {name!r} is missing")
            stream = stack.enter_context(archive.open(members[name]))
            return _opened(name, stream, members[name].file_size)

        def whole(name: str) -> Any:
            found = column(name)
            check_memory(found.length * found.dtype.itemsize, f"the array {name!r}")
            return found.take(found.length)

        text = _text(archive, members)
        tables = {"hits", "primaries", "particles"}
        names = {_dotted(name, tables) for name in members}
        plain, ragged = columns_in(names, text is not None)
        offsets = {
            table: _checked_offset(f"{table}_offset", whole(f"{table}_offset"))
            for table in dict.fromkeys(name.split("/")[0] for name in ragged)
        }
        total = len(offsets[HITS.group]) - 1
        columns = {name: column(name.replace("/", "_")) for name in [*plain, *ragged]}
        for name, found in columns.items():
            rows = total if name in plain else int(offsets[name.split("/")[0]][-1])
            if found.length != rows or any(len(offset) != total + 1 for offset in offsets.values()):
                raise ValueError(
                    f"the array {name.replace('/', '_')!r} has {counted(found.length, 'row')}, but it needs {rows}"
                )
        run, told = run_of(text, choices, total)

        def chunk(start: int, stop: int) -> Showers:
            rows = {table: int(offset[stop] - offset[start]) for table, offset in offsets.items()}
            nbytes = sum(rows[name.split("/")[0]] * columns[name].dtype.itemsize for name in ragged)
            check_memory(nbytes, f"showers {start} to {stop - 1}")
            parts = {
                table: Ragged(
                    {
                        name.removeprefix(f"{table}/"): columns[name].take(rows[table])
                        for name in ragged
                        if name.startswith(f"{table}/")
                    },
                    offset[start : stop + 1] - offset[start],
                )
                for table, offset in offsets.items()
            }
            return assembled(run, told, {name: columns[name].take(stop - start) for name in plain}, parts, start)

        yield Source(
            run,
            total,
            told and "particles" in offsets,
            (chunk(a, b) for a, b in spans(total, int(offsets[HITS.group][-1]))),
        )


def _dotted(name: str, tables: set[str]) -> str:
    """Give ``hits/x`` for ``hits_x``."""
    table, _, column = name.partition("_")
    return f"{table}/{column}" if table in tables and column != "offset" else name


def _opened(name: str, stream: Any, size: int) -> _Column:
    """Read the header of an array: one row of numbers after another, as many as the archive holds."""
    version = np.lib.format.read_magic(stream)
    header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = header(stream)
    if len(shape) != 1 or dtype.kind not in "fiu":
        raise ValueError(f"the array {name!r} is {dtype} {shape}, not a row of numbers")
    if stream.tell() + shape[0] * dtype.itemsize != size:
        raise ValueError(f"the array {name!r} claims {counted(shape[0], 'row')}, but the file does not hold them")
    return _Column(stream, dtype, shape[0])


def _checked_offset(name: str, offset: Any) -> Any:
    if offset.dtype.kind not in "iu" or not len(offset) or offset[0] != 0 or (offset[1:] < offset[:-1]).any():
        raise ValueError(f"the array {name!r} is no offset: whole numbers that ascend from 0")
    return offset.astype(np.int64)


def _text(archive: zipfile.ZipFile, members: Mapping[str, zipfile.ZipInfo]) -> str | None:
    if RUN not in members:
        return None
    if members[RUN].file_size > _MAX_TEXT_BYTES:
        raise ValueError(f"its {RUN} is too long")
    text = np.lib.format.read_array(io.BytesIO(archive.read(members[RUN])), allow_pickle=False)
    if text.shape != () or text.dtype.kind != "U":
        raise ValueError(f"its {RUN} is no text")
    return str(text)


def _write(path: Path, source: Source, _choices: Choices) -> None:
    """Write the archive; an archive is written array by array, so the columns wait in files without a name."""
    dtypes = {name: np.dtype(kind) for name, kind in SHOWER_TYPES.items()}
    for table in tables_of(source.recorded):
        dtypes |= {f"{table.group}_{name}": np.dtype(kind) for name, kind in table.types.items()}
        dtypes[f"{table.group}_offset"] = np.dtype("i8")
    with ExitStack() as stack:
        waiting = {name: stack.enter_context(tempfile.TemporaryFile(dir=path.parent)) for name in dtypes}
        last = {f"{table.group}_offset": 0 for table in tables_of(source.recorded)}
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
