"""Joint training: each step updates every layer by its own loss."""

from torch import Tensor

from supa_gff.batch import Batch
from supa_gff.networks.hypotheses import HypothesisBatch
from supa_gff.updates.collaboration import add_scores
from supa_gff.updates.loss_stats import LayerStats
from supa_gff.updates.rule import UpdateRule


class Joint(UpdateRule):
    """Updates all layers in each step, from the first to the last. No gradient passes between layers."""

    def update_all(self, inputs: HypothesisBatch, batch: Batch, candidates: Tensor | None) -> list[LayerStats]:
        """Update every layer by its own loss; see `UpdateRule.update_all`."""
        network = self.network
        below: Tensor | None = None
        stats = []
        for layer in range(network.method.layers):
            done = self.update_layer(layer, inputs, batch, candidates, below)
            stats.append(done.stats)
            below = add_scores(network.method, below, done.scores)
            inputs = network.detach_to_next(inputs, done.activations, positive_first=True)
        return stats
