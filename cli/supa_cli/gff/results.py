"""The accuracies of a network in a table."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from supa_cli.tables import print_table

if TYPE_CHECKING:
    from supa_gff.networks.network import Network
    from supa_gff.performance import Performance


def print_results(network: "Network", results: "Mapping[str, Performance]") -> None:
    """Print the accuracy of each layer, of those that vote together, and of the majority class.

    Args:
        network: the network.
        results: by part of the split.
    """
    rows = []
    for layer, votes in enumerate(network.layer_mask.tolist()):
        name = f"layer {layer}" if votes else f"layer {layer} (does not vote)"
        rows.append([name, *(_percent(result.layers[layer]) for result in results.values())])
    rows.append(["voted", *(_percent(result.voted) for result in results.values())])
    rows.append(["majority class", *(_percent(result.majority) for result in results.values())])
    print_table(["accuracy", *results], rows)


def _percent(share: float) -> str:
    return f"{100 * share:.2f} %"
