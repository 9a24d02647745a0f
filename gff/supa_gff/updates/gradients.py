"""Gradient of the local loss of one layer, with parallel or sequential hypotheses."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from supa_gff.batch import Batch
from supa_gff.networks.hypotheses import HypothesisBatch
from supa_gff.networks.layer import Layer
from supa_gff.updates.loss_stats import LayerStats

LossOfScores = Callable[[Tensor], tuple[Tensor, LayerStats]]
"""Function that takes the scores of a layer and returns its loss and the statistics of the step."""


class LayerPass(NamedTuple):
    """Results of a forward and backward pass of one layer, detached from the gradient graph.

    Args:
        activations: (hypotheses, nodes, hidden_channels) float32 activations.
        scores: (units, hypotheses or out_channels) float32 scores.
        stats: Statistics of the step.
    """

    activations: Tensor
    scores: Tensor
    stats: LayerStats


def parallel_gradient(
    layer: Layer, inputs: HypothesisBatch, batch: Batch, prepared: Tensor | None, loss_of: LossOfScores
) -> LayerPass:
    """Compute the gradient of a layer with all hypotheses at once.

    Args:
        layer: Layer to differentiate.
        inputs: Input of the layer.
        batch: Training batch.
        prepared: Result of the layer's `prepare`. None: it is computed.
        loss_of: Loss of the scores.

    Returns:
        The results of the pass. The gradients are in the parameters of the layer.
    """
    h = layer(inputs.x, inputs.topology, inputs.labels, prepared)
    scores = layer.score(h, inputs.topology, batch)
    loss, stats = loss_of(scores)
    loss.backward()  # type: ignore[no-untyped-call]
    return LayerPass(h.detach(), scores.detach(), stats)


def sequential_gradient(
    layer: Layer, inputs: HypothesisBatch, batch: Batch, prepared: Tensor | None, loss_of: LossOfScores
) -> LayerPass:
    """Compute the same gradient as `parallel_gradient` with one hypothesis in memory at a time.

    The scores are computed first, without gradients, followed by the gradient of the loss with respect to the scores.
    Then each hypothesis is computed again, and its scores are differentiated.

    The layer must have no dropout, and the input must have labels. See `parallel_gradient` for the arguments.
    """
    assert inputs.labels is not None
    parts = [inputs.select(k) for k in range(len(inputs.labels))]

    def activations_of(k: int) -> Tensor:
        own = prepared if prepared is None or len(prepared) == 1 else prepared[k : k + 1]
        activations: Tensor = layer(parts[k].x, parts[k].topology, parts[k].labels, own)
        return activations

    with torch.no_grad():
        activations = [activations_of(k) for k in range(len(parts))]
        scores = torch.cat([layer.score(h, inputs.topology, batch) for h in activations], 1)
    scores.requires_grad_()
    loss, stats = loss_of(scores)
    (slope,) = torch.autograd.grad(loss, scores)
    for k in range(len(parts)):
        own_scores = layer.score(activations_of(k), inputs.topology, batch)
        own_scores.backward(slope[:, k : k + 1])  # type: ignore[no-untyped-call]
    return LayerPass(torch.cat(activations), scores.detach(), stats)
