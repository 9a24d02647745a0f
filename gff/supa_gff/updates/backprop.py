"""Backpropagation through all layers: the baseline of the local update rules."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from supa_gff.batch import Batch
from supa_gff.networks.hypotheses import HypothesisBatch
from supa_gff.updates.activation_checkpointing import checkpointed
from supa_gff.updates.loss_stats import LayerStats
from supa_gff.updates.rule import UpdateRule


class Backprop(UpdateRule):
    """Updates all layers by one loss, computed from the summed scores or from the scores of the last layer."""

    def update_all(self, inputs: HypothesisBatch, batch: Batch, candidates: Tensor | None) -> list[LayerStats]:
        """Update all layers by one loss; see `UpdateRule.update_all`.

        Returns:
            The statistics of the loss: one entry, with the index of the last layer.
        """
        network, method = self.network, self.network.method
        network.train()
        if method.accumulation == 1:
            stats = self.add_gradient(inputs, batch, candidates)
        else:
            parts = batch.split(method.accumulation)
            stats = _joined([self.add_gradient(network.inputs(part, None), part, None) for part in parts])
        self.optimisers.step(range(method.layers))
        return stats

    def add_gradient(self, inputs: HypothesisBatch, batch: Batch, candidates: Tensor | None) -> list[LayerStats]:
        """Add the gradient of the loss of a batch, or of a part of it, to the gradients of the weights.

        Args:
            inputs: Input of the first layer.
            batch: Training batch, or a part of it.
            candidates: Candidate labels; see `UpdateRule.step`.

        Returns:
            The statistics of each loss.
        """
        scores: Tensor | None = None
        for own in self.layer_scores(inputs, batch):
            scores = own if scores is None or self.network.method.layers_used == "last" else scores + own
        assert scores is not None
        loss, stats = self.loss(self.network.method.layers - 1, scores, batch, candidates)
        loss.backward()  # type: ignore[no-untyped-call]
        return [stats]

    def layer_scores(self, inputs: HypothesisBatch, batch: Batch) -> Iterator[Tensor]:
        """Yield the scores of each layer, with gradients to all layers below.

        Args:
            inputs: Input of the first layer.
            batch: Training batch.

        Yields:
            (units, hypotheses or out_channels) float32 scores.
        """
        method = self.network.method
        for layer in range(method.layers):
            module = self.network.layer(layer)
            if method.checkpointing:
                h = checkpointed(module, inputs)
            else:
                h = module(inputs.x, inputs.topology, inputs.labels)
            yield module.score(h, inputs.topology, batch)
            inputs = HypothesisBatch(h, inputs.topology, inputs.labels)


def _joined(parts: Sequence[Sequence[LayerStats]]) -> list[LayerStats]:
    """Return the statistics of a batch from those of its parts, whose losses add up to that of the batch."""
    joined = []
    for each in zip(*parts, strict=True):
        units = sum(part.units for part in each)
        values = torch.stack([part.values * (part.units / units) for part in each]).sum(0)
        values[0] = torch.stack([part.values[0] for part in each]).sum()
        joined.append(LayerStats(each[0].layer, values, units))
    return joined
