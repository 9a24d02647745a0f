"""Tables on the terminal. Columns that do not fit into the width are printed below the others."""

import shutil
import sys
from collections.abc import Iterable, Sequence
from itertools import pairwise

import click

from supa.number_format import format_with_error
from supa_cli.terminal_text import safe

_GAP = "  "
_UNLIMITED = 1 << 30


def print_table(header: Sequence[str], rows: Iterable[Sequence[str]], *, title: str = "") -> None:
    """Print a table. The first column is aligned to the left, the others to the right.

    If the columns do not fit into the width of the terminal, the table is split and the first column is repeated.

    Args:
        header: Heading of each column.
        rows: Cells of each row.
        title: Line above the table, if any.
    """
    lines = [[safe(cell) for cell in line] for line in (header, *rows)]
    widths = [max(_width(line[k]) for line in lines) for k in range(len(header))]
    if title:
        _print(title)
    for start, end in pairwise(_breaks(widths)):
        columns = [0, *range(start, end)]
        for number, line in enumerate(lines):
            cells = [_padded(line[k], widths[k], left=k == 0) for k in columns]
            _print(_GAP.join(cells).rstrip())
            if number == 0:
                _print("-" * (sum(widths[k] for k in columns) + len(_GAP) * (len(columns) - 1)))
        _print("")


def print_facts(facts: Iterable[tuple[str, str]]) -> None:
    """Print names and values, one pair per line.

    Args:
        facts: Pairs of name and value.
    """
    pairs = [(safe(name), safe(value)) for name, value in facts]
    width = max((_width(name) for name, _ in pairs), default=0)
    for name, value in pairs:
        _print(f"{_padded(name, width, left=True)}{_GAP}{value}".rstrip())


def with_error(value: float, error: float) -> str:
    """Format a number with its standard error, in characters that standard output supports.

    Args:
        value: The number.
        error: Standard error of the number, NaN if it is unknown.

    Returns:
        Number and error, or the number alone if the error is unknown.
    """
    return format_with_error(value, error, sign="±" if _can_print("±") else "+-")


def _print(line: str) -> None:
    click.echo(line, file=sys.stdout)  # an explicit stream, since click would replace an ASCII stream by one of UTF-8


def _breaks(widths: list[int]) -> list[int]:
    """Return the index of the first column of each part of the table, and of the end."""
    limit = shutil.get_terminal_size((_UNLIMITED, 0)).columns
    breaks, used = [1], widths[0]
    for column, width in enumerate(widths[1:], 1):
        if used + len(_GAP) + width > limit and column > breaks[-1]:
            breaks.append(column)
            used = widths[0]
        used += len(_GAP) + width
    return [*breaks, len(widths)]


def _padded(cell: str, width: int, *, left: bool) -> str:
    space = " " * (width - _width(cell))
    return cell + space if left else space + cell


def _width(cell: str) -> int:
    from rich.cells import cell_len

    return cell_len(cell)


def _can_print(text: str) -> bool:
    try:
        text.encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        return False
    return True
