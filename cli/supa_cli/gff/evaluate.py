"""``supa gff evaluate``: tell how good a trained network is, layer by layer."""

import json
from typing import TYPE_CHECKING, Any

import click

from supa.checks import counted
from supa_cli.interruption import finished, in_order
from supa_cli.options import Folder, InputFile
from supa_cli.tables import print_table
from supa_cli.terminal_text import echo

if TYPE_CHECKING:
    from supa_gff.checkpoint import Checkpoint
    from supa_gff.graphs import Graphs
    from supa_gff.network import Network
    from supa_gff.performance import Performance


@click.command(name="evaluate")
@click.argument("model", type=InputFile())
@click.option("--root", type=Folder(exists=True), help="Folder of the set's raw files.  [default: download them]")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(model: str, root: str | None, as_json: bool) -> None:
    """Tell how good the network of MODEL, a file of `supa gff train`, is on the data that it was trained with.

    Accuracies of each layer and of the layers that vote, on each part of the split; counts by true and predicted class.
    """
    from supa_datasets import load_benchmark

    try:
        from supa_gff.checkpoint import Checkpoint
    except ImportError:
        raise click.UsageError("Networks need PyTorch: pip install 'supa-showers[learn]'.") from None
    from supa_gff.graphs import Graphs
    from supa_gff.performance import performances

    checkpoint = Checkpoint.load(model)
    if checkpoint.benchmark is None or checkpoint.split is None:
        raise click.UsageError(f"{model}: it was trained on graphs of its user's own, and does not hold them.")
    with in_order():
        benchmark = load_benchmark(checkpoint.benchmark, root=root)
    graphs = Graphs.of_benchmark(benchmark)
    _check_data(model, checkpoint, graphs)
    network = checkpoint.network()
    results = performances(network, graphs, checkpoint.split)
    finished()
    if as_json:
        click.echo(json.dumps(_facts(model, checkpoint, network, results), indent=2))
    else:
        _print(checkpoint, network, results)


def _check_data(model: str, checkpoint: "Checkpoint", graphs: "Graphs") -> None:
    split = checkpoint.split
    assert split is not None
    most = max(int(part.max()) for part in (split.train, split.valid, split.test))
    found = (graphs.num_features, graphs.num_outputs)
    if found != (checkpoint.in_features, checkpoint.outputs) or most >= graphs.num_members:
        raise ValueError(
            f"{model}: it was trained on other data, of {counted(checkpoint.in_features, 'feature')} and "
            f"{counted(checkpoint.outputs, 'class', 'classes')}, than the {checkpoint.benchmark} that was found: "
            f"{graphs!r}."
        )


def _facts(
    model: str, checkpoint: "Checkpoint", network: "Network", results: "dict[str, Performance]"
) -> dict[str, Any]:
    split = checkpoint.split
    assert split is not None
    return {
        "path": model,
        "dataset": checkpoint.benchmark,
        "split": split.words,
        "sizes": {name: len(getattr(split, name)) for name in results},
        "seed": checkpoint.training["seed"],
        "finished": checkpoint.finished,
        "epochs": len(checkpoint.training["state"]["history"]),
        "method": checkpoint.method.to_dict(),
        "voting": network.voting.tolist(),
        "layers": {name: list(result.layers) for name, result in results.items()},
        "voted": {name: result.voted for name, result in results.items()},
        "majority": {name: result.majority for name, result in results.items()},
        "confusion": {name: result.confusion.tolist() for name, result in results.items()},
        "versions": dict(checkpoint.versions),
    }


def _print(checkpoint: "Checkpoint", network: "Network", results: "dict[str, Performance]") -> None:
    from supa_cli.gff.results import print_results

    method, split = checkpoint.method, checkpoint.split
    assert split is not None
    epochs = len(checkpoint.training["state"]["history"])
    echo(
        f"{checkpoint.benchmark}, {split.words}; {method.conv}, {counted(method.layers, 'layer')} of {method.width}, "
        f"seed {checkpoint.training['seed']}; {'finished' if checkpoint.finished else 'interrupted'} after "
        f"{counted(epochs, 'epoch')}"
    )
    print_results(network, results)
    for name, result in results.items():
        print_table(
            ["", *map(str, range(network.outputs))],
            [[str(true), *(f"{n:,}" for n in counts)] for true, counts in enumerate(result.confusion.tolist())],
            title=f"{name}: true class in rows, predicted in columns",
        )
