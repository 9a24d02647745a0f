"""The command ``supa``: one module for each sub-command, loaded when it is used."""

import io
import sys

import click

from supa_cli import interruption
from supa_cli.lazy import LazyGroup

_COMMANDS = {
    "compare": "Tell how close generated showers are to true ones.",
    "convert": "Convert a file of showers to another format.",
    "generate": "Simulate showers into a file.",
    "gff": "Measure graph networks trained with forward passes only.",
    "info": "Tell what a shower file holds.",
    "mamba": "Train encoders of showers, and measure them.",
    "plot": "Draw one shower, or the profiles of many, of one file or several.",
    "presets": "List the presets, or print one as a config file.",
}


@click.group(
    cls=LazyGroup,
    package="supa_cli",
    summaries=_COMMANDS,
    context_settings={"help_option_names": ["-h", "--help"]},
)
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
