"""Fields of named tuples are left out as members: the argument list describes them, and Python's text says nothing."""

from typing import Any

from sphinx.application import Sphinx


def _skip_alias(app: Sphinx, kind: str, name: str, value: Any, skip: bool, *_: object) -> bool | None:
    return True if str(getattr(value, "__doc__", "")).startswith("Alias for field number") else None


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the rule."""
    app.connect("autodoc-skip-member", _skip_alias)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
