"""The group of commands, one module for each sub-command, and how a run of it ends."""

import io
import os
import sys

import click

from supa_cli import signals
from supa_cli.lazy_group import LazyGroup
from supa_cli.terminal_text import safe

COMMANDS = {
    "compare": "Compare generated showers with true ones.",
    "convert": "Convert a file of showers to another format.",
    "generate": "Simulate showers into a file.",
    "gff": "Measure graph networks trained with forward passes only.",
    "info": "Show what a shower file holds, and check it.",
    "mamba": "Train encoders of showers, and measure them.",
    "plot": "Draw one shower, the image of a layer, or profiles of many.",
    "presets": "List the presets, or print one as a config file.",
}


@click.group(
    cls=LazyGroup,
    package="supa_cli",
    summaries=COMMANDS,
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(package_name="supa-showers", prog_name="supa")
def cli() -> None:
    """Particle showers whose truth is known, in any amount."""


def run() -> int:
    """Run the command line.

    Returns:
        The exit status: 0, 1 (failed), 2 (usage) or 130 (interrupted).
    """
    _open_standard_streams()
    try:
        status = _status_of_run()
        if sys.stdout is not None:
            sys.stdout.flush()
    except BrokenPipeError:
        _discard(1, 2)
        return 1
    except OSError as error:  # the device of the standard output is full
        _discard(1)
        click.echo(f"Error: the standard output cannot be written ({error.strerror}).", err=True)
        return 1
    return status


def _status_of_run() -> int:
    try:
        return cli(prog_name="supa", standalone_mode=False) or 0
    except click.ClickException as error:
        vars(error)["message"] = _safe_lines(error.message)
        error.show()
        return error.exit_code
    except click.exceptions.Exit as stop:
        return stop.exit_code
    except SystemExit as stop:  # click's own, where the reader of the output has gone, or after a completion
        return stop.code if isinstance(stop.code, int) else 1
    except click.Abort:
        signals.ignore()
        click.echo("Interrupted.", err=True)
        return signals.INTERRUPTED
    except BrokenPipeError:
        raise
    except (ValueError, OSError, MemoryError) as error:
        click.echo(f"Error: {_safe_lines(str(error))}", err=True)
        return 1


def _safe_lines(message: str) -> str:
    """Escape the control characters that a message took from a file or a file's name."""
    return "\n".join(map(safe, message.split("\n")))


def _open_standard_streams() -> None:
    """Let no file of the command take the place of a closed standard stream, and no character be a reason to fail."""
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def _discard(*streams: int) -> None:
    """Discard what is still to be written to standard streams, which Python would try again at its end."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in streams:
        os.dup2(nowhere, stream)
    os.close(nowhere)
