"""Parquet files: one row per shower, with lists of records for hits, primaries and particles."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from supa import Showers
from supa_datasets.conversion.awkward_arrays import numbers, paths_in, ragged_table
from supa_datasets.conversion.formats import Choices, Format, Source
from supa_datasets.conversion.run_json import RUN, run_to_text
from supa_datasets.conversion.tables import assembled, brief, columns_in, may_be_read, named, run_of, stored
from supa_datasets.conversion.untrusted_input import check_memory

_BATCH = 4096
_ITEM_BYTES = 8


def _libraries() -> tuple[Any, Any]:
    try:
        import awkward
        import pyarrow.parquet
    except ImportError:
        raise ValueError("Parquet needs the packages pyarrow and awkward: pip install 'supa-showers[hep]'.") from None
    return awkward, pyarrow.parquet


@contextmanager
def _read(path: Path, choices: Choices) -> Iterator[Source]:
    awkward, parquet = _libraries()
    with parquet.ParquetFile(path, pre_buffer=False) as file:
        total, metadata = file.metadata.num_rows, file.schema_arrow.metadata or {}
        text = metadata.get(RUN.encode())
        run, told = run_of(text, choices, total)
        paths, unfit = paths_in(_empty(file.schema_arrow))
        chosen = columns_in(named(paths), told=told, unfit=unfit)
        _check_row_groups(file.metadata)
        read = [*chosen.plain.values(), *(own for found in chosen.tables.values() for own in found.values())]

        def chunk(array: Any, first: int) -> Showers:
            columns = {name: numbers(own, array[paths[own]], first) for name, own in chosen.plain.items()}
            parts = {
                table: ragged_table({name: (own, array[paths[own]]) for name, own in found.items()}, first)
                for table, found in chosen.tables.items()
            }
            return assembled(run, told, columns, parts, first)

        def chunks() -> Iterator[Showers]:
            first = 0
            for batch in file.iter_batches(_BATCH, columns=list(dict.fromkeys(paths[own][0] for own in read))):
                yield chunk(awkward.from_arrow(batch), first)
                first += len(batch)
            if first == 0:
                yield chunk(_empty(file.schema_arrow), 0)

        yield Source(run, total, "particles" in chosen.tables, chunks())


def _empty(schema: Any) -> Any:
    """Return an empty awkward array with the columns of a file that showers can have."""
    awkward, _ = _libraries()
    import pyarrow

    columns = {}
    for field in schema:
        if not may_be_read(field.name):
            continue
        try:
            columns[field.name] = awkward.from_arrow(pyarrow.array([], field.type))
        except Exception:  # awkward raises errors of every kind for unsupported types
            raise ValueError(
                f"the column {field.name!r} contains {brief(field.type)}, but it must be numbers or lists of numbers"
            ) from None
    return awkward.zip(columns, depth_limit=1)


def _check_row_groups(metadata: Any) -> None:
    """Reject row groups that do not fit into the memory after decompression."""
    for group in map(metadata.row_group, range(metadata.num_row_groups)):
        values = sum(group.column(k).num_values for k in range(group.num_columns))
        check_memory(max(group.total_byte_size, _ITEM_BYTES * values, 0), "a row group")


def _write(path: Path, source: Source, _choices: Choices) -> None:
    awkward, parquet = _libraries()
    writer = None
    try:
        for showers in source.chunks:
            table = awkward.to_arrow_table(stored(showers).to_awkward(), extensionarray=False, list_to32=True)
            if writer is None:
                schema = table.schema.with_metadata({RUN: run_to_text(source.run)})
                writer = parquet.ParquetWriter(path, schema)
            writer.write_table(table.cast(schema))
    finally:
        if writer is not None:
            writer.close()


PARQUET = Format("parquet", "Parquet, one row per shower; opens in awkward", _read, _write)
