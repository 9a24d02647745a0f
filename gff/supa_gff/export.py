"""Export of a trained network as an ordinary PyTorch module."""

import copy

import torch
from torch import Tensor, nn

from supa_gff.batch import Batch, Level
from supa_gff.label_injection import VirtualNodes
from supa_gff.networks.ensemble import Aggregation, aggregate
from supa_gff.networks.layer import Layer
from supa_gff.networks.network import Network
from supa_gff.topology import Topology


class Predictor(nn.Module):
    """Module that computes the scores of a trained network in one forward pass.

    Gradients pass through all layers.

    Args:
        layers: Layers of the network, up to the last one that contributes to the prediction.
        layer_mask: For each layer, whether it contributes to the prediction.
        level: What is predicted.
        aggregation: How the scores of the layers are combined.
        target_mean: (targets,) float32 mean of regression targets, which is added to the result. None: not added.
        target_std: (targets,) float32 standard deviation of regression targets, by which the result is multiplied.
        edge_channels: Number of features per edge that the layers use.
    """

    target_mean: Tensor | None
    target_std: Tensor | None

    def __init__(
        self,
        layers: list[Layer],
        layer_mask: list[bool],
        level: Level,
        aggregation: Aggregation,
        target_mean: Tensor | None,
        target_std: Tensor | None,
        edge_channels: int,
    ) -> None:
        super().__init__()
        self.layers, self.layer_mask = nn.ModuleList(layers), layer_mask
        self.level, self.aggregation, self.edge_channels = level, aggregation, edge_channels
        self.register_buffer("target_mean", target_mean)
        self.register_buffer("target_std", target_std)

    def forward(
        self, x: Tensor, edge_index: Tensor, batch: Tensor | None = None, edge_attr: Tensor | None = None
    ) -> Tensor:
        """Compute the scores of graphs or nodes.

        Args:
            x: (nodes, in_channels) float32 node features.
            edge_index: (2, edges) int64 source and target nodes.
            batch: (nodes,) int64 index of the graph of each node, from 0. None: all nodes belong to one graph.
            edge_attr: (edges, edge_channels) float32 features of the edges, if the network uses them.

        Returns:
            (graphs, out_channels) float32 scores of classes or labels, or predicted values; (nodes, out_channels) at
            node level.

        Raises:
            ValueError: If there are no nodes, or the number of features per edge is wrong.
        """
        if len(x) == 0:
            raise ValueError("There are no nodes; at least one is required.")
        if self.edge_channels and (edge_attr is None or edge_attr.shape[1] != self.edge_channels):
            raise ValueError(f"edge_attr must have the shape (edges, {self.edge_channels}).")
        if batch is None:
            batch, graphs = edge_index.new_zeros(len(x)), 1
        else:
            graphs = int(batch.max()) + 1
        topology = Topology(edge_index, batch, graphs, len(x), edge_attr=edge_attr if self.edge_channels else None)
        units = Batch(x, edge_index, batch, graphs, target=batch[:0])
        h, scores = x[None], []
        for layer, is_used in zip(self.layers, self.layer_mask, strict=True):
            assert isinstance(layer, Layer)
            h = layer(h, topology)
            if is_used:
                scores.append(layer.score(h, topology, units))
        combined = aggregate(torch.stack(scores), self.aggregation)
        if self.target_mean is None or self.target_std is None:
            return combined
        return combined * self.target_std + self.target_mean


def export(network: Network) -> Predictor:
    """Export a network that scores all classes in one forward pass.

    Args:
        network: Network to export. The module is a copy, so further training of the network does not change it.

    Returns:
        A module in evaluation mode, on the device of the network. It returns the same scores as ``Network.forward``.
        ``torch.save`` and pickle can save it if the convolution has a name.

    Raises:
        ValueError: If the network cannot predict in one forward pass.

    Example:
        >>> import torch
        >>> from supa_gff import Network, preset
        >>> from supa_gff.export import export
        >>> module = export(Network(preset("best").replace(layers=2), in_channels=3, out_channels=2))
        >>> module(torch.ones(4, 3), torch.tensor([[0, 1, 2], [1, 2, 3]])).shape
        torch.Size([1, 2])
    """
    method = network.method
    if network.level == "link":
        raise ValueError(
            "This network scores pairs of nodes, but an exported module takes no pairs; use the network itself."
        )
    if isinstance(method.label, VirtualNodes):
        raise ValueError(
            "This network connects virtual class nodes to the nodes with known labels, but an exported module takes "
            "nodes and edges only; use the network itself with a batch that has known_labels."
        )
    if method.label_conditioned:
        raise ValueError(
            "This network is label-conditioned, so a prediction takes one forward pass for each class; use the network "
            "itself, or a method that scores all classes at once (with score=Head() or ClassGroups())."
        )
    layer_mask = network.layer_mask.tolist()
    last = max(index for index, is_used in enumerate(layer_mask) if is_used)
    layers = [copy.deepcopy(network.layer(index)) for index in range(last + 1)]
    mean, std = (None if part is None else part.clone() for part in (network.target_mean, network.target_std))
    return Predictor(
        layers,
        layer_mask[: last + 1],
        network.level,
        network.aggregation,
        target_mean=mean,
        target_std=std,
        edge_channels=network.edge_channels,
    ).eval()
