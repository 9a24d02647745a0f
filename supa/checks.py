"""Checks of values from users: each returns the value, or raises one clear error."""

import difflib
import math
from collections.abc import Callable, Collection, Iterable
from numbers import Integral, Real

LARGEST = 1e30
"""Lengths and energies stay far inside the range of float32, so that nothing becomes infinite on the way to a file."""


def check_int(low: int, high: int, name: str, value: object, why: str = "") -> int:
    """Check an integer.

    Args:
        low: the smallest allowed value.
        high: the largest allowed value.
        name: the name of the argument, for the message.
        value: the value.
        why: the reason for the limits, for the message.

    Returns:
        The number.

    Raises:
        ValueError: the value is not an integer, or outside the limits.
    """
    if isinstance(value, bool) or not isinstance(value, Integral) or not low <= int(value) <= high:
        reason = f" {why}" if why else ""
        raise ValueError(f"{name}: {value!r} was given, but it must be a whole number from {low} to {high}{reason}.")
    return int(value)


def check_real(allowed: Callable[[float], bool], words: str, name: str, value: object) -> float:
    """Check a real number.

    Args:
        allowed: returns whether a finite number of at most 1e30 is allowed.
        words: describes the allowed numbers, for the message.
        name: the name of the argument, for the message.
        value: the value.

    Returns:
        The number.

    Raises:
        ValueError: the value is not a number, not finite, beyond 1e30, or not allowed.
    """
    real = not isinstance(value, bool) and isinstance(value, Real)
    if not real or not abs(value) <= LARGEST or not allowed(float(value)):  # type: ignore[arg-type]
        limit = "" if not real or not abs(value) > LARGEST else f", and at most {LARGEST:g}"  # type: ignore[arg-type]
        raise ValueError(f"{name}: {format_value(value)} was given, but it must be a number {words}{limit}.")
    return float(value)  # type: ignore[arg-type]


def format_value(value: object) -> str:
    """Format a value for a message, on one line, cut where it is long.

    Args:
        value: the value.

    Returns:
        At most about 80 characters.
    """
    if isinstance(value, int) and abs(value) >= 10**20:
        return f"a whole number of {int(math.log10(abs(value))) + 1} digits"
    text = repr(value)
    if "\n" in text:  # of an array
        text = " ".join(text.split())
    return text if len(text) <= 80 else f"{text[:77]}..."


def counted(number: int, noun: str, plural: str | None = None) -> str:
    """Format a number with its noun in the singular or the plural.

    Args:
        number: the number.
        noun: the noun in the singular.
        plural: the noun in the plural, by default the singular and "s".

    Returns:
        The number with commas between its thousands, and the noun.

    Example:
        >>> counted(1, "layer"), counted(1234, "graph"), counted(2, "class", "classes")
        ('1 layer', '1,234 graphs', '2 classes')
    """
    return f"{number:,} {noun if number == 1 else plural or f'{noun}s'}"


def check_name(allowed: Collection[str], what: str, value: object) -> None:
    """Check that a value is one of several names.

    Args:
        allowed: the allowed names.
        what: what is named, with its article.
        value: the value.

    Raises:
        ValueError: the value is none of the names.

    Example:
        >>> check_name(["standard", "dense"], "a preset", "standart")
        Traceback (most recent call last):
        ValueError: 'standart' was given, but a preset is one of standard, dense. Did you mean 'standard'?
    """
    if not isinstance(value, str) or value not in allowed:
        names = ", ".join(allowed)
        raise ValueError(
            f"{format_value(value)} was given, but {what} is one of {names}.{did_you_mean(value, allowed)}"
        )


def did_you_mean(given: object, allowed: Iterable[str]) -> str:
    """Return the end of a message about a wrong name: the allowed name that is most similar.

    Args:
        given: the wrong name.
        allowed: the allowed names.

    Returns:
        A question with a space before it, or an empty string if no name is similar.

    Example:
        >>> did_you_mean("standart", ["standard", "dense"]), did_you_mean("x", ["standard", "dense"])
        (" Did you mean 'standard'?", '')
    """
    names = {name.lower(): name for name in allowed}
    close = difflib.get_close_matches(given.lower(), names, n=1) if isinstance(given, str) else []
    return f" Did you mean {names[close[0]]!r}?" if close else ""
