"""How foreign files are kept from doing harm: one clear error each, and no memory that a file only claims to need."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from supa.memory import available_bytes

MAX_CHUNK_SHOWERS = 8192
MAX_CHUNK_ROWS = 1 << 20


@contextmanager
def named_errors(path: Path) -> Iterator[None]:
    """Turn whatever a damaged file makes a reader raise into one ValueError that names the file.

    Args:
        path: the file that is read.
    """
    try:
        yield
    except Exception as error:  # the libraries of foreign formats raise whatever they stumble over
        lines = str(error).strip().splitlines() or [type(error).__name__]
        text = lines[0] if len(lines[0]) <= 300 else f"{lines[0][:297]}..."
        if text.startswith(str(path)):
            raise ValueError(text) from None
        if not isinstance(error, ValueError):
            text = f"it is damaged, or not of this format ({type(error).__name__}: {text})"
        raise ValueError(f"{path}: {text.rstrip('.')}.") from None


def check_memory(nbytes: int, what: str) -> None:
    """Refuse to allocate what the memory cannot hold.

    Args:
        nbytes: bytes that are needed at once.
        what: what needs them, for the message.

    Raises:
        ValueError: there is less memory.
    """
    if nbytes > available_bytes():
        raise ValueError(f"{what} would need {nbytes / 1e9:,.1f} GB of memory, more than there is")


def spans(total: int, rows: int) -> Iterator[tuple[int, int]]:
    """Cut showers into pieces of bounded size; there is at least one piece.

    Args:
        total: number of showers.
        rows: number of hits or cells of all of them together.

    Returns:
        An iterator over (first shower, shower behind the last).
    """
    size = max(1, min(MAX_CHUNK_SHOWERS, MAX_CHUNK_ROWS * total // max(rows, 1)))
    for start in range(0, max(total, 1), size):
        yield start, min(start + size, total)
