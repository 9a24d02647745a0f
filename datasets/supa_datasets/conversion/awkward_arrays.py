"""Conversion of awkward arrays to showers, also for Parquet and ROOT files."""

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
"""Path of a column in an array of records: its field, or the field of a table and the field of its records."""


def from_awkward(array: Any, config: ConfigLike = "standard") -> Showers:
    """Convert an awkward array to showers, such as the result of ``Showers.to_awkward``.

    Args:
        array: Array with one record per shower. Required fields are ``incident_energy`` (GeV) and ``hits``, a list of
            records with ``x``, ``y`` (length unit), ``energy`` (GeV) and ``slice`` or ``layer``. Optional
            fields are ``index``, ``leaked_energy`` (GeV) and ``primaries``. Other fields are ignored. The hits can also
            be one field per column, such as ``hits_x`` (or ``hits.x``, ``hits/x``). A missing list (None) is
            read as an empty one.
        config: Physics of the showers: the name of a preset or a `supa.ShowerConfig`.

    Returns:
        The showers. The engine of their run is ``"imported"``.

    Raises:
        ValueError: If a field is missing or does not contain numbers or lists of numbers, a number is missing, or a
            value is impossible for a shower.

    Example:
        >>> import supa
        >>> from supa_datasets import from_awkward
        >>> array = supa.simulate(100, "standard", energy=[20, 80], seed=1).to_awkward()
        >>> high = array[array.incident_energy > 50]
        >>> showers = from_awkward(high, "standard")
        >>> len(showers), float(showers.incident_energy.min())
        (45, 80.0)
    """
    import awkward

    if not isinstance(array, awkward.Array):
        raise ValueError(f"array must be an awkward.Array, got {type(array).__name__}.")
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
        array: Array with one record per shower.

    Returns:
        Path of each column by name; and type by name of each field that has the name of a table but no fields itself.
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
        elif _content(column)[1] is None:  # no shower has a row, so the type does not contain the columns
            paths |= {f"{field}/{name}": (field,) for name in table.types}
        else:
            unfit[field] = _described(column)
    return paths, unfit


def numbers(name: str, column: Any, first: int) -> Array:
    """Return a column with one number per shower.

    Args:
        name: Name of the column, for messages.
        column: (n,) awkward array.
        first: Position in the file of the first of these showers.

    Returns:
        (n,) numbers.

    Raises:
        ValueError: If the column does not contain numbers, or a number is missing.
    """
    if not _is_of_numbers(column, 0):
        raise ValueError(f"the column {name!r} contains {_described(column)}, but it must be one number per shower")
    return _present(name, column, np.arange(first, first + len(column)))


def ragged_table(lists: Mapping[str, tuple[str, Any]], first: int) -> Ragged:
    """Build a ragged table from one awkward array of lists per column. A missing list counts as empty.

    Args:
        lists: For each column of the table by name: its name in error messages, and its lists.
        first: Position in the file of the first of these showers.

    Returns:
        The table.

    Raises:
        ValueError: If the columns are not lists of numbers with equal lengths, or a number is missing.
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
                f"the column {own!r} contains {_described(column)}, but it must be a list of numbers per shower"
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
    """Return the number of nested lists, and the type of their contents (None if they are empty)."""
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
    """Return flat numbers. ``shower`` is the shower of each number, for the message about a missing one."""
    import awkward

    values = awkward.to_numpy(column, allow_missing=True)
    if np.ma.is_masked(values):
        first = shower[np.flatnonzero(np.ma.getmaskarray(values))[0]]
        raise ValueError(f"the column {name!r} has a missing value (null) in shower {first}, but numbers are required")
    return np.asarray(values)
