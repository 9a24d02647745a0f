"""Incremental training on a stream of batches."""

from collections.abc import Mapping
from typing import Any

import torch

from supa_gff.batch import Batch
from supa_gff.method import Method
from supa_gff.negatives import check_redrawn
from supa_gff.networks.score_network import ScoreNetwork
from supa_gff.updates.factory import update_rule
from supa_gff.updates.loss_stats import LayerStats
from supa_learning import RandomState


class IncrementalTraining:
    """Update rule of a network that is trained on a stream of batches, with random generators of its own.

    Args:
        network: Network to train.

    Raises:
        ValueError: If the method cannot be trained on a stream.
    """

    def __init__(self, network: ScoreNetwork) -> None:
        _check_method(network.method)
        self._network, self._rule = network, update_rule(network)
        self._random = RandomState(network.seed, device=network.layer_mask.device)

    def step(self, data: Any, layer: int | None) -> list[LayerStats]:
        """Update the weights by one training step; see `Network.partial_fit`.

        Args:
            data: Batch to train on.
            layer: Index of the only layer to update. None: all layers are updated.

        Returns:
            The statistics of each loss.

        Raises:
            ValueError: If the batch does not fit the network, or the layer does not exist or is required.
        """
        network = self._network
        if layer is None and network.method.schedule == "greedy":
            raise ValueError(
                "The method trains one layer after another (schedule='greedy'), but a stream does not tell when a "
                "layer is finished; give layer=, or use method.replace(schedule='joint') to train all layers at once."
            )
        batch = Batch.of(data, network.level)
        _check_values(batch)
        with self._random.as_global():
            return self._rule.step(batch, layer)

    def state_dict(self) -> dict[str, Any]:
        """Return the states of the update rule and of the random generators.

        Returns:
            Plain values and tensors.
        """
        return {"rule": self._rule.state_dict(), "random": self._random.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore a state.

        Args:
            state: Result of `state_dict`.
        """
        self._rule.load_state_dict(state["rule"])
        self._random.load_state_dict(state["random"])


def _check_method(method: Method) -> None:
    check_redrawn(method.negatives)
    if method.top_down is not None:
        raise ValueError(
            "Each step of a method with top_down continues from the activations of the same graph, but the graphs of a "
            "stream differ; use another method, or update_rule(network) for steps on one graph."
        )


def _check_values(batch: Batch) -> None:
    """Check what `GraphSet.of` checks for other trainings: one bad batch would make all weights NaN."""
    if batch.num_units == 0:
        raise ValueError("The batch has no targets to train on; leave it out.")
    if batch.x.is_cuda:  # the check would synchronise in each step
        return
    for name, values in (("features", batch.x), ("edge features", batch.edge_attr), ("targets", batch.target)):
        if values is not None and not bool(torch.isfinite(values).all()):
            raise ValueError(f"The batch has {name} that are not finite; correct them or leave the batch out.")
