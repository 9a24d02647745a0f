"""Backpropagation with deep supervision: the local losses of all layers, with gradients through all layers."""

from torch import Tensor

from supa_gff.batch import Batch
from supa_gff.networks.hypotheses import HypothesisBatch
from supa_gff.updates.backprop import Backprop
from supa_gff.updates.loss_stats import LayerStats


class DeepSupervision(Backprop):
    """Updates all layers by the sum of their local losses. The gradient of each loss passes to all layers below.

    It differs from `Joint` only in that gradients pass between layers, so it shows what locality costs.

    Source:
        Lee et al., Deeply-Supervised Nets (arXiv 1409.5185).
    """

    def add_gradient(self, inputs: HypothesisBatch, batch: Batch, candidates: Tensor | None) -> list[LayerStats]:
        """Add the gradient of the sum of the local losses; see `Backprop.add_gradient`."""
        done = [
            self.loss(layer, scores, batch, candidates) for layer, scores in enumerate(self.layer_scores(inputs, batch))
        ]
        total = sum(loss for loss, _ in done)
        assert isinstance(total, Tensor)
        total.backward()  # type: ignore[no-untyped-call]
        return [stats for _, stats in done]
