"""Overlapping pairs: gradients pass within alternating pairs of adjacent layers (Trifecta, arXiv 2311.18130)."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from supa_gff.batch import Batch
from supa_gff.networks.hypotheses import HypothesisBatch
from supa_gff.networks.score_network import ScoreNetwork
from supa_gff.updates.collaboration import add_scores
from supa_gff.updates.loss_stats import LayerStats
from supa_gff.updates.rule import UpdateRule


class OverlappingPairs(UpdateRule):
    """Updates all layers in each step, with gradients that pass from the upper to the lower layer of each pair.

    The pairs are (0, 1), (2, 3), ... in even steps and (1, 2), (3, 4), ... in odd steps.

    Args:
        network: Network to train.
    """

    def __init__(self, network: ScoreNetwork) -> None:
        super().__init__(network)
        self.parity = 0

    def update_all(self, inputs: HypothesisBatch, batch: Batch, candidates: Tensor | None) -> list[LayerStats]:
        """Update each pair of layers by the sum of their losses; see `UpdateRule.update_all`."""
        network, layers = self.network, self.network.method.layers
        network.train()
        total: Tensor | None = None
        below: Tensor | None = None
        stats = []
        for layer in range(layers):
            module = network.layer(layer)
            h = module(inputs.x, inputs.topology, inputs.labels)
            scores = module.score(h, inputs.topology, batch)
            loss, figures = self.loss(layer, scores, batch, candidates, below)
            stats.append(figures)
            below = add_scores(network.method, below, scores)
            total = loss if total is None else total + loss
            if (layer + self.parity) % 2 == 1 or layer == layers - 1:
                total.backward()  # type: ignore[no-untyped-call]
                total = None
                inputs = network.detach_to_next(inputs, h, positive_first=True)
            else:
                inputs = HypothesisBatch(h, inputs.topology, inputs.labels)
        self.parity = 1 - self.parity
        self.optimisers.step(range(layers))
        return stats

    def state_dict(self) -> dict[str, Any]:
        """Return the states of the optimisers and the parity of the next step; see `UpdateRule.state_dict`."""
        return {**super().state_dict(), "parity": self.parity}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore a state; see `UpdateRule.load_state_dict`."""
        super().load_state_dict(state)
        self.parity = state["parity"]
