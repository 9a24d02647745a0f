"""Docstrings of returned values and properties as plain text.

Napoleon reads the words before a colon as the returned type. The types of this package are annotations, so a colon is
only a colon.
"""

from sphinx.application import Sphinx
from sphinx.ext.napoleon import docstring


def _section_as_text(self: docstring.GoogleDocstring) -> list[tuple[str, str, list[str]]]:
    lines = self._dedent(self._consume_to_next_section())
    return [("", "", lines)] if lines else []


def _attribute_as_text(self: docstring.GoogleDocstring) -> tuple[str, list[str]]:
    return "", list(self._dedent([self._lines.next() for _ in range(len(self._lines))]))


def setup(app: Sphinx) -> dict[str, bool]:
    """Replace the readers of these docstrings."""
    docstring.GoogleDocstring._consume_returns_section = lambda self, preprocess_types=False: _section_as_text(self)
    docstring.GoogleDocstring._consume_inline_attribute = _attribute_as_text
    return {"parallel_read_safe": True, "parallel_write_safe": True}
