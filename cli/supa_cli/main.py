"""The command ``supa``: one module for each sub-command, loaded when it is used."""

import importlib
import io
import sys

import click

from supa_cli import interruption

_COMMANDS = {
    "compare": "Tell how close generated showers are to true ones.",
    "convert": "Convert a file of showers to another format.",
    "generate": "Simulate showers into a file.",
    "gff": "Measure graph networks trained with forward passes only.",
    "info": "Tell what a shower file holds.",
    "plot": "Draw one shower, or the profiles of many, of one file or several.",
    "presets": "List the presets, or print one as a config file.",
}


class _LazyGroup(click.Group):
    """Knows the names and help of its commands, and imports a command's module when it is run."""

    def list_commands(self, _context: click.Context) -> list[str]:
        return sorted(_COMMANDS)

    def get_command(self, _context: click.Context, name: str) -> click.Command | None:
        if name not in _COMMANDS:
            return None
        command = importlib.import_module(f"supa_cli.{name}").command
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, _context: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(sorted(_COMMANDS.items()))


@click.command(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="supa-showers", prog_name="supa")
def cli() -> None:
    """Particle showers whose truth is known, in any amount."""


def main() -> None:
    """Run the command line; exit with 0, 1 (failed), 2 (usage) or 130 (interrupted)."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal without these characters is no reason to fail
    try:
        with interruption.in_order():
            sys.exit(cli(standalone_mode=False))
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except click.exceptions.Exit as stop:
        sys.exit(stop.exit_code)
    except (click.Abort, KeyboardInterrupt):
        click.echo("Interrupted.", err=True)
        sys.exit(130)
    except BrokenPipeError:
        sys.stderr.close()  # whoever read the output has gone; say no more
        sys.exit(1)
    except (ValueError, OSError, MemoryError) as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
