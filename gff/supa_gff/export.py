"""Export of a trained network as an ordinary module of PyTorch: edges in, scores out."""

import copy

import torch
from torch import Tensor, nn

from supa_gff.data import Batch, Level
from supa_gff.label_injection import VirtualNodes
from supa_gff.networks.ensemble import Aggregation, aggregate
from supa_gff.networks.layer import Layer
from supa_gff.networks.network import Network
from supa_gff.topology import Topology


class Predictor(nn.Module):
    """The layers of a network with their scorers; gradients pass through all of them.

    Args:
        layers: the layers, up to the last one that is used.
        layer_mask: whether each of them is used.
        level: what is predicted.
        aggregation: how the scores of these layers are combined.
    """

    def __init__(self, layers: list[Layer], layer_mask: list[bool], level: Level, aggregation: Aggregation) -> None:
        super().__init__()
        self.layers, self.layer_mask = nn.ModuleList(layers), layer_mask
        self.level, self.aggregation = level, aggregation

    def forward(self, x: Tensor, edge_index: Tensor, batch: Tensor | None = None) -> Tensor:
        """Predict.

        Args:
            x: (nodes, in_channels) float32.
            edge_index: (2, edges) int64, source and target nodes.
            batch: (nodes,) int64, the graph of each node, counted from 0; None: there is one graph.

        Returns:
            (graphs, out_channels) float32 scores of the classes, or values; at node level (nodes, out_channels).

        Raises:
            ValueError: there are no nodes.
        """
        if len(x) == 0:
            raise ValueError("There are no nodes; give at least one.")
        if batch is None:
            batch, graphs = edge_index.new_zeros(len(x)), 1
        else:
            graphs = int(batch.max()) + 1
        topology = Topology(edge_index, batch, graphs, len(x))
        units = Batch(x, edge_index, batch, graphs, target=batch[:0])
        h, scores = x[None], []
        for layer, is_used in zip(self.layers, self.layer_mask, strict=True):
            assert isinstance(layer, Layer)
            h = layer(h, topology)
            if is_used:
                scores.append(layer.score(h, topology, units))
        return aggregate(torch.stack(scores), self.aggregation)


def export(network: Network) -> Predictor:
    """Export a network that scores all classes in one forward pass.

    Args:
        network: the network; later training of it does not change the module.

    Returns:
        The module, in evaluation mode, on the network's device. It returns the scores of ``Network.forward``. It can be
        saved by ``torch.save`` and pickle if the convolution has a name.

    Raises:
        ValueError: the network cannot predict in one forward pass.
    """
    method = network.method
    if network.level == "link":
        raise ValueError(
            "This network scores pairs of nodes, which are no input of an exported module; use the network itself."
        )
    if isinstance(method.label, VirtualNodes):
        raise ValueError(
            "This network joins nodes whose labels are known to nodes for the classes, so nodes and edges alone do not "
            "make its prediction; use the network itself, with a batch that has them."
        )
    if method.label_conditioned:
        raise ValueError(
            "This network scores one hypothesis about the label at a time, so a prediction takes a forward pass for "
            "each class; use the network itself, or a method that scores all classes at once (a Head or ClassGroups)."
        )
    layer_mask = network.layer_mask.tolist()
    last = max(index for index, is_used in enumerate(layer_mask) if is_used)
    layers = [copy.deepcopy(network.layer(index)) for index in range(last + 1)]
    return Predictor(layers, layer_mask[: last + 1], network.level, network.aggregation).eval()
