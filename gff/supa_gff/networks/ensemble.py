"""Combination of the scores of several layers."""

from typing import Literal

from torch import Tensor

Aggregation = Literal["scores", "probabilities", "mean"]
"""How the scores of several layers are combined: sum of scores, sum of softmax probabilities, or mean of scores."""


def aggregate(scores: Tensor, how: Aggregation) -> Tensor:
    """Combine the scores of several layers.

    Args:
        scores: (layers, units, out_channels) float32 scores.
        how: ``"scores"``: sum of the scores; ``"probabilities"``: sum of their softmax; ``"mean"``: mean of the scores.

    Returns:
        (units, out_channels) float32 combined scores.
    """
    if how == "mean":
        return scores.mean(0)
    return (scores.softmax(2) if how == "probabilities" else scores).sum(0)
