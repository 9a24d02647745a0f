"""Means and standard errors of data that arrive in chunks."""

from typing import Any

import numpy as np
import numpy.typing as npt

from supa.arrays import FloatArray


class RunningMoments:
    """Mean and standard error of rows that are added chunk by chunk."""

    def __init__(self) -> None:
        self.count = 0
        self._sums: Any = 0.0
        self._squares: Any = 0.0

    def add(self, rows: npt.NDArray[Any]) -> None:
        """Add rows.

        Args:
            rows: (n, ...) numbers. The shape of a row must be the same in every call.
        """
        self.count += len(rows)
        self._sums = self._sums + rows.sum(axis=0, dtype=np.float64)
        self._squares = self._squares + np.square(rows, dtype=np.float64).sum(axis=0)

    @property
    def mean(self) -> FloatArray:
        """(...) float64, mean of the rows; requires at least one row."""
        return np.asarray(self._sums / self.count)

    @property
    def standard_error(self) -> FloatArray:
        """(...) float64, standard error of the mean; 0 for a single row."""
        variance = np.maximum(self._squares / self.count - self.mean**2, 0)
        return np.asarray(np.sqrt(variance / max(self.count - 1, 1)))
