"""``supa mamba distil``: distil a Transformer generator into one with Mamba layers."""

from collections.abc import Callable
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from supa.checks import counted
from supa_cli.mamba.train_generator import run_facts, run_generator_training, stored_generator
from supa_cli.options import Choice, CompletedName, Count, InputFile
from supa_cli.training.options import check_output, device_of, require_packages, training_options
from supa_cli.training.stream_options import StreamChoice, chosen_stream, stream_options

if TYPE_CHECKING:
    from supa import Showers
    from supa_mamba.generator.checkpoint import GeneratorCheckpoint
    from supa_mamba.generator.task import GeneratorTask
    from supa_mamba.generator.training_config import GeneratorTrainingConfig

_ADVICE = "To save time, use fewer --epochs, or GPUs (--device cuda, torchrun)."
_DEFAULTS = dict.fromkeys(("epochs", "batch_size", "learning_rate", "weight_decay", "patience"), "that of the teacher")
_SHARE = "1/4"
_MIXERS = {"mamba2": "Mamba-2", "mamba": "Mamba"}
"""Mixers that replace attention, with their names in messages."""


@click.command(name="distil")
@click.argument("teacher", type=InputFile())
@click.argument("data", nargs=-1, type=InputFile(folders=True))
@click.option(
    "--attention",
    metavar="SHARE",
    help=f"Share of the layers that keep attention: 1/N keeps the last of each N layers, 0 none.  [default: {_SHARE}]",
)
@click.option(
    "--attention-by",
    type=Choice(["position", "loss"]),
    help="Which layers keep attention: the last of each N (position), or as many, without which the likelihood of "
    "up to 2,000 validation showers is lowest (loss).  [default: position]",
)
@click.option(
    "--attention-layer",
    "attention_layers",
    type=Count(0),
    multiple=True,
    metavar="INDEX",
    help="A layer that keeps attention, from 0, instead of --attention. Can be repeated.",
)
@click.option(
    "--mixer",
    type=Choice(list(_MIXERS)),
    help="What replaces attention: Mamba-2 or Mamba.  [default: mamba2, or that of the teacher]",
)
@click.option(
    "--divergence",
    type=Choice(["forward", "reverse"]),
    default="forward",
    show_default=True,
    help="Divergence from the teacher: forward is large where the student has too little probability, reverse where it "
    "has too much.",
)
@click.option(
    "--on-policy",
    is_flag=True,
    help="Add a third stage, in which the student samples showers and is trained to the teacher's distributions of "
    "their next hits.",
)
@click.option(
    "--precision",
    type=CompletedName(lambda: ("float32", "bf16")),
    help="Precision of the sequence model in training: float32 or bf16.  [default: that of the teacher]",
)
@click.option(
    "--compare-every",
    type=Count(1),
    metavar="EPOCHS",
    help="Sample up to 2,000 showers after each of this many epochs of the second stage, and compare them with "
    "validation showers: largest pull of a mean, and AUC of a classifier.  [default: never]",
)
@stream_options
@training_options(items="showers", defaults=_DEFAULTS)
def command(
    teacher: str,
    data: tuple[str, ...],
    attention: str | None,
    attention_by: str | None,
    attention_layers: tuple[int, ...],
    mixer: str | None,
    divergence: str,
    on_policy: bool,
    compare_every: int | None,
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
    """Distil the Transformer generator TEACHER into one with Mamba in place of attention in most layers.

    The student begins as a copy of the teacher, in which Mamba has the projections of the attention. The first stage
    trains each new layer to the result of the attention that it replaces. The second stage trains all layers with the
    likelihood of the showers and the divergence from the teacher. With --on-policy, a third stage trains it with the
    divergence on showers that the student samples. --epochs, --patience and the learning rate apply to each stage.

    The showers are those of the files DATA or of --stream, and of configs that the teacher knows. The student is an
    ordinary generator for supa mamba sample. It can be the teacher of another distillation, with less attention.

    To resume an interrupted distillation, repeat the command with --resume.

    Example: supa mamba distil transformer.ckpt --stream standard --attention 1/4 --epochs 10 -o student.ckpt
    """
    path = Path(output)
    check_output(path, resume=resume)
    sizes = {"batches_per_epoch": batches_per_epoch, "validation_showers": validation_showers}
    choice = chosen_stream(stream, energy, given=data, instead="the files DATA", **sizes)
    require_packages("torch")
    from supa_mamba.generator.checkpoint import GeneratorCheckpoint

    place = device_of(device)
    source = GeneratorCheckpoint.load(Path(teacher))
    _check_teacher(source)
    stored = stored_generator(path, resume=resume)

    def least_needed(share: Fraction) -> tuple[int, ...]:
        from supa_mamba.generator.distillation import least_needed_layers

        if stored is not None:
            return stored.config.generator.mamba_layers
        showers = _validation_showers(data, choice, settings["seed"] or 0)
        return least_needed_layers(source.model().to(place), showers, share)

    layers = _layers(source, attention, attention_by, attention_layers, least_needed)
    config = _config(source, layers, mixer, config_file, settings)
    options = {"divergence": divergence, "on_policy": on_policy, "compare_every": compare_every}
    make = partial(_maker(source, config, data, choice), **options)
    run_generator_training(
        make, path, place, stored=stored, facts=_facts, print_start=lambda task: _print_start(task, choice),
        advice=_ADVICE, tensorboard=tensorboard, quiet=quiet,
    )  # fmt: skip


def _check_teacher(source: "GeneratorCheckpoint") -> None:
    model = source.config.generator.model
    if model != "transformer":
        raise click.UsageError(
            f"TEACHER is a generator of the model {model}, but only the attention of a transformer can be replaced; "
            "train one with supa mamba train-generator --model transformer."
        )
    if source.config.generator.paired_layers:
        raise click.UsageError("TEACHER has pairs of layers; distil the generator before supa mamba parallel.")


def _layers(
    source: "GeneratorCheckpoint",
    attention: str | None,
    attention_by: str | None,
    kept: tuple[int, ...],
    least_needed: Callable[[Fraction], tuple[int, ...]],
) -> tuple[int, ...]:
    """Return the layers without attention."""
    from supa_mamba.generator.distillation import layers_without_attention

    count = source.config.generator.n_layer
    if kept:
        for option, value in (("--attention", attention), ("--attention-by", attention_by)):
            if value is not None:
                raise click.UsageError(f"{option} and --attention-layer cannot be used together; choose one.")
        if max(kept) >= count:
            raise click.UsageError(f"--attention-layer: {max(kept)} was given, but the layers are 0 to {count - 1}.")
        layers = tuple(number for number in range(count) if number not in kept)
        # A teacher that is a student has layers without attention.
        if set(layers) <= set(source.config.generator.mamba_layers):
            raise click.UsageError(
                "--attention-layer: all layers with attention were given, so nothing would be replaced; leave out at "
                "least one."
            )
        return layers
    try:
        share = Fraction(attention or _SHARE)
    except (ValueError, ZeroDivisionError):
        raise click.UsageError(f"--attention: {attention} was given, but it must be 0 or 1/N, such as 1/4.") from None
    try:
        by_position = layers_without_attention(count, share)
    except ValueError as error:
        raise click.UsageError(f"--{error}") from None
    return least_needed(share) if attention_by == "loss" else by_position


def _validation_showers(data: tuple[str, ...], choice: StreamChoice | None, seed: int) -> "list[Showers]":
    """Return up to 2,000 validation showers of each file or config."""
    from supa_datasets import ShowerStream
    from supa_mamba.generator.skipping import MOST_SHOWERS
    from supa_mamba.generator.training_showers import split_showers

    if choice is None:
        return [part[:MOST_SHOWERS] for part in split_showers(list(data), "validation")]
    count = min(MOST_SHOWERS, choice.validation_showers)
    return ShowerStream(choice.configs, 1, seed=seed).showers(count)


def _config(
    source: "GeneratorCheckpoint",
    layers: tuple[int, ...],
    mixer: str | None,
    config_file: str | None,
    options: dict[str, Any],
) -> "GeneratorTrainingConfig":
    """Return the settings of the teacher with seed 0, changed by those of a file, changed by options."""
    from supa_mamba.generator.training_config import GeneratorTrainingConfig

    try:
        from_file = {} if config_file is None else GeneratorTrainingConfig.settings_from_file(config_file)
        for name in ("generator", "fields"):
            if name in from_file:
                raise click.UsageError(f"{config_file}: {name} is that of the teacher; leave it out.")
        given = {name: value for name, value in options.items() if value is not None}
        sizes = source.config.generator
        generator = sizes.replace(mamba_layers=layers, mamba_mixer=mixer or sizes.mamba_mixer)
        values = source.config.replace(generator=generator, seed=0).to_dict()
        return GeneratorTrainingConfig.from_dict({**values, **from_file, **given})
    except ValueError as error:
        raise click.UsageError(str(error)) from None


def _maker(
    source: "GeneratorCheckpoint",
    config: "GeneratorTrainingConfig",
    data: tuple[str, ...],
    choice: StreamChoice | None,
) -> Callable[..., "GeneratorTask"]:
    """Return the function that prepares the distillation for the processes."""
    from supa_mamba.generator.distillation import distillation_task, stream_distillation_task

    if choice is None:
        return partial(distillation_task, source.model(), list(data), config)
    return partial(
        stream_distillation_task,
        source.model(),
        choice.configs,
        config,
        batches_per_epoch=choice.batches_per_epoch,
        validation_showers=choice.validation_showers,
    )


def _facts(checkpoint: "GeneratorCheckpoint") -> dict[str, object]:
    return {
        **run_facts(checkpoint),
        "divergence": checkpoint.training["task"].get("divergence", "forward"),
        "on_policy": checkpoint.training["task"].get("on_policy", False),
        "the contents of the showers and of the teacher": checkpoint.digest,
    }


def _print_start(task: "GeneratorTask", choice: StreamChoice | None) -> None:
    sizes = task.config.generator
    kept = [str(number) for number in range(sizes.n_layer) if number not in sizes.mamba_layers]
    origin = "" if choice is None else f" per epoch, simulated from {', '.join(choice.names)}"
    click.echo(
        f"{counted(len(sizes.mamba_layers), 'layer')} of {_MIXERS[sizes.mamba_mixer]}, attention in "
        f"{'layer ' + ', '.join(kept) if kept else 'no layer'}: {counted(task.units, 'shower')} to train on{origin}, "
        f"{len(task.valid):,} to validate on; seed {task.config.seed}, {task.config.precision} on "
        f"{task.processes.device}",
        err=True,
    )
