"""``supa gff train``: train a network on a graph benchmark, and save it."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from supa_cli.interruption import check
from supa_cli.options import Count

if TYPE_CHECKING:
    from supa_gff.checkpoint import Checkpoint
    from supa_gff.method import Method
    from supa_gff.splits import Split
    from supa_gff.training import Epoch, Trainer

_SECONDS_BETWEEN_FILES = 5.0


@click.command(name="train")
@click.option("--dataset", metavar="NAME", required=True, help="A graph benchmark, such as MUTAG or Cora.")
@click.option("--method", "method_name", metavar="NAME", default="best", show_default=True, help="Training method.")
@click.option("--conv", metavar="NAME", help="Convolution: gcn, gin, sage, gat, ...  [default: the method's]")
@click.option("--layers", type=Count(1), help="Number of layers.  [default: the method's]")
@click.option("--width", type=Count(1), help="Features of an activation.  [default: the method's]")
@click.option("--epochs", type=Count(1), help="Most epochs; of each layer, if greedy.  [default: the method's]")
@click.option("--batch-size", type=Count(1), help="Graphs a batch.  [default: the method's]")
@click.option("--learning-rate", type=float, help="Of Adam.  [default: the method's]")
@click.option("--root", type=click.Path(), help="Folder of the set's raw files.  [default: download them]")
@click.option("--fold", type=Count(0), default=0, show_default=True, help="The fold that tests.")
@click.option("--folds", type=Count(2), default=10, show_default=True, help="Stratified folds of a set of graphs.")
@click.option("--seed", type=Count(0), default=0, show_default=True, help="Of everything random.")
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True)
@click.option("-o", "--output", type=click.Path(dir_okay=False), required=True, help="Checkpoint to write.")
@click.option("--resume", is_flag=True, help="Go on with an interrupted training.")
@click.option("--tensorboard", type=click.Path(file_okay=False), help="Folder for TensorBoard's events.")
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
    _check_output(path, resume)
    method = _method(dataset, method_name, {name: value for name, value in changes.items() if value is not None})

    import torch

    from supa_cli.gff.results import print_results
    from supa_cli.gff.told import epochs_told
    from supa_datasets import load_benchmark
    from supa_gff.checkpoint import Checkpoint
    from supa_gff.graphs import Graphs
    from supa_gff.network import Network
    from supa_gff.performance import performances
    from supa_gff.splits import standard_split
    from supa_gff.training import Trainer

    place = _device(device)
    record = _board(tensorboard) if tensorboard is not None else None
    stored = Checkpoint.load(path) if resume and path.exists() else None
    benchmark = load_benchmark(dataset, root=root)
    graphs = Graphs.of_benchmark(benchmark).to(place)
    torch.manual_seed(seed)
    try:
        split = standard_split(benchmark, fold=fold, folds=folds, seed=seed)
        network = Network.for_graphs(method, graphs)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    trainer = Trainer(network, graphs, split.train, split.valid, seed=seed)
    if stored is not None:
        _check_same(path, stored, Checkpoint.of(trainer, benchmark=dataset, split=split))
        trainer.load_state_dict(dict(stored.training))
    if not quiet:
        click.echo(f"{benchmark!r}", err=True)
        click.echo(
            f"{split.words}: {len(split.train):,} train, {len(split.valid):,} validate, {len(split.test):,} test; "
            f"{method_name} with {method.conv}, {method.layers} layers of {method.width}, seed {seed}, on {place}",
            err=True,
        )
        if stored is not None:
            before = len(trainer.state.history)
            click.echo(f"{path}: {'finished' if stored.finished else 'going on'} after {before:,} epochs", err=True)
    started = time.perf_counter()
    with (
        _saved(path, Checkpoint.of(trainer, benchmark=dataset, split=split), fresh=stored is None) as save,
        epochs_told(quiet=quiet or trainer.state.finished) as told,
        (record or _no_board)(len(trainer.state.history)) as scalar,
    ):

        def on_epoch(trainer: Trainer, epoch: "Epoch") -> None:
            save(trainer)
            told(epoch)
            scalar(epoch)
            check()

        trainer.on_epoch = on_epoch
        trainer.run()
        save(trainer)
    if quiet:
        return
    print_results(network, performances(network, graphs, split))
    seconds = time.perf_counter() - started
    click.echo(f"{path}: {len(trainer.state.history):,} epochs, {seconds:,.1f} s now")


def _check_output(path: Path, resume: bool) -> None:
    if not path.absolute().parent.is_dir():
        raise click.UsageError(f"{path}: the folder {path.parent} does not exist; make it first.")
    if path.exists() and not resume:
        raise click.UsageError(f"{path} exists; choose another name, resume it (--resume), or delete it.")


def _method(dataset: str, name: str, changes: dict[str, Any]) -> "Method":
    from supa.checks import shown
    from supa_datasets import BENCHMARKS

    if dataset not in BENCHMARKS:
        raise click.UsageError(f"{shown(dataset)} was given, but a set is one of {', '.join(BENCHMARKS)}.")
    try:
        from supa_gff.presets import preset
    except ImportError:
        raise click.UsageError("Training needs PyTorch: pip install 'supa-showers[learn]'.") from None
    try:
        return preset(name, BENCHMARKS[dataset].task).replace(**changes)
    except ValueError as error:
        raise click.UsageError(str(error)) from None


def _device(name: str) -> str:
    import torch

    if name == "cuda" and not torch.cuda.is_available():
        raise click.UsageError("--device cuda was given, but PyTorch finds no CUDA device; use cpu.")
    return "cuda" if name != "cpu" and torch.cuda.is_available() else "cpu"


def _check_same(path: Path, stored: "Checkpoint", asked: "Checkpoint") -> None:
    """Tell what differs between a training that is to be resumed and what was asked for."""
    there, here = _facts(stored), _facts(asked)
    for name, value in here.items():
        if there.get(name) != value:
            raise click.UsageError(
                f"{path} is of another training: {name} is {there.get(name)} there, and {value} here; give the same "
                "options again, or choose another name."
            )
    if stored.split is None or asked.split is None or not _equal(stored.split, asked.split):
        raise click.UsageError(f"{path} is of other data: the files of {asked.benchmark} have changed since.")


def _facts(checkpoint: "Checkpoint") -> dict[str, Any]:
    return {
        "the set": checkpoint.benchmark,
        "the split": checkpoint.split.words if checkpoint.split is not None else None,
        "the seed": checkpoint.training["seed"],
        **checkpoint.method.to_dict(),
        "the number of features": checkpoint.in_features,
        "the number of classes": checkpoint.outputs,
    }


def _equal(one: "Split", other: "Split") -> bool:
    return all(getattr(one, name).equal(getattr(other, name)) for name in ("train", "valid", "test"))


@contextmanager
def _saved(path: Path, checkpoint: "Checkpoint", *, fresh: bool) -> Iterator[Callable[["Trainer"], None]]:
    """Write the checkpoint now and then, at the end, and when the work is interrupted."""
    if fresh:
        checkpoint.save(path)  # a disk that does not take it is better found now
    latest, written, moment = checkpoint, checkpoint, time.perf_counter()

    def save(trainer: "Trainer") -> None:
        nonlocal latest, written, moment
        latest = replace(checkpoint, training=trainer.state_dict())
        if latest.finished or time.perf_counter() - moment > _SECONDS_BETWEEN_FILES:
            latest.save(path)
            written, moment = latest, time.perf_counter()

    try:
        yield save
    except KeyboardInterrupt:
        # The weights are those of a step within an epoch; what is kept is the end of the epoch before.
        if latest is not written:
            latest.save(path)
        epochs = len(latest.training["state"]["history"])
        click.echo(f"\n{epochs:,} epochs are in {path}; go on with the same command and --resume.", err=True)
        raise


@contextmanager
def _no_board(_epochs: int) -> Iterator[Callable[["Epoch"], None]]:
    yield lambda _epoch: None


def _board(folder: str) -> Any:
    """Give a context that writes epochs for TensorBoard, counted from the number of those that were before."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise click.UsageError("--tensorboard needs the package tensorboard: pip install tensorboard.") from None

    @contextmanager
    def board(epochs: int) -> Iterator[Callable[["Epoch"], None]]:
        # What a killed training wrote behind its checkpoint is dropped.
        with SummaryWriter(folder, purge_step=epochs or None) as writer:

            def scalar(epoch: "Epoch") -> None:
                nonlocal epochs
                for layer, *values in epoch.steps:
                    for name, value in zip(
                        ("loss", "score_of_truth", "score_of_wrong", "accuracy"), values, strict=True
                    ):
                        writer.add_scalar(f"layer{layer}/{name}", value, epochs)
                if epoch.valid == epoch.valid:  # NaN where the epoch was not validated
                    name = "validation" if epoch.layer < 0 else f"layer{epoch.layer}/validation"
                    writer.add_scalar(name, epoch.valid, epochs)
                for layer, value in enumerate(epoch.layer_valid):
                    writer.add_scalar(f"layer{layer}/validation", value, epochs)
                epochs += 1

            yield scalar

    return board
