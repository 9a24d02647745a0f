"""Texts that come from files and users: how they are printed, and how JSON is read."""

import json
from collections.abc import Iterable
from typing import Any

from supa.checks import format_value


def printable(text: str) -> str:
    r"""Write a text so that it cannot steer a terminal.

    Args:
        text: a text from a file, a file's name, or a message that holds such a text.

    Returns:
        The text; control characters, line ends and whatever else is not printable are written as ``repr`` does.

    Example:
        >>> printable("a\x1b[31mb")
        'a\\x1b[31mb'
    """
    if text.isprintable():
        return text
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)


def read_json(text: str | bytes) -> Any:
    """Read JSON that a user or a file gives.

    Args:
        text: the text of one JSON value.

    Returns:
        The value.

    Raises:
        ValueError: the text is no JSON, is nested too deeply, or one of its objects has a key twice.
    """
    try:
        return json.loads(text, object_pairs_hook=_object)
    except (TypeError, RecursionError) as error:
        raise ValueError(f"{error}") from None


def _object(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for key, value in pairs:
        if key in made:
            raise ValueError(f"the key {format_value(key)} is given twice; remove one of the two")
        made[key] = value
    return made
