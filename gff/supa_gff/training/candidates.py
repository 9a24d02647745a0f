"""The labels that the steps of a training compare: drawn at each step, or once for the whole training."""

from collections.abc import Callable

import torch
from torch import Tensor

from supa_gff.data import Batch, GraphSet
from supa_gff.training.data import TrainingData
from supa_gff.updates.rule import UpdateRule


class CandidateSampler:
    """Draws candidate labels as the method of a network says.

    Args:
        rule: the update rule of the network.
        data: the training data.
    """

    def __init__(self, rule: UpdateRule, data: TrainingData) -> None:
        self._rule, self._data = rule, data
        self.fixed: Tensor | None = None
        """(items, candidates) int64 labels that were drawn once for all items of the set, if the method says so."""

    def draw(self, batch: Batch, layer: int | None = None, scores: Callable[[], Tensor] | None = None) -> Tensor | None:
        """Return the labels that a step compares.

        Args:
            batch: the training batch.
            layer: the layer that is trained; None: all are.
            scores: returns the (units, out_channels) scores that hard negatives are drawn by; None: those of the
                trained layers.

        Returns:
            (units, candidates) int64, the positive label first; None if the method has no negatives.
        """
        negatives = self._rule.network.method.negatives
        if negatives is None:
            return None
        if negatives.redraw:
            return self._rule.draw_candidates(batch, scores, layer)
        graphs = self._data.graphs
        assert isinstance(graphs, GraphSet)
        if self.fixed is None:
            every = graphs.batch(torch.arange(graphs.num_items, device=graphs.device))
            self.fixed = self._rule.draw_candidates(every)
        assert self.fixed is not None
        if graphs.transductive:
            return self.fixed[self._data.train]
        return self.fixed[batch.graph_indices if graphs.level == "graph" else batch.node_indices]
