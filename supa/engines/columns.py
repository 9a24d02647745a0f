"""The columns to which the engine ``cpu`` writes hits and recorded particles."""

from typing import NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from supa.arrays import ByteArray, FloatArray


class HitColumns(NamedTuple):
    """Columns of hits."""

    x: FloatArray
    y: FloatArray
    energy: FloatArray
    slice: ByteArray
    layer: ByteArray
    primary: ByteArray


class ParticleColumns(NamedTuple):
    """Columns of recorded particles."""

    x: FloatArray
    y: FloatArray
    energy: FloatArray
    parent: npt.NDArray[np.int32]
    slice: ByteArray
    fate: ByteArray
    primary: ByteArray


Columns = TypeVar("Columns", HitColumns, ParticleColumns)

_TYPES = {"x": np.float64, "y": np.float64, "energy": np.float64, "parent": np.int32}  # the others are uint8


def empty_columns(kind: type[Columns], rows: int) -> Columns:
    """Return uninitialised columns.

    Args:
        kind: `HitColumns` or `ParticleColumns`.
        rows: Number of rows.

    Returns:
        Columns of this kind.
    """
    return kind(*(np.empty(rows, _TYPES.get(name, np.uint8)) for name in kind._fields))


def longer(columns: Columns, end: int, needed: int) -> Columns:
    """Copy the first rows into new columns that are at least twice as long.

    Args:
        columns: Columns that are too short.
        end: Number of rows to copy.
        needed: Least number of rows of the new columns.

    Returns:
        Columns of the same kind.
    """
    new = empty_columns(type(columns), max(needed, 2 * len(columns.x)))
    for name in columns._fields:
        getattr(new, name)[:end] = getattr(columns, name)[:end]
    return new
