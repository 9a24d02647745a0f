"""``supa mamba evaluate``: evaluate a trained encoder next to baselines."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from supa.checks import counted
from supa.number_format import format_percent
from supa_cli.figure_path import check_figure_path
from supa_cli.options import Choice, Count, InputFile, OutputFile
from supa_cli.signals import deferred_interrupts, mark_output_complete
from supa_cli.tables import print_table
from supa_cli.terminal_text import echo
from supa_cli.training.evaluation import checkpoint_facts, checkpoint_summary, print_confusion
from supa_cli.training.options import DEVICE, JSON, MODEL, device_of, require_packages

if TYPE_CHECKING:
    from supa import ShowerConfig
    from supa_mamba.checkpoint import Checkpoint
    from supa_mamba.evaluation import Evaluation

_BINS = 5


@click.command(name="evaluate")
@MODEL
@click.argument("data", nargs=-1, required=True, type=InputFile(folders=True))
@click.option(
    "--split",
    type=Choice(["train", "validation", "test", "all"]),
    default="test",
    show_default=True,
    help="Part of the showers to evaluate.",
)
@DEVICE
@click.option(
    "--rotations",
    type=Count(1),
    default=1,
    show_default=True,
    help="Number of rotations of each shower about the axis over which predictions are averaged.",
)
@click.option("--plot", "picture", type=OutputFile(), help="Figure to write (png, pdf, svg, ...).  [default: none]")
@click.option("--overwrite", is_flag=True, help="Replace an existing figure.")
@JSON
def command(
    model: str,
    data: tuple[str, ...],
    split: str,
    device: str,
    rotations: int,
    picture: str | None,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Evaluate the encoder in the checkpoint MODEL of `supa mamba train` on the showers of the files DATA.

    For classes, print the accuracies and the confusion matrix. For energies, print the bias, the resolution and the
    root mean square error of ln E. The Bayes-optimal error is included if DATA is a single file from `supa generate
    --record particles`.
    """
    require_packages("torch")
    from supa_mamba.checkpoint import Checkpoint
    from supa_mamba.evaluation import evaluate

    place = device_of(device)
    if picture is not None:
        check_figure_path(Path(picture), "--plot", overwrite=overwrite)
    checkpoint = Checkpoint.load(model)
    evaluation = evaluate(
        checkpoint.model(), checkpoint.encoding, checkpoint.baseline, list(data), split=split, device=place,
        rotations=rotations,
    )  # fmt: skip
    for config in evaluation.unseen_configs:
        differences = _differences(config, evaluation.encoding.configs)
        echo(f"Note: some showers have a config that was not used in training: {differences}.", err=True)
    if picture is not None:
        from supa_mamba.plot import plot_evaluation

        with deferred_interrupts():
            plot_evaluation(evaluation).savefig(picture, dpi=150)
    mark_output_complete()
    if as_json:
        click.echo(json.dumps(_facts(model, checkpoint, split, evaluation), indent=2))
    else:
        _print(checkpoint, split, evaluation)


def _differences(config: "ShowerConfig", trained: "tuple[ShowerConfig, ...]") -> str:
    given, *others = (each.to_dict() for each in (config, *trained))
    values = {name: {str(other[name]): None for other in others} for name in given}
    differences = "; ".join(
        f"{name} {value}, not {' or '.join(values[name])}"
        for name, value in given.items()
        if str(value) not in values[name]
    )
    return differences or "no training config has the same combination of settings"


def _facts(model: str, checkpoint: "Checkpoint", split: str, evaluation: "Evaluation") -> dict[str, Any]:
    facts = {
        **checkpoint_facts(model, checkpoint),
        "split": split,
        "rotations": evaluation.rotations,
        "config": checkpoint.config.to_dict(),
        "processes": checkpoint.processes,
        **evaluation.figures(),
    }
    if evaluation.encoding.classes:
        facts["classes"] = list(evaluation.encoding.classes)
        facts["confusion"] = evaluation.confusion().tolist()
    else:
        facts["by_energy"] = evaluation.by_energy(_BINS)
    return facts


def _print(checkpoint: "Checkpoint", split: str, evaluation: "Evaluation") -> None:
    config = checkpoint.config
    over = f", mean over {evaluation.rotations} rotations" if evaluation.rotations > 1 else ""
    echo(
        f"{config.target}; {counted(config.n_layer, 'layer')} of {config.d_model}; {checkpoint_summary(checkpoint)}; "
        f"{counted(len(evaluation.counts), 'shower')} ({split}{over})"
    )
    if not evaluation.encoding.classes:
        _print_energies(evaluation)
        return
    _print_accuracies(evaluation)
    if config.target != "primary":  # its classes are interchangeable
        print_confusion(evaluation.encoding.classes, evaluation.confusion().tolist())


def _print_accuracies(evaluation: "Evaluation") -> None:
    from supa_mamba.evaluation import LABELS

    heading = "accuracy up to exchange" if evaluation.encoding.name == "primary" else "accuracy"
    accuracies = evaluation.figures()["accuracy"].items()
    print_table(["", heading], [[LABELS[name], format_percent(accuracy, 2)] for name, accuracy in accuracies])


def _print_energies(evaluation: "Evaluation") -> None:
    from supa_mamba.evaluation import LABELS

    others = [name for name in evaluation.predictions if name not in ("model", "constant")]
    figures = evaluation.figures()
    rows = [
        [
            _range(*facts["GeV"]) if "GeV" in facts else "all",
            f"{facts['showers']:,}",
            f"{facts['bias']['model']:+z.3f}",
            f"{facts['resolution']['model']:.3f}",
            *(f"{facts['rms'][name]:.3f}" for name in ("model", *others)),
        ]
        for facts in (*evaluation.by_energy(_BINS), figures)
    ]
    header = ["GeV", "showers", "bias", "resolution", "rms", *(f"rms, {LABELS[name]}" for name in others)]
    print_table(header, rows, title="Error of ln E: bias, resolution (standard deviation) and rms")
    if "bayes_rms" in figures:
        rms = f"{figures['bayes_rms']:.3f}"
        click.echo(f"The Bayes-optimal rms is {rms} on average; a smaller value is a statistical fluctuation.")
    else:
        click.echo("The Bayes-optimal error requires a single file, generated with --record particles.")


def _range(low: float, high: float) -> str:
    return f"{low:.6g}" if low == high else f"{low:.4g} to {high:.4g}"
