"""The group of commands, with one module for each subcommand, and its exit status."""

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
    "gff": "Train and evaluate graph networks without backpropagation.",
    "info": "Show or check the contents of a shower file.",
    "mamba": "Train and evaluate Mamba encoders of showers.",
    "merge": "Merge a folder of shards into one file.",
    "plot": "Draw profiles, single showers, or images of layers.",
    "presets": "List the presets, or print one as a config file.",
    "score": "Score generated showers or predictions for a benchmark task.",
}


@click.group(
    cls=LazyGroup,
    package="supa_cli",
    summaries=COMMANDS,
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(package_name="supa-showers", prog_name="supa")
def cli() -> None:
    """Simulate, convert, compare and draw particle showers, and train networks on them."""


def run() -> int:
    """Run the command line.

    Returns:
        Exit status: 0 (success), 1 (failure), 2 (wrong usage) or 130 (interrupted).
    """
    _open_standard_streams()
    try:
        status = _status_of_run()
        if sys.stdout is not None:
            sys.stdout.flush()
    except BrokenPipeError:
        _discard(1, 2)
        return 1
    except OSError as error:  # such as a full disk
        _discard(1)
        click.echo(f"Error: writing to standard output failed ({error.strerror}).", err=True)
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
    except SystemExit as stop:  # raised by click after a broken pipe or a shell completion
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
    """Escape control characters, which a message may contain from a file or its name."""
    return "\n".join(map(safe, message.split("\n")))


def _open_standard_streams() -> None:
    """Open closed standard streams on the null device, and replace characters that cannot be encoded.

    Otherwise the first file that the command opens would become a standard stream.
    """
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # returns the lowest free descriptor
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def _discard(*streams: int) -> None:
    """Discard the buffered output of standard streams, which Python would otherwise write again at exit."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in streams:
        os.dup2(nowhere, stream)
    os.close(nowhere)
