"""``supa gff train``: train a network on a graph benchmark, on own graphs or on simulated showers."""

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from supa.checks import counted
from supa_cli import choices
from supa_cli.gff.own_data import CLASS_WEIGHTS, DATA, EDGE_FEATURES, LEVEL, TARGET_KIND, load_set
from supa_cli.options import CompletedName, Count, Folder
from supa_cli.signals import deferred_interrupts
from supa_cli.training.options import check_output, device_of, require_packages, training_options
from supa_cli.training.session import run_training
from supa_cli.training.stream_options import StreamChoice, chosen_stream, stream_options

if TYPE_CHECKING:
    from supa_gff.batch import Level
    from supa_gff.checkpoint import Checkpoint
    from supa_gff.graph_set import GraphSet
    from supa_gff.method import Method
    from supa_gff.names import TargetKind
    from supa_gff.splits.standard import Split
    from supa_gff.training.graph_task import GraphTask
    from supa_learning.trainer import Trainer

_ADVICE = "To save time, use fewer --epochs, --layers or --hidden-channels, or a GPU (--device cuda)."
_DEFAULTS = dict.fromkeys(("epochs", "batch_size", "learning_rate", "weight_decay", "patience"), "that of the method")


@click.command(name="train")
@click.option(
    "--dataset",
    type=CompletedName(choices.datasets),
    help="Graph benchmark, such as MUTAG or Cora. Required without --data or --stream.",
)
@DATA
@LEVEL
@TARGET_KIND
@EDGE_FEATURES
@click.option(
    "--target",
    type=CompletedName(choices.targets),
    help="Quantity to predict with --stream: num_primaries, primary, preset or incident_energy.",
)
@click.option(
    "--method",
    "method_name",
    type=CompletedName(choices.trained_methods),
    default="best",
    show_default=True,
    help="Training method.",
)
@click.option(
    "--conv",
    type=CompletedName(choices.convolutions),
    help="Graph convolution: gcn, gin, sage, gat, ...  [default: that of the method]",
)
@click.option("--layers", type=Count(1), help="Number of layers.  [default: that of the method]")
@click.option("--hidden-channels", type=Count(1), help="Number of channels per layer.  [default: that of the method]")
@click.option(
    "--root", type=Folder(exists=True), help="Folder with the raw files of the benchmark.  [default: download]"
)
@click.option(
    "--fold", type=Count(0), default=0, show_default=True, help="Index of the test fold, for data of many graphs."
)
@click.option(
    "--folds",
    type=Count(2),
    default=10,
    show_default=True,
    help="Number of folds, for data of many graphs.",
)
@CLASS_WEIGHTS
@stream_options
@training_options(items="graphs", defaults=_DEFAULTS)
def command(
    dataset: str | None,
    data: str | None,
    level: "Level | None",
    target_kind: "TargetKind | None",
    edge_features: bool,
    target: str | None,
    stream: tuple[str, ...],
    energy: str | None,
    batches_per_epoch: int | None,
    validation_showers: int | None,
    method_name: str,
    root: str | None,
    fold: int,
    folds: int,
    class_weights: str | tuple[float, ...] | None,
    config_file: str | None,
    seed: int | None,
    device: str,
    output: str,
    resume: bool,
    tensorboard: str | None,
    quiet: bool,
    **settings: Any,
) -> None:
    """Train a network on a graph benchmark, on your own graphs, or on showers that are simulated during the training.

    A network of a benchmark or of your own graphs is evaluated on its test data. With --stream, each training shower is
    used once, and an epoch is a number of batches.

    A file of --data is read without running code that it contains. A function of --data is your own code; its module is
    searched in the current folder first.

    To resume an interrupted training, repeat the command with --resume. The final weights are identical to those of
    an uninterrupted training.

    Example: supa gff train --dataset MUTAG --epochs 20 -o mutag.ckpt
    """
    path = Path(output)
    check_output(path, resume=resume)
    if dataset is not None and data is not None:
        raise click.UsageError("--dataset and --data cannot be used together; choose one.")
    if dataset is None and data is None and not stream:
        raise click.UsageError("Give the graphs to train on: --dataset, --data or --stream.")
    sizes = {"batches_per_epoch": batches_per_epoch, "validation_showers": validation_showers}
    instead = "--data" if data is not None else "--dataset"
    choice = chosen_stream(stream, energy, given=dataset or data, instead=instead, **sizes)
    _check_needed(dataset, data, target, level, target_kind, root, class_weights, streaming=choice is not None)
    if edge_features and choice is not None:
        raise click.UsageError("--edge-features needs --dataset or --data.")
    seed = seed or 0
    options = {name: value for name, value in settings.items() if value is not None}
    balanced = class_weights == "balanced"
    if class_weights is not None and not balanced:
        options["class_weights"] = class_weights
    level = _checked_level(dataset, target, level, method_name, options)
    require_packages("torch", "torch_geometric")
    from supa_gff.checkpoint import Checkpoint

    place = device_of(device)
    stored = Checkpoint.load(path) if resume and path.exists() else None
    if data is not None:
        graphs = load_set(data, level, target_kind, edge_features=edge_features).to(place)
        method = _method(method_name, level, graphs.target_kind, config_file, options)
        prepared = _set_training(graphs, None, data, fold, folds, method, seed, balanced=balanced)
    elif dataset is not None:
        method = _method(method_name, level, "classification", config_file, options)
        prepared = _benchmark_training(
            dataset, root, fold, folds, method, seed, place, balanced=balanced, edge_features=edge_features
        )
    else:
        assert choice is not None
        kind: TargetKind = "regression" if target == "incident_energy" else "classification"
        method = _method(method_name, level, kind, config_file, options)
        prepared = _stream_training(choice, str(target), method, seed, place)
    if not quiet:
        click.echo(
            f"{prepared.data}; {method_name} with {method.conv}, {counted(method.layers, 'layer')} of "
            f"{method.hidden_channels}, seed {seed}, on {place}",
            err=True,
        )
    run_training(
        prepared.trainer, path, prepared.take, stored=stored, facts=_facts, items=prepared.items, advice=_ADVICE,
        tensorboard=tensorboard, quiet=quiet,
    )  # fmt: skip
    if not quiet:
        prepared.print_results()


@dataclass(frozen=True)
class _Prepared:
    """A training that can start."""

    trainer: "Trainer[GraphTask]"
    take: "Callable[[], Checkpoint]"
    items: str
    data: str
    """Description of the data for the user."""
    print_results: Callable[[], None]


def _benchmark_training(
    dataset: str,
    root: str | None,
    fold: int,
    folds: int,
    method: "Method",
    seed: int,
    place: str,
    *,
    balanced: bool,
    edge_features: bool,
) -> _Prepared:
    from supa_datasets import load_benchmark
    from supa_gff.graph_set import GraphSet

    with deferred_interrupts():
        benchmark = load_benchmark(dataset, root=root)
        graphs = GraphSet.of_benchmark(benchmark, edge_features=edge_features).to(place)
    return _set_training(graphs, dataset, None, fold, folds, method, seed, balanced=balanced, title=repr(benchmark))


def _set_training(
    graphs: "GraphSet",
    benchmark: str | None,
    source: str | None,
    fold: int,
    folds: int,
    method: "Method",
    seed: int,
    *,
    balanced: bool,
    title: str | None = None,
) -> _Prepared:
    """Prepare the training on a set of graphs: a benchmark, or the user's own graphs."""
    from supa_cli.gff.results import print_results
    from supa_gff.checkpoint import Checkpoint
    from supa_gff.evaluation import evaluate
    from supa_gff.networks.network import Network
    from supa_gff.splits.standard import split_items
    from supa_gff.training.tasks import training_task
    from supa_learning.trainer import Trainer

    try:
        split = split_items(graphs, fold=fold, folds=folds, seed=seed)
        if balanced:
            method = method.replace(class_weights=graphs.balanced_weights(split.train))
        network = Network.for_graphs(method, graphs, train=split.train, seed=seed)
        trainer = Trainer(training_task(network, graphs, split.train, split.valid, seed=seed))
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    if title is not None and graphs.num_edge_features:
        title = f"{title} with {counted(graphs.num_edge_features, 'edge feature')}"
    lines = [title or f"{source}: {graphs!r} for {graphs.target_kind}"]
    if method.class_weights is not None:
        lines.append(f"class weights {', '.join(f'{weight:.4g}' for weight in method.class_weights)}")
    lines.append(
        f"{split.words}: {len(split.train):,} for training, {len(split.valid):,} for validation, "
        f"{len(split.test):,} for testing"
    )
    return _Prepared(
        trainer,
        lambda: Checkpoint.of(trainer, benchmark=benchmark, split=split, source=source),
        f"{graphs.level}s",
        "\n".join(lines),
        lambda: print_results(network, evaluate(network, graphs, split)),
    )


def _stream_training(choice: StreamChoice, target: str, method: "Method", seed: int, place: str) -> _Prepared:
    from supa_gff.checkpoint import Checkpoint
    from supa_gff.networks.network import Network
    from supa_gff.shower_stream import ShowerGraphStream
    from supa_gff.training.tasks import training_task
    from supa_learning.trainer import Trainer

    try:
        with deferred_interrupts():
            source = ShowerGraphStream(
                choice.configs,
                target,
                seed=seed,
                batches_per_epoch=choice.batches_per_epoch,
                validation_showers=choice.validation_showers,
                device=place,
            )
        network = Network.for_graphs(method, source.validation, seed=seed)
        trainer = Trainer(training_task(network, source, seed=seed))
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    return _Prepared(
        trainer,
        lambda: Checkpoint.of(trainer),
        "graphs",
        f"{target}: {counted(trainer.task.units, 'shower')} to train on per epoch, simulated from "
        f"{', '.join(choice.names)}, {choice.validation_showers:,} to validate on",
        lambda: None,
    )


def _check_needed(
    dataset: str | None,
    data: str | None,
    target: str | None,
    level: str | None,
    target_kind: str | None,
    root: str | None,
    class_weights: object,
    *,
    streaming: bool,
) -> None:
    """Check that no option was given without the one that it needs."""
    if root is not None and dataset is None:
        raise click.UsageError("--root needs --dataset.")
    if streaming != (target is not None):
        raise click.UsageError("--stream needs --target." if target is None else "--target needs --stream.")
    for name, value in (("--level", level), ("--target-kind", target_kind)):
        if value is not None and data is None:
            raise click.UsageError(f"{name} needs --data.")
    if class_weights == "balanced" and streaming:
        raise click.UsageError("--class-weights balanced needs --dataset or --data; with --stream, give numbers.")


def _checked_level(
    dataset: str | None, target: str | None, level: "Level | None", method: str, options: dict[str, Any]
) -> "Level":
    """Check the names before PyTorch is imported, which takes seconds, and return what is predicted."""
    from supa.checks import check_name
    from supa_datasets import BENCHMARKS
    from supa_datasets.loaders.tasks import shower_task
    from supa_gff.names import CONVOLUTIONS, check_method

    try:
        if dataset is not None and Path(dataset).exists() and dataset not in BENCHMARKS:
            raise click.UsageError(
                f"--dataset: {dataset!r} is a path, but it must be the name of a graph benchmark, such as MUTAG. "
                "To use raw files of a benchmark, add --root. To train on your own graphs, use --data."
            )
        if dataset is not None:
            check_name(BENCHMARKS, "a graph benchmark", dataset)
            level = BENCHMARKS[dataset].task
        elif target is not None:
            level = "node" if shower_task(target).level == "hit" else "graph"
        level = level or "graph"
        check_method(method, level)
        check_name(CONVOLUTIONS, "a convolution", options.get("conv", CONVOLUTIONS[0]))
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    return level


def _method(
    name: str, level: "Level", kind: "TargetKind", config_file: str | None, options: dict[str, Any]
) -> "Method":
    from supa_gff.method import Method
    from supa_gff.presets import preset

    try:
        defaults = preset(name, level, kind)
        from_file = {} if config_file is None else Method.settings_from_file(config_file)
        return Method.from_dict({**defaults.to_dict(), **from_file, **options})
    except ValueError as error:
        raise click.UsageError(str(error)) from None


def _facts(checkpoint: "Checkpoint") -> dict[str, Any]:
    return {
        "the benchmark": checkpoint.benchmark,
        "the data": checkpoint.source,
        "the checksum of the data": checkpoint.checksum,
        "the target": None if checkpoint.encoding is None else checkpoint.encoding.task,
        "the split": checkpoint.split.words if checkpoint.split is not None else None,
        "the seed": checkpoint.seed,
        **checkpoint.method.to_dict(),
        "the number of features": checkpoint.in_channels,
        "the number of edge features": checkpoint.edge_channels,
        "the number of classes": checkpoint.out_channels,
        "the checksum of the split": _checksum(checkpoint.split),
    }


def _checksum(split: "Split | None") -> str:
    """Return a checksum of the indices, which differs if the files of the benchmark have changed."""
    parts = () if split is None else (split.train, split.valid, split.test)
    return f"{zlib.crc32(b' '.join(part.cpu().numpy().tobytes() for part in parts)):08x}"
