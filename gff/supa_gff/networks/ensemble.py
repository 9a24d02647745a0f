"""Combining the scores of several layers into one prediction."""

from typing import Literal

from torch import Tensor

Aggregation = Literal["scores", "probabilities", "mean"]
"""How the scores of several layers are combined: summed, summed as softmax probabilities, or averaged."""


def aggregate(scores: Tensor, how: Aggregation) -> Tensor:
    """Combine the scores of several layers.

    Args:
        scores: (layers, units, out_channels) float32.
        how: whether scores are summed, their softmax probabilities are summed, or scores are averaged.

    Returns:
        (units, out_channels) float32.
    """
    if how == "mean":
        return scores.mean(0)
    return (scores.softmax(2) if how == "probabilities" else scores).sum(0)
