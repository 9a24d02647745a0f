"""Table of the accuracies of a network."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from supa.number_format import format_percent
from supa_cli.tables import print_table

if TYPE_CHECKING:
    from supa_gff.evaluation import Evaluation
    from supa_gff.networks.network import Network


def print_results(network: "Network", results: "Mapping[str, Evaluation]") -> None:
    """Print the accuracy of each layer, of all layers together, and of the majority class.

    Args:
        network: The network.
        results: Evaluation by part of the split.
    """
    rows = []
    for layer, used in enumerate(network.layer_mask.tolist()):
        name = f"layer {layer}" if used else f"layer {layer} (not used)"
        rows.append([name, *(format_percent(result.layers[layer], 2) for result in results.values())])
    rows.append(["all layers together", *(format_percent(result.network, 2) for result in results.values())])
    rows.append(["majority class", *(format_percent(result.majority, 2) for result in results.values())])
    print_table(["accuracy", *results], rows)
