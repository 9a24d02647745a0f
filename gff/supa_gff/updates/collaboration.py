"""Collaboration of layers: the loss of a layer also depends on the scores of the layers below (arXiv 2305.12393)."""

from torch import Tensor

from supa_gff.method import Method


def add_scores(method: Method, below: Tensor | None, scores: Tensor) -> Tensor | None:
    """Add the scores of a layer to those of the layers below it, without gradients.

    Args:
        method: Method of the network.
        below: (units, hypotheses or out_channels) float32 sum over the layers below. None for the first layer.
        scores: Scores of the layer, with the same shape.

    Returns:
        The sum. None if the method has no collaboration.
    """
    if not method.collaboration:
        return None
    return scores.detach() if below is None else below + scores.detach()
