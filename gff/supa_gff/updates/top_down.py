"""Top-down training: layers use the activations of the layers above from the previous step."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from supa_gff.batch import Batch
from supa_gff.networks.hypotheses import HypothesisBatch
from supa_gff.networks.score_network import ScoreNetwork
from supa_gff.networks.top_down import TopDownPass, unit_length
from supa_gff.updates.loss_stats import LayerStats
from supa_gff.updates.rule import UpdateRule

_MAX_GRADIENT_NORM = 1.0


class TopDown(UpdateRule):
    """Updates every layer in each time step of ForwardGNN's top-down variants (arXiv 2403.11004, section 3.4).

    Args:
        network: Network to train.
    """

    activations: list[Tensor] | None
    """Activations of the last time step; see `TopDownPass`. None before the first one."""

    def __init__(self, network: ScoreNetwork) -> None:
        super().__init__(network)
        layers = [network.layer(index) for index in range(network.method.layers)]
        self._pass = TopDownPass(network.method, layers, network.out_channels)
        self.activations = None

    def step(self, data: Any, layer: int | None = None, candidates: Tensor | None = None) -> list[LayerStats]:
        """Update every layer in one time step; see `UpdateRule.step`.

        Args:
            data: The whole graph. Each step continues from the activations of the previous one.
            layer: Must be None, since layers are not trained one by one.
            candidates: Must be None, since there are no hypotheses.

        Returns:
            The statistics of each layer.

        Raises:
            ValueError: If ``layer`` or ``candidates`` is not None, or the batch does not fit the network.
        """
        if layer is not None or candidates is not None:
            raise ValueError("layer and candidates must be None for a method with top_down.")
        return super().step(data)

    def update_all(self, inputs: HypothesisBatch, batch: Batch, candidates: Tensor | None) -> list[LayerStats]:
        """Update every layer by its own loss; see `UpdateRule.update_all`."""
        if self.activations is None or self.activations[0].shape != inputs.x.shape:
            self.activations = self._pass.start(inputs, batch)
        if self._pass.by_input:
            return self._update_by_input(self.activations, inputs, batch, candidates)
        return self._update_by_mean(self.activations, inputs, batch, candidates)

    def _update_by_input(
        self, activations: list[Tensor], inputs: HypothesisBatch, batch: Batch, candidates: Tensor | None
    ) -> list[LayerStats]:
        """Update each layer on the activations below and above. Odd layers use the even layers of this time step."""
        stats = []
        for layer in self._pass.order:
            joined = HypothesisBatch(self._pass.layer_input(layer, activations), inputs.topology, None)
            done = self.update_layer(layer, joined, batch, candidates)
            activations[layer + 1] = done.activations
            stats.append(done.stats)
        return sorted(stats, key=lambda figures: figures.layer)

    def _update_by_mean(
        self, activations: list[Tensor], inputs: HypothesisBatch, batch: Batch, candidates: Tensor | None
    ) -> list[LayerStats]:
        """Update each layer by the loss of the mean of its activations and those above, from the last time step."""
        stats, found = [], []
        for layer in self._pass.order:
            module = self.network.layer(layer)
            module.train()
            h = module(self._pass.layer_input(layer, activations), inputs.topology)
            scores = module.score(self._pass.scored(layer, h, activations), inputs.topology, batch)
            loss, figures = self.loss(layer, scores, batch, candidates)
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(module.parameters(), _MAX_GRADIENT_NORM)
            self.optimisers.step([layer])
            found.append(unit_length(h.detach()))
            stats.append(figures)
        activations[1:] = found
        return stats

    def state_dict(self) -> dict[str, Any]:
        """Return the states of the optimisers, and the activations; see `UpdateRule.state_dict`."""
        return {**super().state_dict(), "activations": list(self.activations or [])}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore a state; see `UpdateRule.load_state_dict`."""
        super().load_state_dict(state)
        self.activations = [h.to(self.network.layer_mask.device) for h in state["activations"]] or None
