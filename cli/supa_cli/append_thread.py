"""Appending to a file in a thread of its own, while the caller prepares the next showers."""

import sys
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from supa import Showers
    from supa_datasets import ShowerWriter

_MOST_PENDING = 2  # pieces that are appended or wait; with one, the thread would have to be woken for each piece
# Seconds for which a thread waits for Python's interpreter lock before the others must release it. HDF5 holds the lock
# while it writes, and the other threads of a run need it often and briefly.
_SWITCH_INTERVAL = 5e-4


@contextmanager
def appending(writer: "ShowerWriter") -> Iterator[Callable[["Showers"], None]]:
    """Append to a writer in a thread.

    Few pieces wait, so the memory does not grow if the disk is slow.

    Args:
        writer: The writer. The caller may use it again after the ``with`` block.

    Yields:
        Function that appends showers. It may return before they are written, and raises the error of earlier showers.
        The arrays of the showers must not be changed.
    """
    with _switch_interval(_SWITCH_INTERVAL), ThreadPoolExecutor(1, thread_name_prefix="supa-append") as pool:
        pending: deque[Future[None]] = deque()

        def append(showers: "Showers") -> None:
            pending.append(pool.submit(writer.append, showers))
            while len(pending) > _MOST_PENDING:
                pending.popleft().result()

        yield append
        while pending:
            pending.popleft().result()


@contextmanager
def _switch_interval(seconds: float) -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(seconds)
    try:
        yield
    finally:
        sys.setswitchinterval(before)
