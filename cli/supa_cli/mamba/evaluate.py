"""``supa mamba evaluate``: tell how good a trained encoder is, beside answers that only count hits."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from supa.checks import counted
from supa_cli.checkpoints import chosen_device
from supa_cli.figure_path import check_figure_path
from supa_cli.interruption import finished, in_order
from supa_cli.options import Choice, InputFile, OutputFile
from supa_cli.tables import print_table
from supa_cli.terminal_text import echo

if TYPE_CHECKING:
    from supa import ShowerConfig
    from supa_mamba.checkpoint import Checkpoint
    from supa_mamba.evaluation import Evaluation

_BINS = 5


@click.command(name="evaluate")
@click.argument("model", type=InputFile())
@click.argument("data", nargs=-1, required=True, type=InputFile())
@click.option(
    "--split",
    type=Choice(["train", "validation", "test", "all"]),
    default="test",
    show_default=True,
    help="Which of the showers.",
)
@click.option("--device", type=Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True)
@click.option("--plot", "picture", type=OutputFile(), help="Picture to write (png, pdf, svg, ...).")
@click.option("--overwrite", is_flag=True, help="Replace the picture.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(
    model: str,
    data: tuple[str, ...],
    split: str,
    device: str,
    picture: str | None,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Tell how good the encoder of MODEL, a file of `supa mamba train`, is on the showers of the files DATA.

    Classes: accuracies, and counts by true class and answer. Energies: bias, resolution and root mean square of the
    error of ln E; with recorded particles (generate --record particles) also of the best estimate there can be.
    """
    try:
        from supa_mamba.checkpoint import Checkpoint
    except ImportError:
        raise click.UsageError("Encoders need PyTorch: pip install 'supa-showers[learn]'.") from None
    from supa_mamba.evaluation import evaluated

    place = chosen_device(device)
    if picture is not None:
        check_figure_path(Path(picture), "--plot", overwrite=overwrite)
    checkpoint = Checkpoint.load(model)
    evaluation = evaluated(
        checkpoint.encoder(), checkpoint.reading, checkpoint.rivals, list(data), split=split, device=place
    )
    for config in evaluation.foreign:
        differences = _differences(config, evaluation.reading.configs)
        echo(f"Note: there are showers whose config the encoder has not learnt from: {differences}.", err=True)
    if picture is not None:
        from supa_mamba.plot import plot_evaluation

        with in_order():
            plot_evaluation(evaluation).savefig(picture, dpi=150)
    finished()
    if as_json:
        click.echo(json.dumps(_facts(model, checkpoint, split, evaluation), indent=2))
    else:
        _print(checkpoint, split, evaluation)


def _differences(config: "ShowerConfig", learnt: "tuple[ShowerConfig, ...]") -> str:
    given, *others = (each.to_dict() for each in (config, *learnt))
    values = {name: {str(other[name]): None for other in others} for name in given}
    told = "; ".join(
        f"{name} {value}, not {' or '.join(values[name])}"
        for name, value in given.items()
        if str(value) not in values[name]
    )
    return told or "no one of them has all of its constants"


def _facts(model: str, checkpoint: "Checkpoint", split: str, evaluation: "Evaluation") -> dict[str, Any]:
    facts = {
        "path": model,
        "split": split,
        "finished": checkpoint.finished,
        "epochs": checkpoint.epochs,
        "config": checkpoint.config.to_dict(),
        "processes": checkpoint.processes,
        "versions": dict(checkpoint.versions),
        **evaluation.figures(),
    }
    if evaluation.reading.classes:
        facts["classes"] = list(evaluation.reading.classes)
        facts["confusion"] = evaluation.confusion().tolist()
    else:
        facts["by_energy"] = evaluation.by_energy(_BINS)
    return facts


def _print(checkpoint: "Checkpoint", split: str, evaluation: "Evaluation") -> None:
    config = checkpoint.config
    echo(
        f"{config.target}; {counted(config.n_layer, 'layer')} of {config.d_model}, seed {config.seed}; "
        f"{'finished' if checkpoint.finished else 'interrupted'} after {counted(checkpoint.epochs, 'epoch')}; "
        f"{counted(len(evaluation.counts), 'shower')} ({split})"
    )
    if not evaluation.reading.classes:
        _print_energies(evaluation)
        return
    _print_accuracies(evaluation)
    if config.target != "primary":  # whose classes have no order
        _print_confusion(evaluation)


def _print_accuracies(evaluation: "Evaluation") -> None:
    heading = "accuracy up to exchange" if evaluation.reading.task == "primary" else "accuracy"
    accuracies = evaluation.figures()["accuracy"].items()
    print_table(["", heading], [[who, f"{100 * accuracy:.2f} %"] for who, accuracy in accuracies])


def _print_confusion(evaluation: "Evaluation") -> None:
    names = evaluation.reading.classes
    by_class = zip(names, evaluation.confusion().tolist(), strict=True)
    rows = [[name, *(f"{count:,}" for count in counts)] for name, counts in by_class]
    print_table(["", *names], rows, title="true class in rows, answer in columns")


def _print_energies(evaluation: "Evaluation") -> None:
    rivals = [who for who in evaluation.answers if who not in ("model", "one value for all")]
    figures = evaluation.figures()
    rows = [
        [
            _range(*facts["GeV"]) if "GeV" in facts else "all",
            f"{facts['showers']:,}",
            f"{facts['bias']['model']:+z.3f}",
            f"{facts['resolution']['model']:.3f}",
            *(f"{facts['rms'][who]:.3f}" for who in ("model", *rivals)),
        ]
        for facts in (*evaluation.by_energy(_BINS), figures)
    ]
    header = ["GeV", "showers", "bias", "resolution", "rms", *(f"rms, {who}" for who in rivals)]
    print_table(header, rows, title="error of ln E: bias, resolution (standard deviation), rms")
    if "least_rms" in figures:
        click.echo(f"No estimate can have a smaller rms than {figures['least_rms']:.3f}, but for chance.")
    else:
        click.echo("The least possible error is told of a single file with particles (generate --record particles).")


def _range(low: float, high: float) -> str:
    return f"{low:.6g}" if low == high else f"{low:.4g} to {high:.4g}"
