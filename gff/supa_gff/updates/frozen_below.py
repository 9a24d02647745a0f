"""Update of one layer on top of frozen layers, which are computed in each step without a cache."""

from collections.abc import Callable

import torch
from torch import Tensor

from supa_gff.batch import Batch
from supa_gff.networks.hypotheses import HypothesisBatch
from supa_gff.networks.score_network import ScoreNetwork
from supa_gff.updates.collaboration import add_scores
from supa_gff.updates.gradients import LayerPass
from supa_gff.updates.loss_stats import LayerStats

UpdateLayer = Callable[[int, HypothesisBatch, Batch, Tensor | None, Tensor | None], LayerPass]
"""Function that updates one layer; see `UpdateRule.update_layer`."""


def update_one_layer(
    network: ScoreNetwork,
    update_layer: UpdateLayer,
    layer: int,
    inputs: HypothesisBatch,
    batch: Batch,
    candidates: Tensor | None,
) -> LayerStats:
    """Update one layer on the activations of the frozen layers below; ``inputs`` is the input of the first layer."""
    below: Tensor | None = None
    with torch.no_grad():
        for index in range(layer):
            module = network.layer(index)
            module.eval()
            h = module(inputs.x, inputs.topology, inputs.labels)
            if network.method.collaboration:
                below = add_scores(network.method, below, module.score(h, inputs.topology, batch))
            inputs = network.detach_to_next(inputs, h, positive_first=True)
    return update_layer(layer, inputs, batch, candidates, below).stats
