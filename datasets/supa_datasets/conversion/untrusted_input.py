"""Protection against damaged and malicious files: clear errors and checks of the memory that a file claims."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from supa.memory import available_bytes

MAX_CHUNK_SHOWERS = 8192
MAX_CHUNK_ROWS = 1 << 20


@contextmanager
def named_errors(path: Path) -> Iterator[None]:
    """Turn every exception of a reader into a ValueError that names the file.

    Args:
        path: Path of the file that is read.
    """
    try:
        yield
    except Exception as error:  # the libraries of other formats raise errors of every kind
        lines = str(error).strip().splitlines() or [type(error).__name__]
        text = lines[0] if len(lines[0]) <= 300 else f"{lines[0][:297]}..."
        if text.startswith(str(path)):
            raise ValueError(text) from None
        if not isinstance(error, ValueError):
            text = f"it is damaged or not of this format ({type(error).__name__}: {text})"
        raise ValueError(f"{path}: {text.rstrip('.')}.") from None


def check_memory(nbytes: int, what: str) -> None:
    """Raise an error if an allocation would exceed the available memory.

    Args:
        nbytes: Number of bytes to allocate.
        what: Description of the data, for the message.

    Raises:
        ValueError: If less memory is available.
    """
    if nbytes > available_bytes():
        raise ValueError(f"{what} would need {nbytes / 1e9:,.1f} GB of memory, more than is available")


def spans(total: int, rows: int) -> Iterator[tuple[int, int]]:
    """Divide showers into pieces of bounded size. There is at least one piece.

    Args:
        total: Number of showers.
        rows: Total number of hits or cells.

    Returns:
        Iterator over (start, stop).
    """
    size = max(1, min(MAX_CHUNK_SHOWERS, MAX_CHUNK_ROWS * total // max(rows, 1)))
    for start in range(0, max(total, 1), size):
        yield start, min(start + size, total)
