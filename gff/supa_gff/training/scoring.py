"""Validation scores, which select epochs and layers."""

import math

import torch
from torch import Tensor

from supa_gff.losses import SquaredError
from supa_gff.networks.network import Network
from supa_learning import metrics


def metric_name(network: Network) -> str:
    """Return the name of the metric of a network.

    Args:
        network: Network to evaluate.

    Returns:
        ``"accuracy"``, ``"auc"`` or ``"rms_error"``.
    """
    if network.level == "link":
        return "auc"
    return "rms_error" if isinstance(network.method.loss, SquaredError) else "accuracy"


def metric(network: Network, scores: Tensor, target: Tensor) -> float:
    """Compute the metric of a network from its scores.

    Args:
        network: Network that computed the scores.
        scores: (units, out_channels) float32 combined scores, or scores of one layer.
        target: (units,) targets.

    Returns:
        Accuracy, area under the ROC curve, or root mean squared error. NaN if a score is NaN.
    """
    if bool(scores.isnan().any()):
        return math.nan
    if network.level == "link":
        return metrics.roc_auc(scores[:, 0], target)
    if isinstance(network.method.loss, SquaredError):
        return metrics.root_mean_squared_error(scores[:, 0], target)
    return metrics.accuracy(scores, target)


def validation_score(network: Network, scores: Tensor, target: Tensor) -> tuple[float, ...]:
    """Compute the validation score, by which the best weights are selected.

    Args:
        network: Network that computed the scores.
        scores: (units, out_channels) float32 scores.
        target: (units,) targets.

    Returns:
        A tuple to maximise: the metric (for regression its negative) and, for classes, the negative cross-entropy,
        which breaks ties between equal accuracies.
    """
    value = metric(network, scores, target)
    if metric_name(network) == "accuracy":
        return value, -metrics.log_loss(scores, target)
    return (-value if metric_name(network) == "rms_error" else value,)


def choose_layers(network: Network, scores: Tensor, target: Tensor) -> None:
    """Select the range of consecutive layers whose combined scores have the best metric.

    Ties are resolved in favour of the range with the most layers.

    Args:
        network: Network whose layer mask is set.
        scores: (layers, units, out_channels) float32 scores of the validation part.
        target: (units,) targets.
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
        parts: (units, out_channels) scores and (units,) targets of each batch.

    Returns:
        The scores and the targets of all units.
    """
    return torch.cat([scores for scores, _ in parts]), torch.cat([target for _, target in parts])
