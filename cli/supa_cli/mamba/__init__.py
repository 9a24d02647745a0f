"""``supa mamba``: encoders and generators of showers, with one module for each subcommand."""

import os

import click

from supa_cli.lazy_group import LazyGroup

_COMMANDS = {
    "distil": "Distil a Transformer generator into one with Mamba layers.",
    "evaluate": "Evaluate a trained encoder, and compare it with baselines.",
    "finetune": "Fine-tune a generator with a reward for its samples.",
    "parallel": "Evaluate pairs of layers of a generator side by side.",
    "refine": "Refine a sample with density ratios from a classifier.",
    "sample": "Sample showers from a generator into a file.",
    "train": "Train an encoder of showers.",
    "train-generator": "Train a generator of showers.",
}


@click.group(name="mamba", cls=LazyGroup, package="supa_cli.mamba", summaries=_COMMANDS)
def command() -> None:
    """Train Mamba models (selective state-space models) of showers: encoders and generators."""
    # By default the threads of PyTorch's OpenMP wait in a busy loop after each operation, and take the processors from
    # the threads of the compiled loops. OpenMP reads the variable when PyTorch is imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
