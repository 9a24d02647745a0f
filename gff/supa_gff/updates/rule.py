"""Base class of the update rules."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor

from supa.checks import check_int, counted
from supa_gff.batch import Batch
from supa_gff.networks.hypotheses import HypothesisBatch
from supa_gff.networks.score_network import ScoreNetwork
from supa_gff.updates.frozen_below import update_one_layer
from supa_gff.updates.gradients import LayerPass, parallel_gradient, sequential_gradient
from supa_gff.updates.loss_stats import LayerStats, loss_and_stats
from supa_gff.updates.optimisers import LayerOptimisers


class UpdateRule(ABC):
    """Base class of the rules that update the weights of a network.

    Args:
        network: Network to train.
    """

    def __init__(self, network: ScoreNetwork) -> None:
        self.network, self.optimisers = network, LayerOptimisers(network)

    def step(self, data: Any, layer: int | None = None, candidates: Tensor | None = None) -> list[LayerStats]:
        """Update the weights by one training step.

        Args:
            data: A `supa_gff.Batch`, or a ``Data`` or ``Batch`` of PyTorch Geometric (see ``Batch.of``).
            layer: Index of the only layer to update, with frozen layers below. None: all layers are updated.
            candidates: (units, candidates) int64 candidate labels, from `draw_candidates`. None: they are drawn.

        Returns:
            The statistics of each loss.

        Raises:
            ValueError: If the layer does not exist, or the batch does not fit the network.
        """
        network = self.network
        batch = Batch.of(data, network.level)
        _check_targets(network, batch)
        if layer is not None:
            check_int(0, network.method.layers - 1, "layer", layer, "(layers are counted from 0)")
        if candidates is None:
            candidates = self.draw_candidates(batch, layer=layer)
        labels = None
        if network.method.label_conditioned and candidates is not None:
            labels = network.node_labels(batch, candidates)
        inputs = network.inputs(batch, labels)
        if layer is not None:
            return [update_one_layer(network, self.update_layer, layer, inputs, batch, candidates)]
        return self.update_all(inputs, batch, candidates)

    @abstractmethod
    def update_all(self, inputs: HypothesisBatch, batch: Batch, candidates: Tensor | None) -> list[LayerStats]:
        """Update all layers once.

        Args:
            inputs: Input of the first layer.
            batch: Training batch.
            candidates: Candidate labels; see `step`.

        Returns:
            The statistics of each loss.
        """

    def update_layer(
        self,
        layer: int,
        inputs: HypothesisBatch,
        batch: Batch,
        candidates: Tensor | None,
        below: Tensor | None = None,
        prepared: Tensor | None = None,
    ) -> LayerPass:
        """Update one layer by its own loss.

        Args:
            layer: Index of the layer.
            inputs: Input of the layer.
            batch: Training batch.
            candidates: Candidate labels; see `step`.
            below: (units, hypotheses or out_channels) float32 sum of the scores of the layers below. None without
                collaboration.
            prepared: Result of the layer's `prepare`. None: it is computed.

        Returns:
            The activations and scores before the update, and the statistics of the step.
        """
        module = self.network.layer(layer)
        module.train()
        sequential = self.network.method.hypotheses == "sequential" and inputs.labels is not None
        gradient = sequential_gradient if sequential else parallel_gradient
        loss_of = partial(self.loss, layer, batch=batch, candidates=candidates, below=below)
        done = gradient(module, inputs, batch, prepared, loss_of)
        self.optimisers.step([layer])
        return done

    def loss(
        self, layer: int, scores: Tensor, batch: Batch, candidates: Tensor | None, below: Tensor | None = None
    ) -> tuple[Tensor, LayerStats]:
        """Compute the loss of the scores of a layer plus those of the layers below; see `loss_and_stats`."""
        summed = scores if below is None else scores + below
        return loss_and_stats(self.network, layer, summed, batch, candidates)

    def draw_candidates(
        self, batch: Batch, scores: Callable[[], Tensor] | None = None, layer: int | None = None
    ) -> Tensor | None:
        """Draw the candidate labels of a step: the positive label and the negative labels.

        Args:
            batch: Training batch.
            scores: Function that returns the (units, out_channels) scores from which hard negatives are drawn. None:
                the scores of the trained layers are used.
            layer: Index of the trained layer. None: all layers are trained, and their scores are summed.

        Returns:
            (units, candidates) int64 labels with the positive label first. None if the method has no negatives.
        """
        network = self.network
        negatives = network.method.negatives
        if negatives is None:
            return None
        trained = slice(None) if layer is None else slice(layer, layer + 1)
        default = scores or (lambda: network.layer_scores(batch)[trained].sum(0))
        return torch.cat([batch.target[:, None], negatives.draw(batch.target, network.out_channels, default)], 1)

    def state_dict(self) -> dict[str, Any]:
        """Return the state that is required to resume training, in addition to the weights of the network.

        Returns:
            Plain values and tensors.
        """
        return {"optimisers": self.optimisers.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore a state.

        Args:
            state: Result of `state_dict`.
        """
        self.optimisers.load_state_dict(state["optimisers"])


def _check_targets(network: ScoreNetwork, batch: Batch) -> None:
    target = batch.target
    if network.level == "link":
        return
    columns = 1 if target.dim() == 1 else target.shape[1]
    if network.target_kind != "classification":
        if columns != network.out_channels:
            raise ValueError(
                f"The network predicts {counted(network.out_channels, 'target')} per {network.level}, but the batch "
                f"has {columns:,}."
            )
        # `GraphSet.of` has converted labels to bool. On a GPU the check of others would synchronise in each step.
        if network.target_kind == "multi-label" and target.dtype != torch.bool and not target.is_cuda:
            wrong = (target != 0) & (target != 1)
            if bool(wrong.any()):
                raise ValueError(f"Multi-label targets must be 0 or 1 for each label, but one is {target[wrong][0]:g}.")
        return
    if target.is_floating_point():
        raise ValueError("The targets are floats; use loss=SquaredError() and score=Head(...) for regression.")
    if columns > 1:
        raise ValueError(
            f"The batch has {counted(columns, 'target')} per {network.level}, but a class is one number; use "
            "loss=BinaryCrossEntropy() and score=Head(...) for multi-label targets."
        )
    # On a GPU this check would synchronise in each step. `GraphSet.of` has already checked the labels.
    if not target.is_cuda and len(target) and not 0 <= int(target.min()) <= int(target.max()) < network.out_channels:
        raise ValueError(
            f"Labels must be between 0 and {network.out_channels - 1} for a network with "
            f"{counted(network.out_channels, 'class', 'classes')}, but they range from {int(target.min())} to "
            f"{int(target.max())}."
        )
