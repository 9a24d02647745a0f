"""Safe printing of text and strict parsing of JSON from files and users."""

import json
from collections.abc import Iterable
from typing import Any

from supa.checks import format_value


def printable(text: str) -> str:
    r"""Escape the non-printable characters of a text, so that it cannot control a terminal.

    Args:
        text: Text from a file, name of a file, or message that contains such a text.

    Returns:
        Text in which control characters, line ends and other non-printable characters are escaped as by ``repr``.

    Example:
        >>> printable("a\x1b[31mb")
        'a\\x1b[31mb'
    """
    if text.isprintable():
        return text
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)


def read_json(text: str | bytes) -> Any:
    """Parse JSON from a user or a file.

    Args:
        text: Text of one JSON value.

    Returns:
        Parsed value.

    Raises:
        ValueError: If the text is not valid JSON, is nested too deeply, or contains an object with a repeated key.
    """
    try:
        return json.loads(text, object_pairs_hook=_object)
    except (TypeError, RecursionError) as error:
        raise ValueError(f"{error}") from None


def _object(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key, value in pairs:
        if key in result:
            raise ValueError(f"the key {format_value(key)} is given twice; remove one of the two")
        result[key] = value
    return result
