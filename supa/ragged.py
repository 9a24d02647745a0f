"""Ragged tables: groups of rows with different lengths, stored as flat columns and offsets."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from supa.arrays import Array, IntArray, array
from supa.checks import format_value


@dataclass(frozen=True, eq=False)
class Ragged:
    """Table whose rows are divided into groups of different lengths.

    Group k consists of the rows ``offset[k]`` to ``offset[k + 1]`` (exclusive) of every column. ``table["x"]`` returns
    the column ``x`` of all groups, and ``len(table)`` the number of groups.

    Args:
        columns: Array of each column by name, all of shape (rows,).
        offset: (groups + 1,) array of int64, non-decreasing from 0 to the number of rows. Other integer types are
            converted.

    Raises:
        KeyError: If ``table["x"]`` is evaluated and there is no column ``x``.

    Example:
        >>> import numpy as np
        >>> import supa
        >>> table = supa.Ragged({"energy": np.array([1.0, 2.0, 3.0])}, offset=np.array([0, 2, 2, 3]))
        >>> len(table), table.counts.tolist()
        (3, [2, 0, 1])
        >>> table["energy"][table.offset[0] : table.offset[1]].tolist()
        [1.0, 2.0]
        >>> np.bincount(table.group_of_row(), weights=table["energy"], minlength=len(table)).tolist()
        [3.0, 0.0, 3.0]
    """

    columns: Mapping[str, Array]
    offset: IntArray

    def __post_init__(self) -> None:
        if self.offset.dtype != np.int64:
            object.__setattr__(self, "offset", self.offset.astype(np.int64))

    def __len__(self) -> int:
        return len(self.offset) - 1

    def __getitem__(self, name: str) -> Array:
        if name not in self.columns:
            raise KeyError(f"There is no column {name!r}; the columns are {', '.join(self.columns)}.")
        return self.columns[name]

    @property
    def counts(self) -> IntArray:
        """(groups,) int64, number of rows in each group."""
        return np.diff(self.offset)

    @property
    def num_rows(self) -> int:
        """Number of rows in all groups."""
        return int(self.offset[-1])

    @property
    def nbytes(self) -> int:
        """Memory used by the columns, in bytes."""
        return sum(column.nbytes for column in self.columns.values())

    def group_of_row(self) -> IntArray:
        """Return the group of each row.

        Returns:
            (rows,) int64, numbers of the groups.
        """
        return np.repeat(np.arange(len(self), dtype=np.int64), self.counts)

    def span(self, start: int, stop: int) -> "Ragged":
        """Return consecutive groups without copying the columns.

        Args:
            start: First group.
            stop: Group after the last one.

        Returns:
            Table of the groups, whose columns share memory with this table.
        """
        first, last = int(self.offset[start]), int(self.offset[stop])
        columns = {name: column[first:last] for name, column in self.columns.items()}
        return Ragged(columns, self.offset[start : stop + 1] - first)

    def take(self, groups: IntArray) -> "Ragged":
        """Return selected groups in a given order.

        Args:
            groups: (n,) numbers of the groups; a group may occur several times.

        Returns:
            Table of copies of these groups.
        """
        counts = self.counts[groups]
        offset = counts_to_offsets(counts)
        rows = np.arange(offset[-1]) + np.repeat(self.offset[groups] - offset[:-1], counts)
        return Ragged({name: column[rows] for name, column in self.columns.items()}, offset)

    def copy(self) -> "Ragged":
        """Return a copy of the table.

        Returns:
            Table that shares no memory with this one.
        """
        return Ragged({name: column.copy() for name, column in self.columns.items()}, self.offset.copy())

    def equals(self, other: "Ragged") -> bool:
        """Return whether two tables have the same column names, offsets and values.

        Args:
            other: Table to compare with.

        Returns:
            True if everything is exactly equal.
        """
        return (
            self.columns.keys() == other.columns.keys()
            and np.array_equal(self.offset, other.offset)
            and all(np.array_equal(column, other.columns[name]) for name, column in self.columns.items())
        )


def counts_to_offsets(counts: npt.NDArray[np.integer[Any]]) -> IntArray:
    """Return the offsets of groups of given sizes.

    Args:
        counts: (groups,) number of rows in each group.

    Returns:
        (groups + 1,) int64, running sums of the counts.
    """
    offset = np.zeros(len(counts) + 1, dtype=np.int64)
    np.cumsum(counts, out=offset[1:])
    return offset


def check_offset(name: str, given: npt.ArrayLike) -> IntArray:
    """Check the offsets of ragged groups.

    Args:
        name: Name of the argument in the error message.
        given: (groups + 1,) offsets of any integer type.

    Returns:
        (groups + 1,) int64.

    Raises:
        ValueError: If the offsets are not integers, do not start at 0, or decrease.
    """
    offset = array(name, given)
    if offset.ndim == 1 and len(offset) and offset.dtype.kind in "iu" and offset[0] == 0:
        offset = offset.astype(np.int64, copy=False)
        if (offset[1:] >= offset[:-1]).all():
            return offset
    raise ValueError(f"{name}: {format_value(given)} was given, but it must be whole numbers that ascend from 0.")


def concatenate(tables: Sequence[Ragged]) -> Ragged:
    """Concatenate tables with the same columns.

    Args:
        tables: One or more tables.

    Returns:
        Table with the groups of all tables in order.
    """
    names = tables[0].columns.keys()
    columns = {name: np.concatenate([table.columns[name] for table in tables]) for name in names}
    return Ragged(columns, counts_to_offsets(np.concatenate([table.counts for table in tables])))
