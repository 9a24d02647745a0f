"""Ragged tables: flat columns and the offset at which each group of rows begins."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from supa.arrays import Array, IntArray, array
from supa.checks import format_value


@dataclass(frozen=True, eq=False)
class Ragged:
    """Rows in groups: group k is the rows offset[k] to offset[k + 1] of every column.

    Args:
        columns: name of each column and its values, all of the same length (rows,).
        offset: (groups + 1,) int64 (or int32, which is converted), from 0 to the number of rows, never descending.
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
        """(groups,) number of rows of each group."""
        return np.diff(self.offset)

    @property
    def num_rows(self) -> int:
        """Number of rows of all groups."""
        return int(self.offset[-1])

    @property
    def nbytes(self) -> int:
        """Memory of the columns in bytes."""
        return sum(column.nbytes for column in self.columns.values())

    def group_of_row(self) -> IntArray:
        """Return the group of each row.

        Returns:
            (rows,) int64.
        """
        return np.repeat(np.arange(len(self), dtype=np.int64), self.counts)

    def span(self, start: int, stop: int) -> "Ragged":
        """Return consecutive groups, without copying the columns.

        Args:
            start: first group.
            stop: the group after the last one.

        Returns:
            The groups.
        """
        first, last = int(self.offset[start]), int(self.offset[stop])
        columns = {name: column[first:last] for name, column in self.columns.items()}
        return Ragged(columns, self.offset[start : stop + 1] - first)

    def take(self, groups: IntArray) -> "Ragged":
        """Return some groups in any order, repeated or not.

        Args:
            groups: (n,) numbers of the groups.

        Returns:
            The groups, copied.
        """
        counts = self.counts[groups]
        offset = counts_to_offsets(counts)
        rows = np.arange(offset[-1]) + np.repeat(self.offset[groups] - offset[:-1], counts)
        return Ragged({name: column[rows] for name, column in self.columns.items()}, offset)

    def copy(self) -> "Ragged":
        """Copy the columns.

        Returns:
            A table that shares no memory with this one.
        """
        return Ragged({name: column.copy() for name, column in self.columns.items()}, self.offset.copy())

    def equals(self, other: "Ragged") -> bool:
        """Compare names, offsets and values, all exactly.

        Args:
            other: another table.

        Returns:
            Whether they are equal.
        """
        return (
            self.columns.keys() == other.columns.keys()
            and np.array_equal(self.offset, other.offset)
            and all(np.array_equal(column, other.columns[name]) for name, column in self.columns.items())
        )


def counts_to_offsets(counts: npt.NDArray[np.integer[Any]]) -> IntArray:
    """Return the offsets of groups of known sizes.

    Args:
        counts: (groups,) rows of each group.

    Returns:
        (groups + 1,) int64.
    """
    offset = np.zeros(len(counts) + 1, dtype=np.int64)
    np.cumsum(counts, out=offset[1:])
    return offset


def check_offset(name: str, given: npt.ArrayLike) -> IntArray:
    """Check offsets of ragged groups.

    Args:
        name: the name of the offsets, for messages.
        given: (groups + 1,) offsets, of any integer type.

    Returns:
        (groups + 1,) int64.

    Raises:
        ValueError: the offsets are not integers that ascend from 0.
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
        tables: at least one table.

    Returns:
        One table with all groups.
    """
    names = tables[0].columns.keys()
    columns = {name: np.concatenate([table.columns[name] for table in tables]) for name in names}
    return Ragged(columns, counts_to_offsets(np.concatenate([table.counts for table in tables])))
