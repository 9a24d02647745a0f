"""Checks of user input, which return the value or raise a clear error, and parts of error messages."""

import difflib
import math
from collections.abc import Callable, Collection, Iterable
from numbers import Integral, Real

LARGEST = 1e30
"""Limit of lengths and energies. It is far inside the range of float32, so values stay finite in files."""


def check_int(low: int, high: int, name: str, value: object, why: str = "") -> int:
    """Check that a value is an integer within limits.

    Args:
        low: Smallest allowed value.
        high: Largest allowed value.
        name: Name of the argument in the error message.
        value: Value to check.
        why: Reason for the limits in the error message.

    Returns:
        The value as an int.

    Raises:
        ValueError: If the value is not an integer or is outside the limits.
    """
    if isinstance(value, bool) or not isinstance(value, Integral) or not low <= int(value) <= high:
        reason = f" {why}" if why else ""
        raise ValueError(f"{name}: {value!r} was given, but it must be a whole number from {low} to {high}{reason}.")
    return int(value)


def check_real(allowed: Callable[[float], bool], words: str, name: str, value: object) -> float:
    """Check that a value is an allowed real number.

    Args:
        allowed: Function that returns whether a finite number of at most 1e30 is allowed.
        words: Description of the allowed numbers in the error message.
        name: Name of the argument in the error message.
        value: Value to check.

    Returns:
        The value as a float.

    Raises:
        ValueError: If the value is not a number, is not finite, exceeds 1e30 or is not allowed.
    """
    real = not isinstance(value, bool) and isinstance(value, Real)
    if not real or not abs(value) <= LARGEST or not allowed(float(value)):  # type: ignore[arg-type]
        limit = "" if not real or not abs(value) > LARGEST else f", and at most {LARGEST:g}"  # type: ignore[arg-type]
        raise ValueError(f"{name}: {format_value(value)} was given, but it must be a number {words}{limit}.")
    return float(value)  # type: ignore[arg-type]


def format_value(value: object) -> str:
    """Format a value for an error message, on one line and shortened if it is long.

    Args:
        value: Value to format.

    Returns:
        Text of at most about 80 characters.
    """
    if isinstance(value, int) and abs(value) >= 10**20:
        return f"a whole number of {int(math.log10(abs(value))) + 1} digits"
    text = repr(value)
    if "\n" in text:  # the repr of an array
        text = " ".join(text.split())
    return text if len(text) <= 80 else f"{text[:77]}..."


def counted(number: int, noun: str, plural: str | None = None) -> str:
    """Format a number with its noun in the singular or plural.

    Args:
        number: Number of things.
        noun: Noun in the singular.
        plural: Noun in the plural. By default the singular followed by "s".

    Returns:
        Number with commas as thousands separators, followed by the noun.

    Example:
        >>> counted(1, "layer"), counted(1234, "graph"), counted(2, "class", "classes")
        ('1 layer', '1,234 graphs', '2 classes')
    """
    return f"{number:,} {noun if number == 1 else plural or f'{noun}s'}"


def check_name(allowed: Collection[str], what: str, value: object) -> None:
    """Check that a value is one of several names.

    Args:
        allowed: Allowed names.
        what: Kind of the named thing in the error message, with its article.
        value: Value to check.

    Raises:
        ValueError: If the value is not one of the names.

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
    """Return a suggestion for the end of an error message: the most similar allowed name.

    Args:
        given: Wrong name.
        allowed: Allowed names.

    Returns:
        Question with a leading space, or an empty string if no name is similar.

    Example:
        >>> did_you_mean("standart", ["standard", "dense"]), did_you_mean("x", ["standard", "dense"])
        (" Did you mean 'standard'?", '')
    """
    names = {name.lower(): name for name in allowed}
    close = difflib.get_close_matches(given.lower(), names, n=1) if isinstance(given, str) else []
    return f" Did you mean {names[close[0]]!r}?" if close else ""
