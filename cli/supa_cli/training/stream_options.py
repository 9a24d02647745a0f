"""Options of the training commands that simulate their showers during the training."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from supa_cli.options import Count, PresetOrConfig

if TYPE_CHECKING:
    from supa import ShowerConfig

F = TypeVar("F", bound=Callable[..., Any])

_DEFAULTS = {"batches_per_epoch": 400, "validation_showers": 10_000}


@dataclass(frozen=True)
class StreamChoice:
    """What a training simulates.

    Args:
        names: Names of the configs, as the user gave them.
        configs: The configs.
        batches_per_epoch: Number of batches of an epoch.
        validation_showers: Number of validation showers.
    """

    names: tuple[str, ...]
    configs: "list[ShowerConfig]"
    batches_per_epoch: int
    validation_showers: int


def stream_options(function: F) -> F:
    """Add the options of a stream to a command.

    The decorated function receives ``stream``, ``energy``, ``batches_per_epoch`` and ``validation_showers``, which are
    the arguments of `chosen_stream`.

    Args:
        function: Function of the command.

    Returns:
        The function with the options.
    """
    options = [
        click.option(
            "--stream",
            type=PresetOrConfig(),
            multiple=True,
            help="Simulate the showers during the training, instead of reading them: a preset, or a config as a .toml "
            "or .json file. Can be repeated; the configs are mixed with equal frequencies.",
        ),
        click.option(
            "--energy",
            metavar="GEV",
            help="Incident energy of the stream in GeV: fixed (65), uniform (1:100), log-uniform (log:1:100), or one "
            "of a list (10,20,50).  [default: that of the config]",
        ),
        click.option(
            "--batches-per-epoch",
            type=Count(1),
            help=f"Number of batches of an epoch of the stream.  [default: {_DEFAULTS['batches_per_epoch']}]",
        ),
        click.option(
            "--validation-showers",
            type=Count(1),
            help=f"Number of validation showers of the stream.  [default: {_DEFAULTS['validation_showers']}]",
        ),
    ]
    for option in reversed(options):
        function = option(function)
    return function


def chosen_stream(
    stream: Sequence[str], energy: str | None, *, given: object, instead: str, **numbers: int | None
) -> StreamChoice | None:
    """Return what the options of a stream select.

    Args:
        stream: Value of ``--stream``.
        energy: Value of ``--energy``.
        given: Whether the data were given in the other way.
        instead: Name of the other way, such as ``"DATA"``.
        **numbers: Values of ``--batches-per-epoch`` and ``--validation-showers``.

    Returns:
        The choice, or None if the data were given in the other way.

    Raises:
        click.UsageError: If both ways or none were given, an option needs a stream, or a config is not allowed.
    """
    from supa import ShowerConfig
    from supa.presets import preset

    if bool(stream) == bool(given):
        raise click.UsageError(
            f"{instead} and --stream cannot be used together; choose one."
            if given
            else f"Give the showers to train on: {instead}, or --stream with a preset or a config."
        )
    if not stream:
        for name, value in {"energy": energy, **numbers}.items():
            if value is not None:
                raise click.UsageError(f"--{name.replace('_', '-')} needs --stream.")
        return None
    try:
        configs = [ShowerConfig.from_file(name) if Path(name).suffix else preset(name) for name in stream]
        if energy is not None:
            configs = [config.replace(incident_energy=energy) for config in configs]
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    sizes = {name: value or _DEFAULTS[name] for name, value in numbers.items()}
    return StreamChoice(tuple(Path(name).stem for name in stream), configs, **sizes)
