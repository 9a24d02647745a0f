"""Groups of commands that import the module of a command on demand."""

import importlib
from collections.abc import Mapping
from typing import Any

import click


class LazyGroup(click.Group):
    """A group that lists its commands without importing them.

    Args:
        package: Package with one module for each command, which defines the command as ``command``. Hyphens of the
            command are underscores in the name of the module.
        summaries: Help of one line for each command.
        arguments: Arguments of ``click.Group``.
    """

    def __init__(self, *, package: str, summaries: Mapping[str, str], **arguments: Any) -> None:
        super().__init__(**arguments)
        self._package, self._summaries = package, summaries

    def invoke(self, context: click.Context) -> Any:
        """Run a command, and report an unexpected end of a file, which click would report as an interruption."""
        try:
            return super().invoke(context)
        except EOFError as error:
            reason = f" ({error})" if str(error) else ""
            raise click.ClickException(f"A file ended unexpectedly{reason}; it is empty or truncated.") from None

    def list_commands(self, _context: click.Context) -> list[str]:
        """Return the names of the commands."""
        return sorted(self._summaries)

    def get_command(self, _context: click.Context, name: str) -> click.Command | None:
        """Import a command."""
        if name not in self._summaries:
            return None
        command: click.Command = importlib.import_module(f"{self._package}.{name.replace('-', '_')}").command
        return command

    def resolve_command(
        self, context: click.Context, arguments: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Import the command that the arguments name; the error for an unknown name suggests a similar one."""
        name = arguments[0]
        if name not in self._summaries and not name.startswith("-") and not context.resilient_parsing:
            from supa.checks import did_you_mean

            context.fail(f"No such command {name!r}.{did_you_mean(name, self._summaries)}")
        return super().resolve_command(context, arguments)

    def format_commands(self, _context: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl(sorted(self._summaries.items()))
