"""A trained network as an ordinary module of PyTorch: one forward pass, edges in, scores out."""

import copy

import torch
from torch import Tensor, nn

from supa_gff.data import Batch, Level
from supa_gff.label_injection import VirtualNodes
from supa_gff.networks.ensemble import Votes, added
from supa_gff.networks.layer import Layer
from supa_gff.networks.network import Network
from supa_gff.topology import Topology


class Predictor(nn.Module):
    """Layers with their scorers; gradients pass through all of them.

    Args:
        layers: the layers, up to the last one that votes.
        voting: whether each of them votes.
        level: what is predicted.
        votes: how the scores of those that vote are added.
    """

    def __init__(self, layers: list[Layer], voting: list[bool], level: Level, votes: Votes) -> None:
        super().__init__()
        self.layers, self.voting, self.level, self.votes = nn.ModuleList(layers), voting, level, votes

    def forward(self, x: Tensor, edge_index: Tensor, batch: Tensor | None = None) -> Tensor:
        """Predict.

        Args:
            x: (nodes, features) float32.
            edge_index: (2, edges) int64, from and to.
            batch: (nodes,) int64, the graph of each node, counted from 0; None: all are of one graph.

        Returns:
            (graphs, outputs) float32 scores of the classes, or values; at node level (nodes, outputs).

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
        asked = Batch(x, edge_index, batch, graphs, target=batch[:0])
        h, scores = x[None], []
        for layer, is_heard in zip(self.layers, self.voting, strict=True):
            assert isinstance(layer, Layer)
            h = layer(h, topology)
            if is_heard:
                scores.append(layer.score(h, topology, asked))
        return added(torch.stack(scores), self.votes)


def export(network: Network) -> Predictor:
    """Make an ordinary module of a network that scores all classes in one forward pass.

    Args:
        network: the network; later training of it does not change the module.

    Returns:
        The module, in evaluation mode, where the network is. It gives the network's voted scores, and ``torch.save``
        and pickle take it if the convolution is one that goes by a name.

    Raises:
        ValueError: the network cannot predict in one forward pass.
    """
    method = network.method
    if network.level == "link":
        raise ValueError("This network scores pairs of nodes, and a module of nodes and edges has none; use it itself.")
    if isinstance(method.label, VirtualNodes):
        raise ValueError(
            "This network joins nodes whose labels are known to nodes for the classes, so nodes and edges alone do not "
            "make its prediction; use the network itself, with a batch that has them."
        )
    if method.conditioned:
        raise ValueError(
            "This network scores one hypothesis about the label at a time, so a prediction takes a forward pass for "
            "each class; use the network itself, or a method that scores all classes at once (a Head or ClassGroups)."
        )
    voting = network.voting.tolist()
    last = max(index for index, votes in enumerate(voting) if votes)
    layers = [copy.deepcopy(network.layer(index)) for index in range(last + 1)]
    return Predictor(layers, voting[: last + 1], network.level, network.votes).eval()
