"""The gradient of one layer's own loss, with its hypotheses in parallel or one after another."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from supa_gff.data import Batch
from supa_gff.networks.hypotheses import HypothesisBatch
from supa_gff.networks.layer import Layer
from supa_gff.updates.loss_stats import LayerStats

LossOfScores = Callable[[Tensor], tuple[Tensor, LayerStats]]
"""A function from a layer's scores to its loss and the figures of the step."""


class LayerPass(NamedTuple):
    """A forward and backward pass of one layer; its tensors carry no gradient.

    Args:
        activations: (hypotheses, nodes, hidden_channels) float32.
        scores: (units, hypotheses or out_channels) float32.
        stats: the figures of the step.
    """

    activations: Tensor
    scores: Tensor
    stats: LayerStats


def parallel_gradient(
    layer: Layer, inputs: HypothesisBatch, batch: Batch, prepared: Tensor | None, loss_of: LossOfScores
) -> LayerPass:
    """Compute the gradient of a layer with all hypotheses at once.

    Args:
        layer: the layer.
        inputs: its input.
        batch: the batch.
        prepared: result of the layer's `prepare`, if it has been computed before.
        loss_of: the loss.

    Returns:
        The pass; the gradient is in the layer's parameters.
    """
    h = layer(inputs.x, inputs.topology, inputs.labels, prepared)
    scores = layer.score(h, inputs.topology, batch)
    loss, stats = loss_of(scores)
    loss.backward()  # type: ignore[no-untyped-call]
    return LayerPass(h.detach(), scores.detach(), stats)


def sequential_gradient(
    layer: Layer, inputs: HypothesisBatch, batch: Batch, prepared: Tensor | None, loss_of: LossOfScores
) -> LayerPass:
    """Compute the gradient of `parallel_gradient` with the intermediate results of one hypothesis in memory at a time.

    The scores are computed first, without gradient; then the gradient of the loss with respect to the scores; then each
    hypothesis passes the layer once more, and its scores are differentiated.

    The arguments are those of `parallel_gradient`; the layer has no dropout, and the inputs have labels.
    """
    assert inputs.labels is not None
    parts = [inputs.select(k) for k in range(len(inputs.labels))]

    def activations_of(k: int) -> Tensor:
        own = prepared if prepared is None or len(prepared) == 1 else prepared[k : k + 1]
        made: Tensor = layer(parts[k].x, parts[k].topology, parts[k].labels, own)
        return made

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
