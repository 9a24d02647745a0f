"""Backpropagation through all layers: the baseline of the local update rules."""

from torch import Tensor

from supa_gff.data import Batch
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
        scores: Tensor | None = None
        for layer in range(method.layers):
            module = network.layer(layer)
            if method.checkpointing:
                h = checkpointed(module, inputs)
            else:
                h = module(inputs.x, inputs.topology, inputs.labels)
            own = module.score(h, inputs.topology, batch)
            scores = own if scores is None or method.layers_used == "last" else scores + own
            inputs = HypothesisBatch(h, inputs.topology, inputs.labels)
        assert scores is not None
        loss, stats = self.loss(method.layers - 1, scores, batch, candidates)
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimisers.step(range(method.layers))
        return [stats]
