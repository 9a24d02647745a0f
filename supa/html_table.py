"""Small HTML tables, by which notebooks show showers, files, expectations, comparisons and settings."""

from collections.abc import Iterable, Sequence
from html import escape


def html_table(rows: Iterable[Sequence[object]], *, header: Sequence[str] = (), caption: str = "") -> str:
    """Return an HTML table.

    Args:
        rows: Cells of each row, which are converted to text and escaped.
        header: Heading of each column, if any.
        caption: Text above the table, if any.

    Returns:
        The HTML text. The first column is aligned to the left; the others are aligned to the right if the table has a
        header, since they then contain numbers.

    Example:
        >>> html_table([("hits",)])
        '<table><tbody><tr><td style="text-align: left">hits</td></tr></tbody></table>'
    """
    right = "right" if header else "left"

    def line(cells: Sequence[object], tag: str) -> str:
        sides = ["left", *[right] * (len(cells) - 1)]
        inner = "".join(
            f'<{tag} style="text-align: {side}">{escape(str(cell))}</{tag}>'
            for side, cell in zip(sides, cells, strict=True)
        )
        return f"<tr>{inner}</tr>"

    title = f'<caption style="text-align: left; font-weight: bold">{escape(caption)}</caption>' if caption else ""
    head = f"<thead>{line(header, 'th')}</thead>" if header else ""
    return f"<table>{title}{head}<tbody>{''.join(line(row, 'td') for row in rows)}</tbody></table>"
