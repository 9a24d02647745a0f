"""Forward passes with top-down connections, ForwardGNN's variants (arXiv 2403.11004, section 3.4)."""

from collections.abc import Sequence

import torch
from torch import Tensor

from supa_gff.data import Batch, Level
from supa_gff.label_injection import one_hot
from supa_gff.method import Method
from supa_gff.networks.hypotheses import HypothesisBatch
from supa_gff.networks.layer import Layer

_TIME_STEPS = 10
_FIRST_SCORED_STEP = 2


def make_layer(
    method: Method, index: int, in_channels: int, out_channels: int, level: Level, deg: Tensor | None
) -> Layer:
    """Make a layer of a network with top-down connections; the arguments are those of `Layer`.

    With ``top_down="input"`` the activations of the layer above are further input channels.
    """
    if method.top_down == "loss":
        return Layer(method, index, in_channels, out_channels, level, deg)
    above = out_channels if index == method.layers - 1 else method.hidden_channels
    # `TopDownPass` normalises the activations from below and above separately, before it joins them.
    plain = method.replace(top_down=None, normalisation="none")
    return Layer(plain, index, in_channels + above, out_channels, level, deg)


class TopDownPass:
    """Forward passes in time: in each time step, layers see the activations of the layers above from the step before.

    With ``top_down="input"`` (eq. 7) a layer takes the activations of the layer above beside those of the layer below;
    the last layer takes the known labels. Even layers are computed before odd ones. With ``"loss"`` (eq. 8) a layer is
    scored by the mean of its own activations and those of all layers above.

    The activations of a time step are a list of (1, nodes, channels) tensors: the input, one for each layer and, with
    ``"input"``, the known labels as one-hot. No gradient passes between its entries.

    Args:
        method: the method; its ``top_down`` is not None.
        layers: the layers of the network.
        out_channels: number of classes.
    """

    def __init__(self, method: Method, layers: Sequence[Layer], out_channels: int) -> None:
        self.by_input = method.top_down == "input"
        self._layers, self._out_channels, self._hidden_channels = layers, out_channels, method.hidden_channels

    @property
    def order(self) -> list[int]:
        """Numbers of the layers in the order of their updates within a time step."""
        layers = range(len(self._layers))
        return [*layers[::2], *layers[1::2]] if self.by_input else [*layers]

    @torch.no_grad()
    def start(self, inputs: HypothesisBatch, batch: Batch) -> list[Tensor]:
        """Return the activations before the first time step, from one pass without top-down connections."""
        activations = [unit_length(inputs.x)]
        for index, layer in enumerate(self._layers):
            x = activations[-1]
            if self.by_input:
                above = self._out_channels if index == len(self._layers) - 1 else self._hidden_channels
                x = _join(x, x.new_zeros(*x.shape[:2], above))
            activations.append(unit_length(layer(x, inputs.topology)))
        if self.by_input:
            assert batch.known_labels is not None
            of_class_nodes = torch.arange(self._out_channels, device=batch.x.device)
            activations.append(one_hot(torch.cat([batch.known_labels, of_class_nodes]), self._out_channels)[None])
        return activations

    def layer_input(self, index: int, activations: list[Tensor]) -> Tensor:
        """Return the (1, nodes, channels) input of a layer from the activations of the last time step."""
        return _join(activations[index], activations[index + 2]) if self.by_input else activations[index]

    def scored(self, index: int, h: Tensor, activations: list[Tensor]) -> Tensor:
        """Return what a layer's scorer sees: its activations ``h``, or their mean with those of all layers above."""
        return h if self.by_input else torch.stack([h, *activations[index + 2 :]]).mean(0)

    def layer_scores(self, inputs: HypothesisBatch, batch: Batch) -> Tensor:
        """Score all classes by each layer, from a fresh start.

        Args:
            inputs: the batch before the first layer, class nodes included.
            batch: the batch, with ``known_labels``.

        Returns:
            (layers, units, out_channels) float32; with ``"input"``, the logarithm of the mean probabilities over the
            last time steps.
        """
        activations = self.start(inputs, batch)
        scores = batch.x.new_zeros(len(self._layers), batch.num_units, self._out_channels)
        for time in range(_TIME_STEPS if self.by_input else 1):
            for index in self.order:
                layer = self._layers[index]
                h = layer(self.layer_input(index, activations), inputs.topology)
                own = layer.score(self.scored(index, h, activations), inputs.topology, batch)
                if not self.by_input:
                    scores[index] = own
                    continue
                activations[index + 1] = h
                if time >= _FIRST_SCORED_STEP:
                    scores[index] += own.softmax(1)
        return (scores / (_TIME_STEPS - _FIRST_SCORED_STEP)).log() if self.by_input else scores


def unit_length(x: Tensor) -> Tensor:
    """Divide each node's vector of (hypotheses, nodes, channels) by its length; zeros stay zeros."""
    unit: Tensor = x / (x.norm(dim=2, keepdim=True) + 1e-8)
    return unit


def _join(below: Tensor, above: Tensor) -> Tensor:
    return torch.cat([unit_length(below), unit_length(above)], 2)
