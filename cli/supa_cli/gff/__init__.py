"""``supa gff``: graph networks, with one module for each subcommand."""

import click

from supa_cli.lazy_group import LazyGroup

_COMMANDS = {
    "bench": "Compare methods by cross-validation on graph benchmarks.",
    "plot": "Draw accuracy over training time and memory.",
    "evaluate": "Evaluate a trained network, layer by layer.",
    "train": "Train a network on a graph benchmark, or on your own graphs.",
}


@click.group(name="gff", cls=LazyGroup, package="supa_cli.gff", summaries=_COMMANDS)
def command() -> None:
    """Train graph networks without backpropagation (Graph Forward-Forward), and compare them with other methods."""
