"""The accuracies of a network in a table."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from supa_cli.tables import print_table

if TYPE_CHECKING:
    from supa_gff.evaluation import Evaluation
    from supa_gff.networks.network import Network


def print_results(network: "Network", results: "Mapping[str, Evaluation]") -> None:
    """Print the accuracy of each layer, of the layers together, and of the majority class.

    Args:
        network: the network.
        results: by part of the split.
    """
    rows = []
    for layer, used in enumerate(network.layer_mask.tolist()):
        name = f"layer {layer}" if used else f"layer {layer} (not used)"
        rows.append([name, *(_percent(result.layers[layer]) for result in results.values())])
    rows.append(["layers together", *(_percent(result.network) for result in results.values())])
    rows.append(["majority class", *(_percent(result.majority) for result in results.values())])
    print_table(["accuracy", *results], rows)


def _percent(share: float) -> str:
    return f"{100 * share:.2f} %"
