"""Awkward arrays of showers, as ``Showers.to_awkward`` gives them: what Parquet and ROOT files are read into."""

from typing import Any

import numpy as np

from supa import Ragged, Showers
from supa.arrays import Array, IntArray
from supa.presets import ConfigLike, config_of
from supa.ragged import offsets_of
from supa_datasets.conversion.guards import check_memory
from supa_datasets.conversion.runs import imported
from supa_datasets.conversion.tables import assembled, columns_in


def from_awkward(array: Any, config: ConfigLike = "standard") -> Showers:
    """Make showers of an awkward array, such as ``Showers.to_awkward`` gives.

    Args:
        array: one record a shower: incident_energy (GeV), hits with x, y, energy and slice (or layer), and, where
            known, index, leaked_energy and primaries; other fields are left out.
        config: the physics that made the showers: a preset's name or a config.

    Returns:
        The showers; their run has the engine ``"imported"``.

    Raises:
        ValueError: a field is missing, or a value cannot be that of a shower.
    """
    import awkward

    if not isinstance(array, awkward.Array):
        raise ValueError(f"array: a {type(array).__name__} was given, but it must be an awkward.Array.")
    run = imported(config_of(config), len(array))
    names = {
        name for field in array.fields for name in ([f"{field}/{column}" for column in array[field].fields] or [field])
    }
    plain, ragged = columns_in(names, told=False)
    tables = {
        table: records_to_table(array[table], [name.split("/")[1] for name in ragged if name.startswith(f"{table}/")])
        for table in dict.fromkeys(name.split("/")[0] for name in ragged)
    }
    return assembled(run, False, {name: flat(array[name]) for name in plain}, tables, 0)


def records_to_table(lists: Any, columns: list[str]) -> Ragged:
    """Make a ragged table of lists of records.

    Args:
        lists: one list of records a shower.
        columns: the records' fields to take.

    Returns:
        The table.

    Raises:
        ValueError: they are no lists of records of numbers.
    """
    return lists_to_table({name: lists[name] for name in columns})


def lists_to_table(lists: dict[str, Any]) -> Ragged:
    """Make a ragged table of one awkward array of lists for each column.

    Args:
        lists: the columns.

    Returns:
        The table.

    Raises:
        ValueError: they are no lists of numbers, or are not equally long.
    """
    import awkward

    offset: IntArray = np.empty(0, dtype=np.int64)
    columns: dict[str, Array] = {}
    for name, column in lists.items():
        if column.ndim != 2:
            raise ValueError(f"the column {name!r} has no list of numbers for each shower")
        counts = flat(awkward.num(column, axis=1))
        found = offsets_of(counts.astype(np.int64))
        if columns and not np.array_equal(found, offset):
            raise ValueError(f"the column {name!r} has other lengths than its neighbours")
        offset = found
        check_memory(8 * int(found[-1]), f"the column {name!r}")
        columns[name] = flat(awkward.flatten(column, axis=1))
    return Ragged(columns, offset)


def flat(column: Any) -> Array:
    """Give a flat awkward array as NumPy numbers.

    Args:
        column: the values.

    Returns:
        The values.

    Raises:
        ValueError: they are no numbers, or some are missing.
    """
    import awkward

    values = awkward.to_numpy(column, allow_missing=False)
    if values.ndim != 1 or values.dtype.kind not in "fiu":
        raise ValueError(f"a column is {values.dtype}, not plain numbers")
    return np.asarray(values)
