"""Texts for the terminal, without control characters from files or users."""

import click


def safe(text: object) -> str:
    """Write a text with its control characters escaped.

    Args:
        text: a text, or what is printed as one, such as a path.

    Returns:
        The text, on one line.
    """
    plain = str(text)
    if plain.isprintable():
        return plain  # without the package supa, whose import takes a second
    from supa.texts import printable

    return printable(plain)


def echo(text: object, *, err: bool = False) -> None:
    """Print a line.

    Args:
        text: the line.
        err: print it to the standard error stream.
    """
    click.echo(safe(text), err=err)
