"""Options of the training commands: each has the same name, meaning and position in all of them."""

from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar

import click

from supa_cli.options import Choice, Count, Folder, InputFile, OutputFile

F = TypeVar("F", bound=Callable[..., Any])

DEVICE = click.option(
    "--device", type=Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True, help="Device to compute on."
)
JSON = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
MODEL = click.argument("model", type=InputFile())


def training_options(*, items: str, defaults: Mapping[str, object]) -> Callable[[F], F]:
    """Return a decorator that adds the options of every training command.

    The decorated function receives ``config_file``, ``epochs``, ``batch_size``, ``learning_rate``, ``weight_decay``,
    ``patience``, ``seed``, ``device``, ``output``, ``resume``, ``tensorboard`` and ``quiet``; settings that are not
    given are None.

    Args:
        items: what a batch consists of, in the plural.
        defaults: the default of each setting, for the help.

    Returns:
        The decorator.
    """

    def default(name: str) -> str:
        value = defaults[name]
        return f"  [default: {value if isinstance(value, str) else f'{value:g}'}]"

    options = [
        click.option(
            "--config",
            "config_file",
            type=click.Path(dir_okay=False),
            help="Settings from a .toml or .json file; options override them.",
        ),
        click.option("--epochs", type=Count(1), help=f"Maximum number of epochs.{default('epochs')}"),
        click.option("--batch-size", type=Count(1), help=f"Number of {items} of a batch.{default('batch_size')}"),
        click.option("--learning-rate", type=float, help=f"Highest learning rate.{default('learning_rate')}"),
        click.option("--weight-decay", type=float, help=f"Weight decay.{default('weight_decay')}"),
        click.option(
            "--patience",
            type=Count(1),
            help=f"Validations without improvement after which training stops.{default('patience')}",
        ),
        click.option("--seed", type=Count(0), help="Seed of all random numbers.  [default: 0]"),
        DEVICE,
        click.option("-o", "--output", type=OutputFile(), required=True, help="Checkpoint to write."),
        click.option("--resume", is_flag=True, help="Resume an interrupted training."),
        click.option("--tensorboard", type=Folder(), help="Folder for TensorBoard event files."),
        click.option("--quiet", is_flag=True, help="Print errors only."),
    ]

    def decorate(function: F) -> F:
        for option in reversed(options):
            function = option(function)
        return function

    return decorate


def require_packages(*names: str) -> None:
    """Check that the packages of the extra ``learn`` are installed, without importing them.

    Args:
        *names: names of the modules.

    Raises:
        click.UsageError: one of them is missing.
    """
    for name in names:
        if find_spec(name) is None:
            raise click.UsageError(f"This command needs the package {name}: pip install 'supa-showers[learn]'.")


def check_output(path: Path, *, resume: bool) -> None:
    """Check that a checkpoint can be written.

    Args:
        path: the file.
        resume: whether the file may exist.

    Raises:
        click.UsageError: the name is that of a shower file, the folder does not exist, or the file exists.
    """
    from supa_cli.suffixes import format_of

    if format_of(str(path)) is not None:
        raise click.UsageError(
            f"{path}: {path.suffix} is the ending of a shower file, but a checkpoint is written; name it "
            f"{path.with_suffix('.ckpt')}."
        )
    if not path.absolute().parent.is_dir():
        raise click.UsageError(f"{path}: the folder {path.parent} does not exist; make it first.")
    if path.exists() and not resume:
        raise click.UsageError(f"{path} exists; choose another name, resume it (--resume), or delete it.")


def device_of(name: str) -> str:
    """Return the device of ``--device``.

    Args:
        name: auto, cpu or cuda.

    Returns:
        cpu or cuda.

    Raises:
        click.UsageError: cuda was given, but there is no GPU.
    """
    from supa_learning.processes import choose_device

    try:
        return choose_device(name)
    except ValueError as error:
        raise click.UsageError(f"--device: {error}") from None
