"""Metrics of networks, and validation scores, which select epochs and layers."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from supa_gff.networks.network import Network
from supa_learning import metrics

Metrics = Mapping[str, float]
"""Metrics by name, the main one first."""


def metric_name(network: Network) -> str:
    """Return the name of the main metric of a network.

    Args:
        network: Network to evaluate.

    Returns:
        ``"accuracy"``, ``"rms_error"`` for regression, or ``"auc"`` for links and multi-label targets.
    """
    if network.level == "link":
        return "auc"
    return {"classification": "accuracy", "regression": "rms_error", "multi-label": "auc"}[network.target_kind]


def output_metrics(network: Network, combined: Tensor, target: Tensor) -> dict[str, tuple[float, ...]]:
    """Compute the metrics of each regression target or label.

    Args:
        network: Network for regression or multi-label targets.
        combined: (units, out_channels) float32 result of `Network.aggregate`.
        target: (units,) or (units, out_channels) targets.

    Returns:
        For each metric one number per target or label. Regression: ``"rms_error"``, ``"mae"`` (mean absolute error) and
        ``"r2"``, which is NaN if all targets are equal. Multi-label: ``"auc"``, which is NaN if the label applies to
        all units or to none, and ``"f1"``, which is NaN if it neither applies to a unit nor is predicted.
    """
    columns = list(zip(combined.unbind(1), target.view(len(target), -1).unbind(1), strict=True))
    if network.target_kind == "regression":
        functions = {
            "rms_error": metrics.root_mean_squared_error, "mae": metrics.mean_absolute_error, "r2": metrics.r2_score,
        }  # fmt: skip
        return {name: tuple(one(*column) for column in columns) for name, one in functions.items()}
    return {
        "auc": tuple(metrics.roc_auc(scores, applies) for scores, applies in columns),
        "f1": tuple(metrics.f1_score(scores > 0, applies > 0) for scores, applies in columns),
    }


def mean_known(values: tuple[float, ...]) -> float:
    """Return the mean of the numbers that are not NaN, or NaN if there are none."""
    known = [value for value in values if not math.isnan(value)]
    return math.fsum(known) / len(known) if known else math.nan


def all_metrics(network: Network, combined: Tensor, target: Tensor) -> dict[str, float]:
    """Compute the metrics of a network.

    Args:
        network: Network that computed the scores.
        combined: (units, out_channels) float32 result of `Network.aggregate`, for all layers or one.
        target: Targets of the units.

    Returns:
        The main metric first. For regression and multi-label targets: means over the targets or labels whose metric is
        defined. All are NaN if a score is NaN.
    """
    name = metric_name(network)
    if bool(combined.isnan().any()):
        return {name: math.nan}
    if network.level == "link":
        return {name: metrics.roc_auc(combined[:, 0], target)}
    if network.target_kind == "classification":
        return {name: metrics.accuracy(combined, target)}
    return {key: mean_known(values) for key, values in output_metrics(network, combined, target).items()}


def layer_metrics(network: Network, scores: Tensor, target: Tensor) -> dict[str, float]:
    """Compute the metrics of a single layer.

    Args:
        network: Network of the layer.
        scores: (units, out_channels) float32 scores of the layer.
        target: Targets of the units.

    Returns:
        The metrics; see `all_metrics`.
    """
    return all_metrics(network, scores if network.target_mean is None else network.values(scores), target)


def validation_score(network: Network, combined: Tensor, target: Tensor) -> tuple[float, ...]:
    """Compute the validation score, by which the best weights are selected.

    Args:
        network: Network that computed the scores.
        combined: (units, out_channels) float32 result of `Network.aggregate`.
        target: Targets of the units.

    Returns:
        A tuple to maximise. Classes and labels: the main metric, and the negative cross-entropy, which breaks ties.
        Regression: the negative root mean squared error; if there are several targets, on the scale of the layers, so
        that their units do not matter. Links: the main metric.
    """
    if network.level != "link" and network.target_kind == "regression":
        if network.out_channels == 1:
            return (-all_metrics(network, combined, target)["rms_error"],)
        error = network.standardised(combined).double() - network.standardised(target).double()
        return (-float(error.square().mean().sqrt()),)
    value = all_metrics(network, combined, target)[metric_name(network)]
    if network.level == "link":
        return (value,)
    if network.target_kind == "multi-label":
        loss = torch.nn.functional.binary_cross_entropy_with_logits(combined.double(), target.double())
        return value, -float(loss)
    return value, -metrics.log_loss(combined, target)


def choose_layers(network: Network, scores: Tensor, target: Tensor) -> None:
    """Select the range of consecutive layers whose combined scores have the best metric.

    Ties are resolved in favour of the range with the most layers.

    Args:
        network: Network whose layer mask is set.
        scores: (layers, units, out_channels) float32 scores of the validation part.
        target: Targets of the units.
    """
    layers = len(scores)
    ranges = [(first, end) for first in range(layers) for end in range(first + 1, layers + 1)]

    def merit(chosen: tuple[int, int]) -> tuple[float, int]:
        network.set_layer_mask(*chosen)
        return validation_score(network, network.aggregate(scores), target)[0], chosen[1] - chosen[0]

    network.set_layer_mask(*max(ranges, key=merit))


def scores_and_targets(parts: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """Concatenate the scores and the targets of several batches.

    Args:
        parts: (units, out_channels) scores and targets of each batch.

    Returns:
        The scores and the targets of all units.
    """
    return torch.cat([scores for scores, _ in parts]), torch.cat([target for _, target in parts])
