"""Options that have the same name, meaning and position in all training commands."""

from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar

import click

from supa_cli.options import Choice, Count, Folder, InputFile, OutputFile

F = TypeVar("F", bound=Callable[..., Any])

DEVICE = click.option(
    "--device",
    type=Choice(["auto", "cpu", "cuda"]),
    default="auto",
    show_default=True,
    help="Device of the computation; auto uses a GPU if there is one.",
)
JSON = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
MODEL = click.argument("model", type=InputFile())
ACTIVATIONS = click.option(
    "--activations",
    is_flag=True,
    help="Measure outlier features and signal propagation after each layer on validation showers, for --tensorboard.",
)


def training_options(*, items: str, defaults: Mapping[str, object]) -> Callable[[F], F]:
    """Return a decorator that adds the options of every training command.

    The decorated function receives ``config_file``, ``epochs``, ``batch_size``, ``learning_rate``, ``weight_decay``,
    ``patience``, ``seed``, ``device``, ``output``, ``resume``, ``tensorboard`` and ``quiet``. Omitted settings are
    None.

    Args:
        items: Name of the items of a batch, in the plural.
        defaults: Default of each setting, for the help.

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
            help="Settings as a .toml or .json file. Options override them.",
        ),
        click.option("--epochs", type=Count(1), help=f"Maximum number of epochs.{default('epochs')}"),
        click.option("--batch-size", type=Count(1), help=f"Number of {items} per batch.{default('batch_size')}"),
        click.option("--learning-rate", type=float, help=f"Maximum learning rate.{default('learning_rate')}"),
        click.option("--weight-decay", type=float, help=f"Weight decay of the optimiser.{default('weight_decay')}"),
        click.option(
            "--patience",
            type=Count(1),
            help=f"Stop after this many validations without improvement.{default('patience')}",
        ),
        click.option("--seed", type=Count(0), help="Random seed.  [default: 0]"),
        DEVICE,
        click.option(
            "-o",
            "--output",
            type=OutputFile(),
            required=True,
            help="Checkpoint to write, at the end and during training.",
        ),
        click.option("--resume", is_flag=True, help="Resume an interrupted training."),
        click.option("--tensorboard", type=Folder(), help="Folder for TensorBoard event files.  [default: none]"),
        click.option("--quiet", is_flag=True, help="Print only errors."),
    ]

    def decorate(function: F) -> F:
        for option in reversed(options):
            function = option(function)
        return function

    return decorate


def check_activations(*, activations: bool, tensorboard: str | None) -> None:
    """Check that what ``--activations`` measures is written.

    Args:
        activations: Value of ``--activations``.
        tensorboard: Value of ``--tensorboard``.

    Raises:
        click.UsageError: If there are no TensorBoard files.
    """
    if activations and tensorboard is None:
        raise click.UsageError("--activations needs --tensorboard, the folder of the files with its figures.")


def require_packages(*names: str) -> None:
    """Check that the packages of the extra ``learn`` are installed, without importing them.

    Args:
        *names: Names of the modules.

    Raises:
        click.UsageError: If a package is missing.
    """
    for name in names:
        if find_spec(name) is None:
            raise click.UsageError(f"This command needs the package {name}: pip install 'supa-showers[learn]'.")


def check_output(path: Path, *, resume: bool | None) -> None:
    """Check that a checkpoint can be written.

    Args:
        path: Path of the checkpoint.
        resume: Whether the file may exist. None: the command cannot resume.

    Raises:
        click.UsageError: If the suffix is that of a shower file, if the folder does not exist, or if the file exists.
    """
    from supa_cli.suffixes import format_of

    if format_of(str(path)) is not None:
        raise click.UsageError(
            f"{path}: {path.suffix} is the suffix of a shower file, but a checkpoint is written; name it "
            f"{path.with_suffix('.ckpt')}."
        )
    if not path.absolute().parent.is_dir():
        raise click.UsageError(f"{path}: the folder {path.parent} does not exist; make it first.")
    if path.exists() and not resume:
        resuming = "" if resume is None else " resume it (--resume),"
        raise click.UsageError(f"{path} exists; choose another name,{resuming} or delete it.")


def device_of(name: str) -> str:
    """Return the device of ``--device``.

    Args:
        name: ``"auto"``, ``"cpu"`` or ``"cuda"``.

    Returns:
        ``"cpu"`` or ``"cuda"``.

    Raises:
        click.UsageError: If the device is ``"cuda"`` but there is no GPU.
    """
    from supa_learning.processes import choose_device

    try:
        return choose_device(name)
    except ValueError as error:
        raise click.UsageError(f"--device: {error}") from None
