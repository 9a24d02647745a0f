"""``supa gff train``: train a network on a graph benchmark, and save it."""

import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from supa.checks import counted
from supa_cli import known
from supa_cli.checkpoints import board, check_output, check_same, chosen_device, saved
from supa_cli.forecast import Forecast
from supa_cli.interruption import check, in_order
from supa_cli.options import Choice, Count, Folder, Known, OutputFile
from supa_cli.printed import echo

if TYPE_CHECKING:
    from supa_gff.checkpoint import Checkpoint
    from supa_gff.method import Method
    from supa_gff.splits.standard import Split
    from supa_gff.training import Epoch, Trainer

_SECONDS_BETWEEN_FILES = 5.0
_ADVICE = "Fewer --epochs, or smaller --layers and --hidden-channels take less, and so does a GPU (--device cuda)."


@click.command(name="train")
@click.option(
    "--dataset",
    type=Known(known.datasets),
    required=True,
    help="A graph benchmark, such as MUTAG or Cora.",
)
@click.option(
    "--method",
    "method_name",
    type=Known(known.trained_methods),
    default="best",
    show_default=True,
    help="Training method.",
)
@click.option(
    "--conv",
    type=Known(known.convolutions),
    help="Convolution: gcn, gin, sage, gat, ...  [default: the method's]",
)
@click.option("--layers", type=Count(1), help="Number of layers.  [default: the method's]")
@click.option("--hidden-channels", type=Count(1), help="Channels of each layer.  [default: the method's]")
@click.option("--epochs", type=Count(1), help="Most epochs; of each layer, if greedy.  [default: the method's]")
@click.option("--batch-size", type=Count(1), help="GraphSet a batch.  [default: the method's]")
@click.option("--learning-rate", type=float, help="Of Adam.  [default: the method's]")
@click.option("--root", type=Folder(exists=True), help="Folder of the set's raw files.  [default: download them]")
@click.option("--fold", type=Count(0), default=0, show_default=True, help="The fold that tests.")
@click.option("--folds", type=Count(2), default=10, show_default=True, help="Stratified folds of a set of graphs.")
@click.option("--seed", type=Count(0), default=0, show_default=True, help="Of everything random.")
@click.option("--device", type=Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True)
@click.option("-o", "--output", type=OutputFile(), required=True, help="Checkpoint to write.")
@click.option("--resume", is_flag=True, help="Go on with an interrupted training.")
@click.option("--tensorboard", type=Folder(), help="Folder for TensorBoard's events.")
@click.option("--quiet", is_flag=True, help="Print errors only.")
def command(
    dataset: str,
    method_name: str,
    root: str | None,
    fold: int,
    folds: int,
    seed: int,
    device: str,
    output: str,
    resume: bool,
    tensorboard: str | None,
    quiet: bool,
    **changes: Any,
) -> None:
    """Train a network on a graph benchmark, and tell how good it is on data that it has not seen.

    The checkpoint is whole whenever one looks. An interrupted training goes on with the same command and --resume, to
    the same weights.
    """
    path = Path(output)
    check_output(path, resume=resume)
    method = _method(dataset, method_name, {name: value for name, value in changes.items() if value is not None})

    from supa_cli.gff.results import print_results
    from supa_cli.gff.told import epochs_told
    from supa_datasets import load_benchmark
    from supa_gff.checkpoint import Checkpoint
    from supa_gff.data import GraphSet
    from supa_gff.networks.network import Network
    from supa_gff.performance import performances
    from supa_gff.splits.standard import standard_split
    from supa_gff.training import Trainer

    place = chosen_device(device)
    record = board(tensorboard)
    stored = Checkpoint.load(path) if resume and path.exists() else None
    with in_order():
        benchmark = load_benchmark(dataset, root=root)
    graphs = GraphSet.of_benchmark(benchmark).to(place)
    try:
        split = standard_split(benchmark, fold=fold, folds=folds, seed=seed)
        network = Network.for_graphs(method, graphs, seed=seed)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    trainer = Trainer(network, graphs, split.train, split.valid, seed=seed)
    if stored is not None:
        _check_same(path, stored, Checkpoint.of(trainer, benchmark=dataset, split=split))
        trainer.load_state_dict(dict(stored.training))
    first = Checkpoint.of(trainer, benchmark=dataset, split=split)
    if not quiet:
        click.echo(f"{benchmark!r}", err=True)
        click.echo(
            f"{split.words}: {len(split.train):,} train, {len(split.valid):,} validate, {len(split.test):,} test; "
            f"{method_name} with {method.conv}, {counted(method.layers, 'layer')} of {method.hidden_channels}, "
            f"seed {seed}, on {place}",
            err=True,
        )
        if stored is not None:
            before = len(trainer.state.history)
            echo(f"{path}: {'finished' if stored.finished else 'going on'} after {counted(before, 'epoch')}", err=True)
    started = time.perf_counter()
    with (
        saved(
            path,
            first,
            fresh=stored is None,
            seconds=_SECONDS_BETWEEN_FILES,
            words=_words,
        ) as save,
        epochs_told(quiet=quiet or trainer.state.finished) as told,
        record(len(trainer.state.history)) as write,
    ):

        def keep() -> None:
            # Taken now: an interruption comes in the midst of an epoch, with the weights of a step.
            checkpoint = replace(first, training=trainer.state_dict())
            save(lambda: checkpoint, checkpoint.finished)

        def on_epoch(trainer: Trainer, epoch: "Epoch") -> None:
            keep()
            told(epoch)
            write(_figures(epoch), len(trainer.state.history) - 1)

        forecast = Forecast(_ADVICE, quiet=quiet)
        batches, total = 0, _batches_to_go(trainer)

        def on_batch() -> None:
            nonlocal batches
            check()
            forecast(batches, total)
            batches += 1

        trainer.on_epoch, trainer.on_batch = on_epoch, on_batch
        trainer.run()
        keep()
    if quiet:
        return
    print_results(network, performances(network, graphs, split))
    seconds = time.perf_counter() - started
    echo(f"{path}: {counted(len(trainer.state.history), 'epoch')}, {seconds:,.1f} s now")


def _method(dataset: str, name: str, changes: dict[str, Any]) -> "Method":
    from supa.checks import check_name
    from supa_datasets import BENCHMARKS
    from supa_gff.names import CONVOLUTIONS, check_method

    # What is misspelt is found before PyTorch is loaded, which takes seconds.
    try:
        check_name(BENCHMARKS, "a set", dataset)
        check_method(name, BENCHMARKS[dataset].task)
        check_name(CONVOLUTIONS, "a convolution", changes.get("conv", CONVOLUTIONS[0]))
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    try:
        from supa_gff.presets import preset
    except ImportError:
        raise click.UsageError("Training needs PyTorch: pip install 'supa-showers[learn]'.") from None
    try:
        return preset(name, BENCHMARKS[dataset].task).replace(**changes)
    except ValueError as error:
        raise click.UsageError(str(error)) from None


def _check_same(path: Path, stored: "Checkpoint", asked: "Checkpoint") -> None:
    """Tell what differs between a training that is to be resumed and what was asked for."""
    check_same(path, _facts(stored), _facts(asked))
    if stored.split is None or asked.split is None or not _equal(stored.split, asked.split):
        raise click.UsageError(f"{path} is of other data: the files of {asked.benchmark} have changed since.")


def _batches_to_go(trainer: "Trainer") -> float:
    """Return how many batches a training has before it, at most: it may end earlier."""
    method, state = trainer.network.method, trainer.state
    epochs = method.epochs * (method.layers if method.schedule == "greedy" else 1) - len(state.history)
    train, valid = trainer.batches_an_epoch
    return epochs * (train + valid / method.validate_every)


def _words(checkpoint: "Checkpoint") -> str:
    epochs = len(checkpoint.training["state"]["history"])
    return f"{counted(epochs, 'epoch')} {'is' if epochs == 1 else 'are'}"


def _facts(checkpoint: "Checkpoint") -> dict[str, Any]:
    return {
        "the set": checkpoint.benchmark,
        "the split": checkpoint.split.words if checkpoint.split is not None else None,
        "the seed": checkpoint.training["seed"],
        **checkpoint.method.to_dict(),
        "the number of features": checkpoint.in_channels,
        "the number of classes": checkpoint.out_channels,
    }


def _equal(one: "Split", other: "Split") -> bool:
    return all(getattr(one, name).equal(getattr(other, name)) for name in ("train", "valid", "test"))


def _figures(epoch: "Epoch") -> dict[str, float]:
    """Name the figures of an epoch for TensorBoard."""
    figures = {}
    for layer, *values in epoch.steps:
        for name, value in zip(("loss", "score_of_truth", "score_of_wrong", "accuracy"), values, strict=True):
            figures[f"layer{layer}/{name}"] = value
    if epoch.valid == epoch.valid:  # NaN where the epoch was not validated
        figures["validation" if epoch.layer < 0 else f"layer{epoch.layer}/validation"] = epoch.valid
    for layer, value in enumerate(epoch.layer_valid):
        figures[f"layer{layer}/validation"] = value
    return figures
