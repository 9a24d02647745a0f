"""Growing arrays in compiled code."""

from typing import Any

import numpy as np

from supa.compiler import kernel
from supa.random import Word


@kernel
def lengthened(column: Any, length: Word) -> Any:
    """Copy a column into a new one of at least this length and at least twice its own length."""
    longer = np.empty(np.int64(max(length, Word(2 * len(column)))), dtype=column.dtype)
    for i in range(len(column)):  # a slice assignment would compile code for errors of shapes
        longer[i] = column[i]
    return longer


@kernel
def taller(rows: Any, height: int) -> Any:
    """Copy rows into a new array with at least this many rows and at least twice as many as before."""
    higher = np.empty((max(height, 2 * rows.shape[0]), rows.shape[1]), dtype=rows.dtype)
    higher[: rows.shape[0]] = rows
    return higher
