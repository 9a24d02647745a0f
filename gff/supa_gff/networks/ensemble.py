"""How the scores of the layers are added for a prediction."""

from typing import Literal

from torch import Tensor

Votes = Literal["scores", "probabilities", "mean"]
"""How the scores of the layers that vote are added: as they are, as their softmax, or averaged."""


def added(scores: Tensor, votes: Votes) -> Tensor:
    """Add the scores of some layers.

    Args:
        scores: (layers, units, outputs) float32.
        votes: whether scores are added, or their softmax, or averaged.

    Returns:
        (units, outputs) float32.
    """
    if votes == "mean":
        return scores.mean(0)
    return (scores.softmax(2) if votes == "probabilities" else scores).sum(0)
