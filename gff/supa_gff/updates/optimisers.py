"""One optimiser for each layer of a network."""

from collections.abc import Iterable, Mapping
from typing import Any

import torch

from supa_gff.networks.network import Network


class LayerOptimisers:
    """One Adam for each layer, over the parameters of that layer alone; each is made on first use.

    Args:
        network: the network.
    """

    def __init__(self, network: Network) -> None:
        self._network = network
        self._optimisers: dict[int, torch.optim.Adam] = {}

    def optimiser(self, layer: int) -> torch.optim.Adam:
        """Return the optimiser of a layer.

        Args:
            layer: number of the layer.

        Returns:
            Adam over the parameters of that layer that require a gradient.
        """
        if layer not in self._optimisers:
            method = self._network.method
            self._optimisers[layer] = torch.optim.Adam(
                [weight for weight in self._network.layer(layer).parameters() if weight.requires_grad],
                lr=method.learning_rate,
                weight_decay=method.weight_decay,
                fused=True,
            )
        return self._optimisers[layer]

    def step(self, layers: Iterable[int]) -> None:
        """Take a step of the optimisers of some layers, and clear their gradients.

        Args:
            layers: numbers of the layers.
        """
        for layer in layers:
            optimiser = self.optimiser(layer)
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)

    def set_learning_rate(self, layers: Iterable[int], learning_rate: float) -> None:
        """Set the learning rate of some layers.

        Args:
            layers: numbers of the layers.
            learning_rate: the learning rate.
        """
        for layer in layers:
            for group in self.optimiser(layer).param_groups:
                group["lr"] = learning_rate

    def release(self, layer: int) -> None:
        """Drop the optimiser of a layer that has finished training.

        Args:
            layer: number of the layer.
        """
        self._optimisers.pop(layer, None)

    def state_dict(self) -> dict[int, Any]:
        """Return the states of the optimisers.

        Returns:
            By number of the layer, the ``state_dict`` of each optimiser that has been made.
        """
        return {layer: optimiser.state_dict() for layer, optimiser in self._optimisers.items()}

    def load_state_dict(self, states: Mapping[int, Any]) -> None:
        """Replace all optimisers by those of a state.

        Args:
            states: from `state_dict`.
        """
        self._optimisers = {}
        for layer, state in states.items():
            self.optimiser(layer).load_state_dict(state)
