"""Tables of the metrics of a network."""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from supa.number_format import format_percent
from supa_cli.tables import print_table

if TYPE_CHECKING:
    from supa_gff.evaluation import Evaluation
    from supa_gff.networks.network import Network

_TITLES = {"accuracy": "accuracy", "rms_error": "RMS error", "auc": "AUC", "mae": "MAE", "r2": "R2", "f1": "F1"}
_CONSTANT = {"accuracy": "majority class", "rms_error": "mean of the targets", "auc": "equal scores"}
_MOST_OUTPUTS = 100
"""Largest number of targets or labels that have a table of their own."""


def print_results(network: "Network", results: "Mapping[str, Evaluation]") -> None:
    """Print the main metric of each layer, of all layers together, and of a constant prediction.

    For regression and multi-label targets, also print the other metrics of all layers together.

    Args:
        network: The network.
        results: Evaluation by part of the data.
    """
    (metric,) = {result.metric for result in results.values()}
    rows = []
    for layer, used in enumerate(network.layer_mask.tolist()):
        name = f"layer {layer}" if used else f"layer {layer} (not used)"
        rows.append([name, *(_text(metric, result.layers[layer]) for result in results.values())])
    rows.append(["all layers together", *(_text(metric, result.network) for result in results.values())])
    rows.append([_CONSTANT[metric], *(_text(metric, result.majority) for result in results.values())])
    print_table([_TITLES[metric], *results], rows)
    means = {part: result.means for part, result in results.items()}
    others = [name for name in next(iter(means.values())) if name != metric]
    if others:
        rows = [[_TITLES[name], *(_text(name, figures[name]) for figures in means.values())] for name in others]
        print_table(["all layers together", *results], rows)


def print_outputs(network: "Network", results: "Mapping[str, Evaluation]") -> None:
    """Print the metrics of each regression target or label, if there are several.

    Args:
        network: The network.
        results: Evaluation by part of the data.
    """
    if network.target_kind == "classification" or not 1 < network.out_channels <= _MOST_OUTPUTS:
        return
    noun = "label" if network.target_kind == "multi-label" else "target"
    for part, result in results.items():
        columns = [[_text(name, value) for value in values] for name, values in result.outputs.items()]
        rows = [[str(number), *cells] for number, cells in enumerate(zip(*columns, strict=True))]
        print_table([noun, *(_TITLES[name] for name in result.outputs)], rows, title=part)


def _text(metric: str, value: float) -> str:
    if math.isnan(value):
        return "-"
    return format_percent(value, 2) if metric in ("accuracy", "auc", "f1") else f"{value:.4g}"
