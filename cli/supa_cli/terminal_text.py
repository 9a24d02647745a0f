"""Text for the terminal, with escaped control characters."""

import click


def safe(text: object) -> str:
    """Escape the control characters of a text.

    Args:
        text: A text, or an object that is printed, such as a path.

    Returns:
        The text on one line.
    """
    plain = str(text)
    if plain.isprintable():
        return plain  # avoids the import of supa, which takes a second
    from supa.texts import printable

    return printable(plain)


def echo(text: object, *, err: bool = False) -> None:
    """Print a line.

    Args:
        text: The line.
        err: Whether to print it to standard error.
    """
    click.echo(safe(text), err=err)
