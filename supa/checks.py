"""Checks of numbers that a user gives: each gives the number back, or one clear error."""

import math
from collections.abc import Callable
from numbers import Integral, Real

LARGEST = 1e30
"""Lengths and energies stay far inside the range of float32, so that nothing becomes infinite on the way to a file."""


def whole(low: int, high: int, name: str, value: object, why: str = "") -> int:
    """Check a whole number.

    Args:
        low: the smallest that is allowed.
        high: the largest that is allowed.
        name: what the number is called.
        value: what was given.
        why: the reason of the limits, for the message.

    Returns:
        The number.

    Raises:
        ValueError: it is no whole number, or outside the limits.
    """
    if isinstance(value, bool) or not isinstance(value, Integral) or not low <= int(value) <= high:
        reason = f" {why}" if why else ""
        raise ValueError(f"{name}: {value!r} was given, but it must be a whole number from {low} to {high}{reason}.")
    return int(value)


def number(allowed: Callable[[float], bool], words: str, name: str, value: object) -> float:
    """Check a number.

    Args:
        allowed: tells whether a finite number of at most 1e30 is allowed.
        words: says in words which are.
        name: what the number is called.
        value: what was given.

    Returns:
        The number.

    Raises:
        ValueError: it is no number, not finite, beyond 1e30, or not allowed.
    """
    real = not isinstance(value, bool) and isinstance(value, Real)
    if not real or not abs(value) <= LARGEST or not allowed(float(value)):  # type: ignore[arg-type]
        limit = "" if not real or not abs(value) > LARGEST else f", and at most {LARGEST:g}"  # type: ignore[arg-type]
        raise ValueError(f"{name}: {shown(value)} was given, but it must be a number {words}{limit}.")
    return float(value)  # type: ignore[arg-type]


def shown(value: object) -> str:
    """Write a value for a message, cut where it is long.

    Args:
        value: what was given.

    Returns:
        At most about 80 characters.
    """
    if isinstance(value, int) and abs(value) >= 10**20:
        return f"a whole number of {int(math.log10(abs(value))) + 1} digits"
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def counted(number: int, noun: str, plural: str | None = None) -> str:
    """Write a number with its noun in the singular or the plural.

    Args:
        number: how many.
        noun: the noun in the singular.
        plural: the noun in the plural, by default the singular and "s".

    Returns:
        The number with commas between its thousands, and the noun.

    Example:
        >>> counted(1, "layer"), counted(1234, "graph"), counted(2, "class", "classes")
        ('1 layer', '1,234 graphs', '2 classes')
    """
    return f"{number:,} {noun if number == 1 else plural or f'{noun}s'}"
