"""The accuracies of a network in a table."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from supa_gff.network import Network
    from supa_gff.performance import Performance


def print_results(network: "Network", results: "Mapping[str, Performance]") -> None:
    """Print the accuracy of each layer, of those that vote together, and of the majority class.

    Args:
        network: the network.
        results: by part of the split.
    """
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None)
    table.add_column("accuracy", justify="left")
    for name in results:
        table.add_column(name, justify="right")
    for layer, votes in enumerate(network.voting.tolist()):
        name = f"layer {layer}" if votes else f"layer {layer} (does not vote)"
        table.add_row(name, *(_percent(result.layers[layer]) for result in results.values()))
    table.add_row("voted", *(_percent(result.voted) for result in results.values()))
    table.add_row("majority class", *(_percent(result.majority) for result in results.values()))
    Console(soft_wrap=True).print(table)


def _percent(share: float) -> str:
    return f"{100 * share:.2f} %"
