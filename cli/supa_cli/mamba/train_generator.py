"""``supa mamba train-generator``: train a generator of showers."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from supa.checks import counted
from supa_cli import choices
from supa_cli.options import Choice, CompletedName, Count, InputFile
from supa_cli.training.options import (
    ACTIVATIONS,
    check_activations,
    check_output,
    device_of,
    require_packages,
    training_options,
)
from supa_cli.training.session import run_training
from supa_cli.training.stream_options import StreamChoice, chosen_stream, stream_options

if TYPE_CHECKING:
    from supa_datasets import BenchmarkTask
    from supa_mamba.generator.checkpoint import GeneratorCheckpoint
    from supa_mamba.generator.task import GeneratorTask
    from supa_mamba.generator.training_config import GeneratorTrainingConfig

_ADVICE = "To save time, use a smaller --preset, fewer --epochs, or GPUs (--device cuda, torchrun)."
_OF_PRESET = "[default: that of the preset]"
_DEFAULTS = dict.fromkeys(("epochs", "batch_size", "learning_rate", "weight_decay", "patience"), "that of the preset")
_SIZES = ("model", "d_model", "n_layer", "d_state", "block")


@click.command(name="train-generator")
@click.argument("data", nargs=-1, type=InputFile(folders=True))
@click.option(
    "--preset",
    type=Choice(["small", "base", "large"]),
    default="small",
    show_default=True,
    help="Sizes of the generator and settings of its training: small for a few CPU cores, base and large for a GPU.",
)
@click.option(
    "--task",
    "task_name",
    type=CompletedName(choices.generation_tasks),
    help="Train on the training showers of a benchmark task, which are simulated first; see supa score --list.",
)
@click.option(
    "--field",
    "fields",
    multiple=True,
    metavar="NAME",
    help="Condition of the generator beside the incident energy: a numerical field of the config, such as split_late, "
    "or preset, to distinguish the configs of the showers. Can be repeated.",
)
@click.option(
    "--model",
    type=CompletedName(choices.sequence_models),
    help=f"Layers of the sequence model: {', '.join(choices.sequence_models())}.  {_OF_PRESET}",
)
@click.option("--d-model", type=Count(1), help=f"Number of features per hit.  {_OF_PRESET}")
@click.option("--n-layer", type=Count(1), help=f"Number of layers.  {_OF_PRESET}")
@click.option("--d-state", type=Count(1), help=f"Number of states per channel.  {_OF_PRESET}")
@click.option(
    "--block",
    type=CompletedName(lambda: ("pre-norm", "outlier-protected")),
    help=f"Kind of the layers: pre-norm, or outlier-protected, without norms on the residual.  {_OF_PRESET}",
)
@click.option("--warmup", type=float, help=f"Fraction of the steps with a rising learning rate.  {_OF_PRESET}")
@click.option("--clip", type=float, help=f"Maximum norm of the gradient.  {_OF_PRESET}")
@click.option("--ema", type=float, help=f"Fraction of the averaged weights that a step keeps.  {_OF_PRESET}")
@click.option(
    "--precision",
    type=CompletedName(lambda: ("float32", "bf16")),
    help=f"Precision of the sequence model in training: float32 or bf16.  {_OF_PRESET}",
)
@click.option(
    "--compare-every",
    type=Count(1),
    metavar="EPOCHS",
    help="Sample up to 2,000 showers after each of this many epochs, and compare them with validation showers: largest "
    "pull of a mean, and AUC of a classifier.  [default: never]",
)
@ACTIVATIONS
@stream_options
@training_options(items="showers", defaults=_DEFAULTS)
def command(
    data: tuple[str, ...],
    preset: str,
    task_name: str | None,
    compare_every: int | None,
    activations: bool,
    stream: tuple[str, ...],
    energy: str | None,
    batches_per_epoch: int | None,
    validation_showers: int | None,
    config_file: str | None,
    device: str,
    output: str,
    resume: bool,
    tensorboard: str | None,
    quiet: bool,
    **settings: Any,
) -> None:
    """Train a generator on the showers of the files DATA, of a benchmark task, or of a stream.

    The loss is the negative logarithm of the likelihood, in nats per hit. It is printed with its parts after each
    epoch, for the training showers, and for the validation showers with averaged weights.

    In files, the index of a shower determines its split: 80 % of the showers are for training, 10 % for validation and
    10 % for testing. With --stream, each training shower is used once, and an epoch is a number of batches.

    To resume an interrupted training, repeat the command with --resume. The final weights are identical to those of an
    uninterrupted training.

    To train on several GPUs, use torchrun: torchrun --nproc-per-node 2 -m supa_cli.main mamba train-generator ...

    Example: supa mamba train-generator --stream standard -o g.ckpt

    Example: supa mamba train-generator --preset base --task conditional-points -o g.ckpt
    """
    path = Path(output)
    check_output(path, resume=resume)
    check_activations(activations=activations, tensorboard=tensorboard)
    if data and task_name is not None:
        raise click.UsageError("the files DATA and --task cannot be used together; choose one.")
    sizes = {"batches_per_epoch": batches_per_epoch, "validation_showers": validation_showers}
    instead = "--task" if task_name is not None else "the files DATA" if data else "the files DATA, --task"
    choice = chosen_stream(stream, energy, given=data or task_name, instead=instead, **sizes)
    task = None if task_name is None else _benchmark_task(task_name)
    require_packages("torch")
    from supa_mamba.diagnostics import stack_activations

    config = _config(preset, config_file, {name: value for name, value in settings.items() if value not in (None, ())})
    place = device_of(device)
    stored = stored_generator(path, resume=resume)
    make = partial(_maker(config, data, task, choice), compare_every=compare_every)
    origin = f"of {task.name}" if task is not None else ""
    if choice is not None:
        origin = f"per epoch, simulated from {', '.join(choice.names)}"
    run_generator_training(
        make, path, place, stored=stored, facts=run_facts, print_start=lambda task: _print_start(task, origin),
        advice=_ADVICE, tensorboard=tensorboard, measure=stack_activations if activations else None, quiet=quiet,
    )  # fmt: skip


def stored_generator(path: Path, *, resume: bool) -> "GeneratorCheckpoint | None":
    """Return the checkpoint to resume from, if there is one."""
    from supa_mamba.generator.checkpoint import GeneratorCheckpoint

    return GeneratorCheckpoint.load(path) if resume and path.exists() else None


def run_generator_training(
    make: Callable[..., Any],
    path: Path,
    place: Any,
    *,
    print_start: Callable[[Any], None],
    quiet: bool,
    **options: Any,
) -> None:
    """Train a generator in the processes of torchrun, and store its checkpoints.

    Args:
        make: Function of the processes that prepares the training: a `GeneratorTask`, or a `FinetuningTask`.
        path: File of the checkpoint.
        place: Device of the training.
        print_start: Function that prints what is trained.
        quiet: Whether to print only errors.
        **options: Further arguments of `run_training`.
    """
    from supa_learning.processes import torchrun_processes
    from supa_learning.trainer import Trainer
    from supa_mamba.generator.checkpoint import GeneratorCheckpoint

    with torchrun_processes(place) as processes:
        try:
            task = make(processes=processes)
        except ValueError as error:
            raise click.UsageError(str(error)) from None
        trainer = Trainer(task)
        quiet = quiet or processes.rank > 0
        if not quiet:
            print_start(task)
        run_training(trainer, path, lambda: GeneratorCheckpoint.of(trainer), items="showers", quiet=quiet, **options)


def _benchmark_task(name: str) -> "BenchmarkTask":
    from supa_datasets import benchmark_task

    try:
        task = benchmark_task(name)
    except ValueError as error:
        raise click.UsageError(f"--task: {error}") from None
    if task.kind != "generation":
        raise click.UsageError(
            f"--task: {name} is a task of {task.kind}, but a generator needs a task of generation: "
            f"{', '.join(choices.generation_tasks())}."
        )
    return task


def _maker(
    config: "GeneratorTrainingConfig",
    data: tuple[str, ...],
    task: "BenchmarkTask | None",
    choice: StreamChoice | None,
) -> Callable[..., "GeneratorTask"]:
    """Return the function that prepares the training for the processes."""
    from supa_mamba.generator.stream_training import stream_generator_task
    from supa_mamba.generator.training import generator_task, task_of_splits

    if choice is not None:
        return partial(
            stream_generator_task,
            choice.configs,
            config,
            batches_per_epoch=choice.batches_per_epoch,
            validation_showers=choice.validation_showers,
        )
    if task is not None:
        return partial(task_of_splits, [task.simulate("train")], [task.simulate("validation")], config)
    return partial(generator_task, list(data), config)


def _config(preset: str, config_file: str | None, options: dict[str, Any]) -> "GeneratorTrainingConfig":
    """Return the settings of the preset, changed by those of a file, changed by options."""
    from supa_mamba.generator.training_config import GENERATOR_PRESETS, GeneratorTrainingConfig

    sizes = {name: options.pop(name) for name in _SIZES if name in options}
    try:
        from_file = {} if config_file is None else GeneratorTrainingConfig.settings_from_file(config_file)
        values = GENERATOR_PRESETS[preset].to_dict()
        of_file = from_file.pop("generator", {})
        if not isinstance(of_file, Mapping):
            return GeneratorTrainingConfig.from_dict({"generator": of_file})  # raises the error
        generator = {**values["generator"], **of_file, **sizes}
        return GeneratorTrainingConfig.from_dict({**values, **from_file, **options, "generator": generator})
    except ValueError as error:
        raise click.UsageError(str(error)) from None


def run_facts(checkpoint: "GeneratorCheckpoint") -> dict[str, object]:
    """Return the settings and data that identify the training of a generator.

    Args:
        checkpoint: Checkpoint of the training.

    Returns:
        Values by their description.
    """
    train, valid = checkpoint.showers
    settings = checkpoint.config.to_dict()
    return {
        **settings.pop("generator"),
        **settings,
        "the origin of the showers": "a stream" if checkpoint.streamed else "files or a task",
        "the number of showers": f"{train:,} for training and {valid:,} for validation",
        # The state of a stream describes its showers.
        "the contents of the showers": None if checkpoint.streamed else checkpoint.digest,
    }


def _print_start(task: "GeneratorTask", origin: str) -> None:
    sizes, processes = task.config.generator, task.processes
    parameters = sum(weights.numel() for weights in task.model.parameters())
    together = f" in each of {processes.count} processes" if processes.count > 1 else ""
    click.echo(
        f"{sizes.model}: {counted(task.units, 'shower')} to train on {origin}".rstrip()
        + f", {len(task.valid):,} to validate on; {counted(parameters, 'parameter')} in "
        f"{counted(sizes.n_layer, 'layer')} of {sizes.d_model}, seed {task.config.seed}, {task.config.precision} on "
        f"{processes.device}{together}",
        err=True,
    )
