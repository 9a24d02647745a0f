"""Forward passes with top-down connections (ForwardGNN, arXiv 2403.11004, section 3.4)."""

from collections.abc import Sequence

import torch
from torch import Tensor

from supa_gff.batch import Batch, Level
from supa_gff.label_injection import one_hot
from supa_gff.method import Method
from supa_gff.networks.hypotheses import HypothesisBatch
from supa_gff.networks.layer import Layer

_TIME_STEPS = 10
_FIRST_SCORED_STEP = 2


def make_layer(
    method: Method,
    index: int,
    in_channels: int,
    out_channels: int,
    level: Level,
    deg: Tensor | None,
    edge_channels: int,
) -> Layer:
    """Return a new layer of a network with top-down connections; see `Layer` for the arguments.

    With ``top_down="input"`` the layer has additional input channels for the activations of the layer above.
    """
    if method.top_down == "loss":
        return Layer(method, index, in_channels, out_channels, level, deg, edge_channels)
    above = out_channels if index == method.layers - 1 else method.hidden_channels
    # `TopDownPass` normalises the activations from below and above separately before it concatenates them.
    plain = method.replace(top_down=None, normalisation="none")
    return Layer(plain, index, in_channels + above, out_channels, level, deg, edge_channels)


class TopDownPass:
    """Forward pass in time steps, in which layers use the activations of the layers above from the previous step.

    With ``top_down="input"`` (eq. 7) the input of a layer is the concatenation of the activations of the layers below
    and above. The last layer uses the known labels in place of a layer above. Even layers are computed before odd ones.
    With ``"loss"`` (eq. 8) the score of a layer is computed from the mean of its activations and those of all layers
    above.

    The activations of a time step are a list of (1, nodes, channels) tensors: the input, one tensor for each layer and,
    with ``"input"``, the one-hot known labels. No gradient passes between its entries.

    Args:
        method: Method with ``top_down`` set.
        layers: Layers of the network.
        out_channels: Number of classes.
    """

    def __init__(self, method: Method, layers: Sequence[Layer], out_channels: int) -> None:
        self.by_input = method.top_down == "input"
        self._layers, self._out_channels, self._hidden_channels = layers, out_channels, method.hidden_channels

    @property
    def order(self) -> list[int]:
        """Indices of the layers in the order of their updates within a time step."""
        layers = range(len(self._layers))
        return [*layers[::2], *layers[1::2]] if self.by_input else [*layers]

    @torch.no_grad()
    def start(self, inputs: HypothesisBatch, batch: Batch) -> list[Tensor]:
        """Return the initial activations, from one forward pass without top-down connections."""
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
        """Return the (1, nodes, channels) input of a layer from the current activations."""
        return _join(activations[index], activations[index + 2]) if self.by_input else activations[index]

    def scored(self, index: int, h: Tensor, activations: list[Tensor]) -> Tensor:
        """Return the input of a layer's scorer: its activations ``h``, or their mean with those of all layers above."""
        return h if self.by_input else torch.stack([h, *activations[index + 2 :]]).mean(0)

    def layer_scores(self, inputs: HypothesisBatch, batch: Batch) -> Tensor:
        """Compute the scores of each layer, starting from the initial activations.

        Args:
            inputs: Input of the first layer, including class nodes.
            batch: Batch with ``known_labels``.

        Returns:
            (layers, units, out_channels) float32 scores. With ``"input"``: the logarithm of the probabilities, averaged
            over the last time steps.
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
    """Divide each vector along the last axis by its length; zero vectors remain zero."""
    unit: Tensor = x / (x.norm(dim=2, keepdim=True) + 1e-8)
    return unit


def _join(below: Tensor, above: Tensor) -> Tensor:
    return torch.cat([unit_length(below), unit_length(above)], 2)
