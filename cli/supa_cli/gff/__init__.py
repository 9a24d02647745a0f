"""``supa gff``: graph networks; one module for each sub-command, loaded when it is used."""

import click

from supa_cli.lazy import LazyGroup

_COMMANDS = {
    "bench": "Compare methods by cross-validation on graph benchmarks.",
    "plot": "Draw the accuracy of a bench's results over time and memory.",
}


@click.group(name="gff", cls=LazyGroup, package="supa_cli.gff", summaries=_COMMANDS)
def command() -> None:
    """Measure graph networks trained with forward passes only, beside others."""
