"""``supa gff evaluate``: evaluate a trained network, layer by layer."""

import json
from typing import TYPE_CHECKING, Any

import click

from supa.checks import counted
from supa_cli.options import Folder
from supa_cli.signals import deferred_interrupts, mark_output_complete
from supa_cli.terminal_text import echo
from supa_cli.training.evaluation import checkpoint_facts, checkpoint_summary, print_confusion
from supa_cli.training.options import JSON, MODEL, require_packages

if TYPE_CHECKING:
    from supa_gff.checkpoint import Checkpoint
    from supa_gff.data import GraphSet
    from supa_gff.evaluation import Evaluation
    from supa_gff.networks.network import Network


@click.command(name="evaluate")
@MODEL
@click.option(
    "--root", type=Folder(exists=True), help="Folder with the raw files of the benchmark.  [default: download]"
)
@JSON
def command(model: str, root: str | None, as_json: bool) -> None:
    """Evaluate the network in the checkpoint MODEL of `supa gff train` on its graph benchmark.

    Print the accuracy of each layer and of all layers together on each part of the split, and the confusion matrices.
    """
    require_packages("torch", "torch_geometric")
    from supa_datasets import load_benchmark
    from supa_gff.checkpoint import Checkpoint
    from supa_gff.data import GraphSet
    from supa_gff.evaluation import evaluate

    checkpoint = Checkpoint.load(model)
    if checkpoint.benchmark is None or checkpoint.split is None:
        raise click.UsageError(f"{model}: it was trained on custom graphs, which a checkpoint does not store.")
    with deferred_interrupts():
        benchmark = load_benchmark(checkpoint.benchmark, root=root)
    graphs = GraphSet.of_benchmark(benchmark)
    _check_data(model, checkpoint, graphs)
    network = checkpoint.model()
    results = evaluate(network, graphs, checkpoint.split)
    mark_output_complete()
    if as_json:
        click.echo(json.dumps(_facts(model, checkpoint, network, results), indent=2))
    else:
        _print(checkpoint, network, results)


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


def _facts(
    model: str, checkpoint: "Checkpoint", network: "Network", results: "dict[str, Evaluation]"
) -> dict[str, Any]:
    split = checkpoint.split
    assert split is not None
    return {
        **checkpoint_facts(model, checkpoint),
        "dataset": checkpoint.benchmark,
        "split": split.words,
        "sizes": {name: len(getattr(split, name)) for name in results},
        "method": checkpoint.method.to_dict(),
        "layers_used": network.layer_mask.tolist(),
        "layers": {name: list(result.layers) for name, result in results.items()},
        "network": {name: result.network for name, result in results.items()},
        "majority": {name: result.majority for name, result in results.items()},
        "confusion": {name: result.confusion.tolist() for name, result in results.items()},
    }


def _print(checkpoint: "Checkpoint", network: "Network", results: "dict[str, Evaluation]") -> None:
    from supa_cli.gff.results import print_results

    method, split = checkpoint.method, checkpoint.split
    assert split is not None
    echo(
        f"{checkpoint.benchmark}, {split.words}; {method.conv}, {counted(method.layers, 'layer')} of "
        f"{method.hidden_channels}, {checkpoint_summary(checkpoint)}"
    )
    print_results(network, results)
    classes = [str(number) for number in range(network.out_channels)]
    for name, result in results.items():
        print_confusion(classes, result.confusion.tolist(), title=name)
