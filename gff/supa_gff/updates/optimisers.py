"""Separate optimisers for the layers of a network."""

from collections.abc import Iterable, Mapping
from typing import Any

import torch

from supa_gff.networks.score_network import ScoreNetwork


class LayerOptimisers:
    """Separate Adam optimisers for the layers of a network, created on first use.

    Args:
        network: Network to optimise.
        capturable: Whether a step can be part of a CUDA graph.
    """

    def __init__(self, network: ScoreNetwork, *, capturable: bool = False) -> None:
        self._network, self._capturable = network, capturable
        self._optimisers: dict[int, torch.optim.Adam] = {}

    def optimiser(self, layer: int) -> torch.optim.Adam:
        """Return the optimiser of a layer.

        Args:
            layer: Index of the layer.

        Returns:
            Adam for the parameters of this layer that require gradients.
        """
        if layer not in self._optimisers:
            method = self._network.method
            weights = [weight for weight in self._network.layer(layer).parameters() if weight.requires_grad]
            rate: float | torch.Tensor = method.learning_rate
            if self._capturable:  # a graph contains a number, but reads a tensor in each replay
                rate = torch.tensor(rate, device=weights[0].device)
            self._optimisers[layer] = torch.optim.Adam(
                weights, lr=rate, weight_decay=method.weight_decay, fused=True, capturable=self._capturable
            )
        return self._optimisers[layer]

    def step(self, layers: Iterable[int]) -> None:
        """Update the weights of the given layers and clear their gradients.

        Args:
            layers: Indices of the layers.
        """
        for layer in layers:
            optimiser = self.optimiser(layer)
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)

    def set_learning_rate(self, layers: Iterable[int], learning_rate: float) -> None:
        """Set the learning rate of the given layers.

        Args:
            layers: Indices of the layers.
            learning_rate: New learning rate.
        """
        for layer in layers:
            for group in self.optimiser(layer).param_groups:
                if self._capturable:
                    group["lr"].fill_(learning_rate)
                else:
                    group["lr"] = learning_rate

    def release(self, layer: int) -> None:
        """Remove the optimiser of a layer that has finished training.

        Args:
            layer: Index of the layer.
        """
        self._optimisers.pop(layer, None)

    def state_dict(self) -> dict[int, Any]:
        """Return the states of the optimisers.

        Returns:
            The ``state_dict`` of each existing optimiser, by index of the layer.
        """
        return {layer: optimiser.state_dict() for layer, optimiser in self._optimisers.items()}

    def load_state_dict(self, states: Mapping[int, Any]) -> None:
        """Restore the states of the optimisers. Optimisers without a state are removed.

        Args:
            states: Result of `state_dict`.
        """
        self._optimisers = {}
        for layer, state in states.items():
            self.optimiser(layer).load_state_dict(state)
