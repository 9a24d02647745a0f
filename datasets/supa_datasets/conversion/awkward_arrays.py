"""Awkward arrays of showers, as ``Showers.to_awkward`` gives them: what Parquet and ROOT files are read into."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from supa import Ragged, Showers
from supa.arrays import Array, IntArray
from supa.presets import ConfigLike, as_config
from supa.ragged import counts_to_offsets
from supa_datasets.conversion.run_json import imported
from supa_datasets.conversion.tables import TABLES, assembled, brief, columns_in, named
from supa_datasets.conversion.untrusted_input import check_memory

ColumnPath = tuple[str, ...]
"""Where a column is in an array of records: its field, or the field of a table and the field of its records."""


def from_awkward(array: Any, config: ConfigLike = "standard") -> Showers:
    """Make showers of an awkward array, such as ``Showers.to_awkward`` gives.

    Args:
        array: one record a shower: incident_energy (GeV), hits with x, y, energy and slice (or layer), and, where
            known, index, leaked_energy and primaries; other fields are left out. The hits may also be one field for
            each column: hits_x (or hits.x, hits/x), hits_y and so on. A list that is None is an empty one.
        config: the physics that made the showers: a preset's name or a config.

    Returns:
        The showers; their run has the engine ``"imported"``.

    Raises:
        ValueError: a field is missing, is no numbers (or no lists of them), has a value None, or a value cannot be that
            of a shower.
    """
    import awkward

    if not isinstance(array, awkward.Array):
        raise ValueError(f"array: a {type(array).__name__} was given, but it must be an awkward.Array.")
    run = imported(as_config(config), len(array))
    paths, unfit = paths_in(array)
    chosen = columns_in(named(paths), told=False, unfit=unfit)
    columns = {name: numbers(own, array[paths[own]], 0) for name, own in chosen.plain.items()}
    tables = {
        table: ragged_table({name: (own, array[paths[own]]) for name, own in found.items()}, 0)
        for table, found in chosen.tables.items()
    }
    return assembled(run, False, columns, tables, 0)


def paths_in(array: Any) -> tuple[dict[str, ColumnPath], dict[str, str]]:
    """Find the columns of an array of records.

    Args:
        array: one record a shower.

    Returns:
        Name and path of each column; and the name and type of each field that is called like a table of records, but
        has no fields itself.
    """
    paths: dict[str, ColumnPath] = {}
    unfit: dict[str, str] = {}
    for field in array.fields:
        column = array[field]
        table = next((table for table in TABLES if table.group == field), None)
        if column.fields:
            paths |= {f"{field}/{inner}": (field, inner) for inner in column.fields}
        elif table is None:
            paths[field] = (field,)
        elif _content(column)[1] is None:  # no shower has a row, so nothing says which columns the rows would have
            paths |= {f"{field}/{name}": (field,) for name in table.types}
        else:
            unfit[field] = _described(column)
    return paths, unfit


def numbers(name: str, column: Any, first: int) -> Array:
    """Return one number a shower.

    Args:
        name: the column's name, for messages.
        column: (n,) awkward array.
        first: number of the first of these showers.

    Returns:
        (n,) the numbers.

    Raises:
        ValueError: they are no numbers, or one is missing.
    """
    if not _is_of_numbers(column, 0):
        raise ValueError(f"the column {name!r} holds {_described(column)}, but it must hold a number for each shower")
    return _present(name, column, np.arange(first, first + len(column)))


def ragged_table(lists: Mapping[str, tuple[str, Any]], first: int) -> Ragged:
    """Make a ragged table of one awkward array of lists for each column; a list that is missing is an empty one.

    Args:
        lists: by the columns' names in the table: the name that messages give the column, and its lists.
        first: number of the first of these showers.

    Returns:
        The table.

    Raises:
        ValueError: they are no lists of numbers, are not equally long, or a number is missing.
    """
    import awkward

    offset: IntArray = np.empty(0, dtype=np.int64)
    neighbour = ""
    columns: dict[str, Array] = {}
    for name, (own, column) in lists.items():
        if _content(column) == (0, None):  # every list is missing
            column = awkward.from_regular(np.empty((len(column), 0)))
        if not _is_of_numbers(column, 1):
            raise ValueError(
                f"the column {own!r} holds {_described(column)}, but it must hold a list of numbers for each shower"
            )
        counts = awkward.to_numpy(awkward.fill_none(awkward.num(column, axis=1), 0), allow_missing=False)
        found = counts_to_offsets(counts.astype(np.int64))
        if columns and not np.array_equal(found, offset):
            shower = first + int(np.flatnonzero(np.diff(found) != np.diff(offset))[0])
            raise ValueError(
                f"the columns {neighbour!r} and {own!r} have lists of different lengths in shower {shower}"
            )
        offset, neighbour = found, own
        check_memory(8 * int(found[-1]), f"the column {own!r}")
        shower_of_row = np.repeat(np.arange(first, first + len(counts)), counts)
        columns[name] = _present(own, awkward.flatten(column, axis=1), shower_of_row)
    return Ragged(columns, offset)


def _content(column: Any) -> tuple[int, Any]:
    """Return how many lists are in each other, and the type of what they hold; None where nothing is in them."""
    from awkward import types

    kind, depth = column.type.content, 0
    while (
        isinstance(kind, types.OptionType | types.ListType | types.RegularType) and "__array__" not in kind.parameters
    ):
        depth += not isinstance(kind, types.OptionType)
        kind = kind.content
    return depth, None if isinstance(kind, types.UnknownType) else kind


def _is_of_numbers(column: Any, depth: int) -> bool:
    from awkward import types

    lists, kind = _content(column)
    number = isinstance(kind, types.NumpyType) and np.dtype(kind.primitive).kind in "fiu"
    return lists == depth and (kind is None or number)


def _described(column: Any) -> str:
    depth, kind = _content(column)
    return brief("lists of " * depth + ("nothing" if kind is None else str(kind)))


def _present(name: str, column: Any, shower: IntArray) -> Array:
    """Return flat numbers; ``shower`` is the shower of each, for the message on the first that is missing."""
    import awkward

    values = awkward.to_numpy(column, allow_missing=True)
    if np.ma.is_masked(values):
        first = shower[np.flatnonzero(np.ma.getmaskarray(values))[0]]
        raise ValueError(f"the column {name!r} has no value (null) in shower {first}, but every number must be there")
    return np.asarray(values)
