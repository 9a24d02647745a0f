"""Arrays that are used again as soon as nothing refers to them any more.

The first access to fresh memory is slow, because the operating system has to provide and clear it. A stream of chunks
therefore uses the memory of the chunks that its caller has dropped.
"""

from collections import deque
from collections.abc import Mapping
from typing import Any, Generic, TypeVar

import numpy as np

from supa.arrays import Array

Arrays = TypeVar("Arrays")


class Recycler(Generic[Arrays]):
    """Keep sets of arrays until they are needed again.

    Args:
        most: Largest number of unused sets to keep. Further ones are freed.
    """

    def __init__(self, most: int) -> None:
        self._unused: deque[Arrays] = deque(maxlen=most)

    def take(self) -> Arrays | None:
        """Return a set that is not used any more, or None.

        Returns:
            A set that was given to ``lend``, with its previous content.
        """
        try:
            return self._unused.pop()
        except IndexError:
            return None

    def lend(self, arrays: Arrays, views: Mapping[str, Array]) -> dict[str, Any]:
        """Return views of a set of arrays. When nothing refers to these views any more, the set becomes unused.

        Args:
            arrays: The set.
            views: Views of its arrays by name.

        Returns:
            Equal views, which keep the set in use.
        """
        loan = _Loan(arrays, self._unused)
        return {name: np.asarray(_Part(loan, view)) for name, view in views.items()}


class _Loan:
    """A set of arrays in use."""

    def __init__(self, arrays: Any, unused: deque[Any]) -> None:
        self._arrays, self._unused = arrays, unused

    def __del__(self) -> None:
        self._unused.append(self._arrays)


class _Part:
    """The owner of the memory of one view. NumPy keeps a reference to it in every view of this view."""

    def __init__(self, loan: _Loan, view: Array) -> None:
        self._loan = loan
        self.__array_interface__ = view.__array_interface__
