"""``supa mamba``: encoders of showers; one module for each sub-command, loaded when it is used."""

import click

from supa_cli.lazy_group import LazyGroup

_COMMANDS = {
    "evaluate": "Tell how good a trained encoder is, beside answers that only count hits.",
    "train": "Train an encoder of showers, and save it.",
}


@click.group(name="mamba", cls=LazyGroup, package="supa_cli.mamba", summaries=_COMMANDS)
def command() -> None:
    """Train encoders of selective state spaces on showers, and measure them."""
