"""``supa mamba train``: train an encoder of showers."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from supa.checks import counted
from supa_cli import choices
from supa_cli.options import CompletedName, Count, InputFile
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
    from supa_mamba.checkpoint import Checkpoint
    from supa_mamba.config import TrainingConfig
    from supa_mamba.training import EncoderTask

_ADVICE = (
    "To save time, use fewer showers or --epochs, a smaller --d-model or --n-layer, or GPUs (--device cuda, torchrun)."
)
_DEFAULTS = {"epochs": 30, "batch_size": 256, "learning_rate": 0.002, "weight_decay": 0.05, "patience": 10}


@click.command(name="train")
@click.argument("data", nargs=-1, type=InputFile(folders=True))
@click.option(
    "--target",
    type=CompletedName(choices.targets),
    help="Quantity to predict: num_primaries, primary, preset or incident_energy. Required here or in --config.",
)
@click.option("--d-model", type=Count(1), help="Number of features per hit.  [default: 64]")
@click.option("--n-layer", type=Count(1), help="Number of layers.  [default: 4]")
@click.option("--d-state", type=Count(1), help="Number of states per channel.  [default: 16]")
@click.option(
    "--warmup", type=float, help="Fraction of the training steps with a rising learning rate.  [default: 0.05]"
)
@click.option("--clip", type=float, help="Maximum norm of the gradient.  [default: 1]")
@click.option(
    "--precision",
    type=CompletedName(lambda: ("float32", "bf16")),
    help="Precision of the computation: float32 or bf16.  [default: float32]",
)
@ACTIVATIONS
@stream_options
@training_options(items="showers", defaults=_DEFAULTS)
def command(
    data: tuple[str, ...],
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
    """Train an encoder on the showers of the files DATA, or on showers that are simulated during the training.

    In files, the index of a shower determines its split: 80 % of the showers are for training, 10 % for validation and
    10 % for testing. With --stream, each training shower is used once, and an epoch is a number of batches.

    To resume an interrupted training, repeat the command with --resume. The final weights are identical to those of an
    uninterrupted training.

    To train on several GPUs, use torchrun: torchrun --nproc-per-node 2 -m supa_cli.main mamba train ...

    Example: supa mamba train showers.h5 --target incident_energy -o e.ckpt
    """
    path = Path(output)
    check_output(path, resume=resume)
    check_activations(activations=activations, tensorboard=tensorboard)
    sizes = {"batches_per_epoch": batches_per_epoch, "validation_showers": validation_showers}
    choice = chosen_stream(stream, energy, given=data, instead="the files DATA", **sizes)
    require_packages("torch")
    config = _config(config_file, {name: value for name, value in settings.items() if value is not None})
    from supa_learning.processes import torchrun_processes
    from supa_learning.trainer import Trainer
    from supa_mamba.checkpoint import Checkpoint
    from supa_mamba.diagnostics import stack_activations

    place = device_of(device)
    stored = Checkpoint.load(path) if resume and path.exists() else None
    make = _files_task(data, config) if choice is None else _stream_task(choice, config)
    with torchrun_processes(place) as processes:
        try:
            task = make(processes=processes)
        except ValueError as error:
            raise click.UsageError(str(error)) from None
        trainer = Trainer(task)
        quiet = quiet or processes.rank > 0
        if not quiet:
            _print_start(task, choice)
        run_training(
            trainer, path, lambda: Checkpoint.of(trainer), stored=stored, facts=_facts, items="showers", advice=_ADVICE,
            tensorboard=tensorboard, measure=stack_activations if activations else None, quiet=quiet,
        )  # fmt: skip


def _files_task(data: tuple[str, ...], config: "TrainingConfig") -> Callable[..., "EncoderTask"]:
    from supa_mamba.packed_showers import packed_showers, training_showers
    from supa_mamba.training import EncoderTask

    encoding, train = training_showers(list(data), config.target)
    return partial(EncoderTask, config, encoding, train, packed_showers(list(data), "validation", encoding))


def _stream_task(choice: StreamChoice, config: "TrainingConfig") -> Callable[..., "EncoderTask"]:
    from supa_mamba.stream_training import stream_training_task

    return partial(
        stream_training_task,
        choice.configs,
        config,
        batches_per_epoch=choice.batches_per_epoch,
        validation_showers=choice.validation_showers,
    )


def _config(config_file: str | None, options: dict[str, Any]) -> "TrainingConfig":
    from supa_mamba.config import TrainingConfig

    try:
        from_file = {} if config_file is None else TrainingConfig.settings_from_file(config_file)
        return TrainingConfig.from_dict({**from_file, **options})
    except ValueError as error:
        raise click.UsageError(str(error)) from None


def _facts(checkpoint: "Checkpoint") -> dict[str, object]:
    train, valid = checkpoint.showers
    return {
        **checkpoint.config.to_dict(),
        "the origin of the showers": "a stream" if checkpoint.streamed else "a file",
        "the number of showers": f"{train:,} for training and {valid:,} for validation",
        # The state of a stream describes its showers.
        "the contents of the showers": None if checkpoint.streamed else checkpoint.digest,
    }


def _print_start(task: "EncoderTask", choice: StreamChoice | None) -> None:
    config, processes = task.config, task.processes
    parameters = sum(weights.numel() for weights in task.encoder.parameters())
    together = f" in each of {processes.count} processes" if processes.count > 1 else ""
    origin = "" if choice is None else f" per epoch, simulated from {', '.join(choice.names)}"
    click.echo(
        f"{config.target}: {counted(task.units, 'shower')} to train on{origin}, {len(task.valid):,} to validate on; "
        f"{counted(parameters, 'parameter')} in {counted(config.n_layer, 'layer')} of {config.d_model}, "
        f"seed {config.seed}, {config.precision} on {processes.device}{together}",
        err=True,
    )
