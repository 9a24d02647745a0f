"""Appending to a file in a thread of its own, while the caller prepares the next showers."""

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from supa import Showers
    from supa_datasets import ShowerWriter


@contextmanager
def appending(writer: "ShowerWriter") -> Iterator[Callable[["Showers"], None]]:
    """Append to a writer in a thread.

    At most one piece is being appended and no piece waits, so the memory does not grow if the disk is slow.

    Args:
        writer: The writer. The caller may use it again after the ``with`` block.

    Yields:
        Function that appends showers. It returns before they are written, and raises the error of the showers before.
        The arrays of the showers must not be changed.
    """
    with ThreadPoolExecutor(1, thread_name_prefix="supa-append") as pool:
        running: Future[None] | None = None

        def append(showers: "Showers") -> None:
            nonlocal running
            if running is not None:
                running.result()
            running = pool.submit(writer.append, showers)

        yield append
        if running is not None:
            running.result()
