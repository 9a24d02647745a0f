"""``supa mamba finetune``: fine-tune a generator with a reward for its samples."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from supa.checks import counted
from supa_cli.mamba.train_generator import run_facts, run_generator_training, stored_generator
from supa_cli.options import Choice, Count, Folder, InputFile, OutputFile
from supa_cli.tables import print_table
from supa_cli.training.options import DEVICE, check_output, device_of, require_packages

if TYPE_CHECKING:
    from supa_mamba.generator.checkpoint import GeneratorCheckpoint
    from supa_mamba.generator.finetuning_task import FinetuningTask

_ADVICE = "To save time, use fewer --steps, a smaller --batch-size, or a GPU (--device cuda)."


@click.command(name="finetune")
@click.argument("generator", type=InputFile())
@click.option(
    "--reward",
    type=Choice(["profiles", "density-ratio"]),
    required=True,
    help="profiles: distance of the mean profile from the exact expectation. density-ratio: true over generated "
    "density, from a classifier that is trained on --against.",
)
@click.option(
    "--against",
    metavar="TRAIN",
    type=InputFile(folders=True),
    help="File or folder of true showers, for density-ratio: the training split trains the classifier, the validation "
    "split measures samples.",
)
@click.option(
    "--kl", type=float, help="Coefficient of the divergence from GENERATOR in nats; 0 for none.  [default: 0.1]"
)
@click.option("--steps", type=Count(1), help="Number of updates.  [default: 300]")
@click.option(
    "--interval",
    type=Count(1),
    help="Number of updates after which a sample is measured and the classifier is trained again.  [default: 30]",
)
@click.option("--batch-size", type=Count(1), help="Number of showers that are sampled for an update.  [default: 1024]")
@click.option(
    "--group-size",
    type=Count(1),
    help="Number of showers of a group, which have the same config and similar incident energies.  [default: 256]",
)
@click.option("--measured", type=Count(1), help="Number of showers of a measurement.  [default: 5000]")
@click.option("--learning-rate", type=float, help="Maximum learning rate.  [default: 3e-4]")
@click.option("--warmup", type=float, help="Fraction of the updates with a rising learning rate.  [default: 0.05]")
@click.option("--clip", type=float, help="Maximum norm of the gradient.  [default: 1]")
@click.option("--seed", type=Count(0), help="Random seed.  [default: 0]")
@DEVICE
@click.option(
    "-o", "--output", type=OutputFile(), required=True, help="Checkpoint to write, at the end and during training."
)
@click.option("--resume", is_flag=True, help="Resume an interrupted fine-tuning.")
@click.option("--tensorboard", type=Folder(), help="Folder for TensorBoard event files.  [default: none]")
@click.option("--quiet", is_flag=True, help="Print only errors.")
def command(
    generator: str,
    against: str | None,
    device: str,
    output: str,
    resume: bool,
    tensorboard: str | None,
    quiet: bool,
    **settings: Any,
) -> None:
    """Fine-tune the generator in the file GENERATOR with a reward for the distribution of its samples.

    Showers are sampled from the present generator. Each of their choices gets a credit: by how much it improves the
    reward of the showers of its group. The divergence from GENERATOR is subtracted. Without it (--kl 0), a reward makes
    distributions narrow: what it does not see is lost.

    `profiles` needs showers with exact expectations (no critical energy), and trains the leak and the profile only.
    `density-ratio` trains the whole generator. The result is an ordinary generator for supa mamba sample. Widths,
    coverage and means of samples before and after are printed, and stored in the checkpoint.

    To resume an interrupted fine-tuning, repeat the command with --resume.

    Example: supa mamba finetune generator.ckpt --reward profiles -o tuned.ckpt
    """
    path = Path(output)
    check_output(path, resume=resume)
    require_packages("torch")
    from supa_mamba.generator.checkpoint import GeneratorCheckpoint
    from supa_mamba.generator.finetuning import finetuning_task
    from supa_mamba.generator.finetuning_config import FinetuningConfig

    place = device_of(device)
    source = GeneratorCheckpoint.load(Path(generator))
    try:
        config = FinetuningConfig(**{name: value for name, value in settings.items() if value is not None})
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    stored = stored_generator(path, resume=resume)
    data: dict[str, Any] = {"showers": against}
    if config.reward == "profiles":
        if against is not None:
            raise click.UsageError("--against: the reward profiles has exact expectations; leave it out.")
        data = {"configs": source.shower_configs}
    elif against is None:
        raise click.UsageError("The reward density-ratio needs true showers: --against TRAIN.")

    def make(**options: Any) -> "FinetuningTask":
        return finetuning_task(source.model(), config, **data, **options)

    run_generator_training(
        make, path, place, stored=stored, facts=_facts, print_start=_print_start, advice=_ADVICE,
        tensorboard=tensorboard, quiet=quiet,
    )  # fmt: skip
    if not quiet:
        _print_measurements(GeneratorCheckpoint.load(path), path)


def _facts(checkpoint: "GeneratorCheckpoint") -> dict[str, object]:
    facts = run_facts(checkpoint)
    settings = checkpoint.training["task"].get("finetuning", {})
    return {**facts, **settings, "the contents of the showers and of the generator": checkpoint.digest}


def _print_start(task: "FinetuningTask") -> None:
    trained = sum(weights.numel() for weights in task.model.parameters() if weights.requires_grad)
    config = task.finetuning
    click.echo(
        f"{config.reward}: {counted(trained, 'parameter')} to train, {counted(config.steps, 'step')} of "
        f"{counted(config.batch_size, 'shower')}, {len(task.valid):,} true showers to measure; kl {config.kl:g}, seed "
        f"{config.seed}, on {task.processes.device}",
        err=True,
    )


def _print_measurements(checkpoint: "GeneratorCheckpoint", path: Path) -> None:
    before, after = checkpoint.training["task"]["before"], checkpoint.training["state"]["history"][-1]["valid"]
    rows = [
        [f"{part}: {name.replace('_', ' ')}", f"{value:.4g}", f"{after[part][name]:.4g}"]
        for part, figures in before.items()
        for name, value in figures.items()
        if name in after[part]
    ]
    print_table(["", "before", "after"], rows, title=f"{path}: samples before and after")
