"""Candidate labels of the training steps."""

from collections.abc import Callable

import torch
from torch import Tensor

from supa_gff.batch import Batch
from supa_gff.graph_set import GraphSet
from supa_gff.training.data import TrainingData
from supa_gff.training.disk_data import DiskData
from supa_gff.training.stream_data import StreamData
from supa_gff.updates.rule import UpdateRule


class CandidateSampler:
    """Draws candidate labels, in each step or once per training run, as set by the method of the network.

    Args:
        rule: Update rule of the network.
        data: Training data.
    """

    def __init__(self, rule: UpdateRule, data: TrainingData | StreamData | DiskData) -> None:
        self._rule, self._data = rule, data
        self.fixed: Tensor | None = None
        """(items, candidates) int64 labels of all items, if the method draws them once. None before the first draw."""

    def draw(self, batch: Batch, layer: int | None = None, scores: Callable[[], Tensor] | None = None) -> Tensor | None:
        """Return the candidate labels of a training step.

        Args:
            batch: Training batch.
            layer: Index of the trained layer. None: all layers are trained.
            scores: Function that returns the (units, out_channels) scores from which hard negatives are drawn. None:
                the scores of the trained layers are used.

        Returns:
            (units, candidates) int64 labels with the positive label first. None if the method has no negatives.
        """
        negatives = self._rule.network.method.negatives
        if negatives is None:
            return None
        if negatives.redraw:
            return self._rule.draw_candidates(batch, scores, layer)
        data = self._data
        assert isinstance(data, TrainingData)
        graphs = data.graphs
        assert isinstance(graphs, GraphSet)
        if self.fixed is None:
            every = graphs.batch(torch.arange(graphs.num_items, device=graphs.device))
            self.fixed = self._rule.draw_candidates(every)
        assert self.fixed is not None
        if graphs.transductive:
            return self.fixed[data.train]
        return self.fixed[batch.graph_indices if graphs.level == "graph" else batch.node_indices]
