"""Checks of names and parts, with one clear error each."""

from collections.abc import Sequence

from supa.checks import did_you_mean, format_value


def one_of(allowed: Sequence[str | None], name: str, value: object) -> None:
    """Check a choice.

    Args:
        allowed: the choices.
        name: what is chosen.
        value: what was given.

    Raises:
        ValueError: it is none of them.
    """
    if value not in allowed:
        names = [choice for choice in allowed if choice is not None]
        raise ValueError(
            f"{name}: {format_value(value)} was given, but it is one of {', '.join(map(repr, allowed))}."
            f"{did_you_mean(value, names)}"
        )


def one_of_parts(allowed: Sequence[type], name: str, value: object) -> None:
    """Check a part of a method.

    Args:
        allowed: the classes of parts that fit.
        name: what the part is for.
        value: what was given.

    Raises:
        ValueError: it is no instance of any of them.
    """
    if not isinstance(value, tuple(allowed)):
        names = ", ".join("None" if kind is type(None) else f"{kind.__name__}(...)" for kind in allowed)
        raise ValueError(f"{name}: {format_value(value)} was given, but it is one of {names}.")
