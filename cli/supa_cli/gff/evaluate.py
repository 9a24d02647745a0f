"""``supa gff evaluate``: evaluate a trained network, layer by layer."""

import json
import math
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from supa.checks import counted
from supa_cli.gff.own_data import DATA, load_set
from supa_cli.options import Folder
from supa_cli.signals import deferred_interrupts, mark_output_complete
from supa_cli.terminal_text import echo
from supa_cli.training.evaluation import checkpoint_facts, checkpoint_summary, print_confusion
from supa_cli.training.options import JSON, MODEL, require_packages

if TYPE_CHECKING:
    from supa_gff.checkpoint import Checkpoint
    from supa_gff.evaluation import Evaluation
    from supa_gff.graph_set import GraphSet
    from supa_gff.networks.network import Network
    from supa_gff.splits.standard import Split

_NEW = "data"
"""Name of the only part of graphs that are not those of the training."""


@click.command(name="evaluate")
@MODEL
@click.option(
    "--root", type=Folder(exists=True), help="Folder with the raw files of the benchmark.  [default: download]"
)
@DATA
@JSON
def command(model: str, root: str | None, data: str | None, as_json: bool) -> None:
    """Evaluate the network in the checkpoint MODEL of `supa gff train`, on its graph benchmark or on your own graphs.

    Print the accuracy of each layer and of all layers together on each part of the split, and the confusion matrices.
    For regression and multi-label targets, print their metrics instead.

    With --data, graphs that are not those of the training are evaluated as one part.
    """
    require_packages("torch", "torch_geometric")
    from supa_gff.checkpoint import Checkpoint

    checkpoint = Checkpoint.load(model)
    if data is not None and root is not None:
        raise click.UsageError("--root and --data cannot be used together; choose one.")
    if data is None and (checkpoint.benchmark is None or checkpoint.split is None):
        source = "" if checkpoint.source is None else f" ({checkpoint.source})"
        raise click.UsageError(
            f"{model}: it was trained on custom graphs{source}, which a checkpoint does not store; give "
            "graphs by --data."
        )
    network = checkpoint.model()
    if data is None:
        evaluated = _of_benchmark(model, checkpoint, network, root)
    else:
        evaluated = _of_own_graphs(model, checkpoint, network, data)
    mark_output_complete()
    if as_json:
        click.echo(json.dumps(_facts(model, checkpoint, network, evaluated), indent=2))
    else:
        _print(checkpoint, network, evaluated)


class _Evaluated(NamedTuple):
    """Graphs, and the results of a network on them.

    Args:
        name: Benchmark, file or function.
        graphs: The graphs.
        split: Split of the training; None if the graphs are not those of the training.
        results: Results by part.
    """

    name: str
    graphs: "GraphSet"
    split: "Split | None"
    results: "dict[str, Evaluation]"


def _of_benchmark(model: str, checkpoint: "Checkpoint", network: "Network", root: str | None) -> _Evaluated:
    from supa_datasets import load_benchmark
    from supa_gff.evaluation import evaluate
    from supa_gff.graph_set import GraphSet

    assert checkpoint.benchmark is not None
    assert checkpoint.split is not None
    with deferred_interrupts():
        benchmark = load_benchmark(checkpoint.benchmark, root=root)
    graphs = GraphSet.of_benchmark(benchmark, edge_features=checkpoint.edge_channels > 0)
    _check_data(model, checkpoint, graphs)
    results = evaluate(network, graphs, checkpoint.split)
    return _Evaluated(checkpoint.benchmark, graphs, checkpoint.split, results)


def _of_own_graphs(model: str, checkpoint: "Checkpoint", network: "Network", data: str) -> _Evaluated:
    import torch

    from supa_gff.evaluation import constant_prediction, evaluate, evaluate_part
    from supa_gff.label_injection import VirtualNodes

    if checkpoint.level == "link":
        raise click.UsageError(f"{model}: it scores pairs of nodes; evaluate it in Python.")
    graphs = load_set(
        data, checkpoint.level, network.target_kind, checkpoint.out_channels,
        edge_features=checkpoint.edge_channels > 0,
    )  # fmt: skip
    if graphs.num_features != checkpoint.in_channels:
        raise ValueError(
            f"{data}: its nodes have {counted(graphs.num_features, 'feature')}, but {model} was trained with "
            f"{checkpoint.in_channels:,}."
        )
    if checkpoint.split is not None and checkpoint.checksum == graphs.checksum:
        return _Evaluated(data, graphs, checkpoint.split, evaluate(network, graphs, checkpoint.split))
    if checkpoint.level == "node" and isinstance(checkpoint.method.label, VirtualNodes):
        raise ValueError(
            f"{model}: it predicts nodes from the known labels of other nodes in the graph of the training, so it "
            f"cannot be evaluated on other graphs, such as those of {data}."
        )
    every = torch.arange(graphs.num_items)
    baseline = constant_prediction(network, graphs.targets_of(every))
    return _Evaluated(data, graphs, None, {_NEW: evaluate_part(network, graphs, every, baseline)})


def _check_data(model: str, checkpoint: "Checkpoint", graphs: "GraphSet") -> None:
    split = checkpoint.split
    assert split is not None
    most = max(int(part.max()) for part in (split.train, split.valid, split.test))
    found = (graphs.num_features, graphs.num_outputs)
    if found != (checkpoint.in_channels, checkpoint.out_channels) or most >= graphs.num_items:
        raise ValueError(
            f"{model}: the network was trained on other data, with {counted(checkpoint.in_channels, 'feature')} and "
            f"{counted(checkpoint.out_channels, 'class', 'classes')}, but the raw files of {checkpoint.benchmark} "
            f"contain {graphs!r}."
        )


def _facts(model: str, checkpoint: "Checkpoint", network: "Network", evaluated: _Evaluated) -> dict[str, Any]:
    name, graphs, split, results = evaluated
    return {
        **checkpoint_facts(model, checkpoint),
        "dataset": name,
        "split": None if split is None else split.words,
        "sizes": {part: graphs.num_items if split is None else len(getattr(split, part)) for part in results},
        "method": checkpoint.method.to_dict(),
        "target_kind": network.target_kind,
        "layers_used": network.layer_mask.tolist(),
        "metric": next(iter(results.values())).metric,
        "layers": {name: list(map(_number, result.layers)) for name, result in results.items()},
        "network": {name: _number(result.network) for name, result in results.items()},
        "majority": {name: _number(result.majority) for name, result in results.items()},
        "outputs": {
            name: {metric: list(map(_number, values)) for metric, values in result.outputs.items()}
            for name, result in results.items()
        },
        "confusion": {
            name: None if result.confusion is None else result.confusion.tolist() for name, result in results.items()
        },
    }


def _number(value: float) -> float | None:
    """Return a number that JSON can represent: None for NaN."""
    return None if math.isnan(value) else value


def _print(checkpoint: "Checkpoint", network: "Network", evaluated: _Evaluated) -> None:
    from supa_cli.gff.results import print_outputs, print_results

    name, graphs, split, results = evaluated
    method = checkpoint.method
    with_edges = " with edge features" if checkpoint.edge_channels else ""
    title = f"{name}, {split.words}" if split is not None else f"{name}, not the graphs of the training: {graphs!r}"
    echo(
        f"{title}; {method.conv}{with_edges}, {counted(method.layers, 'layer')} of {method.hidden_channels}, "
        f"{checkpoint_summary(checkpoint)}"
    )
    print_results(network, results)
    print_outputs(network, results)
    classes = [str(number) for number in range(network.out_channels)]
    for part, result in results.items():
        if result.confusion is not None:
            print_confusion(classes, result.confusion.tolist(), title=part)
