"""Parquet files: one row a shower, lists of records for its hits, primaries and particles, as awkward has them."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from supa import Showers
from supa_datasets.conversion.awkward_arrays import flat, records_to_table
from supa_datasets.conversion.formats import Choices, Format, Source
from supa_datasets.conversion.guards import check_memory
from supa_datasets.conversion.runs import RUN, run_to_text
from supa_datasets.conversion.tables import assembled, columns_in, run_of, stored

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
        plain, ragged = columns_in(_names(file.schema_arrow), told)
        _check_row_groups(file.metadata)
        tables = {
            table: [name.split("/")[1] for name in ragged if name.startswith(f"{table}/")]
            for table in dict.fromkeys(name.split("/")[0] for name in ragged)
        }

        def chunk(array: Any, first: int) -> Showers:
            columns = {name: flat(array[name]) for name in plain}
            parts = {table: records_to_table(array[table], names) for table, names in tables.items()}
            return assembled(run, told, columns, parts, first)

        def chunks() -> Iterator[Showers]:
            first = 0
            for batch in file.iter_batches(_BATCH, columns=[*plain, *tables]):
                yield chunk(awkward.from_arrow(batch), first)
                first += len(batch)
            if first == 0:
                yield chunk(awkward.from_arrow(file.schema_arrow.empty_table()), 0)

        yield Source(run, total, "particles" in tables, chunks())


def _names(schema: Any) -> set[str]:
    import pyarrow

    names = set()
    for field in schema:
        lists = pyarrow.types.is_list(field.type) or pyarrow.types.is_large_list(field.type)
        if lists and pyarrow.types.is_struct(field.type.value_type):
            names |= {f"{field.name}/{inner.name}" for inner in field.type.value_type}
        else:
            names.add(field.name)
    return names


def _check_row_groups(metadata: Any) -> None:
    """Refuse row groups that grow beyond the memory, however small they are in the file."""
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


PARQUET = Format("parquet", "Parquet, one row a shower; opens in awkward", _read, _write)
