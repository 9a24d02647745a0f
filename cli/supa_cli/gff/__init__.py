"""``supa gff``: graph networks; one module for each sub-command, loaded when it is used."""

import click

from supa_cli.lazy_group import LazyGroup

_COMMANDS = {
    "bench": "Compare methods by cross-validation on graph benchmarks.",
    "plot": "Draw the accuracy of a bench's results over time and memory.",
    "evaluate": "Tell how good a trained network is, layer by layer.",
    "train": "Train a network on a graph benchmark, and save it.",
}


@click.group(name="gff", cls=LazyGroup, package="supa_cli.gff", summaries=_COMMANDS)
def command() -> None:
    """Train graph networks with forward passes only, and measure them against others."""
