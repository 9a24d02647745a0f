"""Groups of commands whose modules are loaded when a command is run."""

import importlib
from collections.abc import Mapping
from typing import Any

import click


class LazyGroup(click.Group):
    """Knows the names and help of its commands, and imports a command's module when it is run.

    Args:
        package: the package that holds a module of each command's name, with the command as ``command``.
        summaries: one line on each command.
        arguments: of ``click.Group``.
    """

    def __init__(self, *, package: str, summaries: Mapping[str, str], **arguments: Any) -> None:
        super().__init__(**arguments)
        self._package, self._summaries = package, summaries

    def invoke(self, context: click.Context) -> Any:
        """Run a command; the early end of a file is an error, which click would report as an interruption."""
        try:
            return super().invoke(context)
        except EOFError as error:
            reason = f" ({error})" if str(error) else ""
            raise click.ClickException(f"A file ended before its data{reason}; it is empty or cut.") from None

    def list_commands(self, _context: click.Context) -> list[str]:
        """Name the commands."""
        return sorted(self._summaries)

    def get_command(self, _context: click.Context, name: str) -> click.Command | None:
        """Load a command."""
        if name not in self._summaries:
            return None
        command: click.Command = importlib.import_module(f"{self._package}.{name}").command
        return command

    def resolve_command(
        self, context: click.Context, arguments: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Load the command that the arguments name, or suggest one with a name like it."""
        name = arguments[0]
        if name not in self._summaries and not name.startswith("-") and not context.resilient_parsing:
            from supa.checks import did_you_mean

            context.fail(f"No such command {name!r}.{did_you_mean(name, self._summaries)}")
        return super().resolve_command(context, arguments)

    def format_commands(self, _context: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands without loading them."""
        with formatter.section("Commands"):
            formatter.write_dl(sorted(self._summaries.items()))
