"""Checks of the arguments of a method."""

from collections.abc import Sequence

from supa.checks import did_you_mean, format_value


def one_of(allowed: Sequence[str | None], name: str, value: object) -> None:
    """Check that a value is one of the allowed values.

    Args:
        allowed: Allowed values.
        name: Name of the argument, for the error message.
        value: Value to check.

    Raises:
        ValueError: If the value is not allowed.
    """
    if value not in allowed:
        names = [choice for choice in allowed if choice is not None]
        raise ValueError(
            f"{name} must be one of {', '.join(map(repr, allowed))}, got {format_value(value)}."
            f"{did_you_mean(value, names)}"
        )


def one_of_parts(allowed: Sequence[type], name: str, value: object) -> None:
    """Check that a part of a method has an allowed type.

    Args:
        allowed: Allowed classes.
        name: Name of the argument, for the error message.
        value: Part to check.

    Raises:
        ValueError: If the part is not an instance of an allowed class.
    """
    if not isinstance(value, tuple(allowed)):
        names = ", ".join("None" if kind is type(None) else f"{kind.__name__}(...)" for kind in allowed)
        raise ValueError(f"{name} must be one of {names}, got {format_value(value)}.")
