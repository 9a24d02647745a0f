"""Edges and graphs of the nodes of a batch, for one or several hypotheses."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Topology:
    """Edges and graphs of the nodes in the input of a layer.

    Activations have the shape (hypotheses, nodes, channels). In a convolution, hypotheses are disjoint copies of the
    batch: node n of hypothesis k has the index k * nodes + n.

    Args:
        edge_index: (2, edges) int64 source and target nodes: of one hypothesis, or of all of them if their edges
            differ.
        graph: (nodes,) int64 index of the graph of each node.
        num_graphs: Number of graphs.
        num_real: Number of real nodes. Virtual nodes follow them.
        hypotheses: Number of hypotheses in ``edge_index``. None: all hypotheses share the edges.
        edge_attr: (edges, edge_channels) float32 features of the edges. None: the convolutions use none.
    """

    edge_index: Tensor
    graph: Tensor
    num_graphs: int
    num_real: int
    hypotheses: int | None = None
    edge_attr: Tensor | None = None

    def edges(self, hypotheses: int) -> Tensor:
        """Return the edges of all hypotheses.

        Args:
            hypotheses: Number of hypotheses.

        Returns:
            (2, hypotheses * edges) int64 source and target nodes.
        """
        if self.hypotheses is not None or hypotheses == 1:
            return self.edge_index
        shift = torch.arange(hypotheses, device=self.edge_index.device) * len(self.graph)
        return (self.edge_index[:, None, :] + shift[None, :, None]).reshape(2, -1)

    def edge_features(self, hypotheses: int) -> Tensor | None:
        """Return the features of the edges of all hypotheses.

        Args:
            hypotheses: Number of hypotheses.

        Returns:
            (hypotheses * edges, edge_channels) float32 features, in the order of `edges`. None: there are none.
        """
        if self.edge_attr is None or self.hypotheses is not None or hypotheses == 1:
            return self.edge_attr
        return self.edge_attr.repeat(hypotheses, 1)

    def thinned(self, dropout: float) -> "Topology":
        """Return the topology without some random edges.

        Args:
            dropout: Probability that an edge is removed.

        Returns:
            The topology with the other edges.
        """
        kept = torch.rand(self.edge_index.shape[1], device=self.edge_index.device) >= dropout
        edge_attr = None if self.edge_attr is None else self.edge_attr[kept]
        return replace(self, edge_index=self.edge_index[:, kept], edge_attr=edge_attr)

    def graphs(self, hypotheses: int) -> Tensor:
        """Return the graph of each node of all hypotheses.

        Args:
            hypotheses: Number of hypotheses.

        Returns:
            (hypotheses * nodes,) int64 indices of graphs.
        """
        if hypotheses == 1:
            return self.graph
        shift = torch.arange(hypotheses, device=self.graph.device) * self.num_graphs
        return (self.graph[None] + shift[:, None]).reshape(-1)

    def pool(self, values: Tensor, how: str) -> Tensor:
        """Compute the sum, mean or maximum over the real nodes of each graph.

        Args:
            values: (hypotheses, nodes, channels) float32 values.
            how: ``"sum"``, ``"mean"``, ``"max"``, or ``"moments"`` for all three, one after another.

        Returns:
            (hypotheses, graphs, channels) float32 pooled values, or (hypotheses, graphs, 3 * channels). They are zero
            for a graph without nodes.
        """
        graph = self.graph[: self.num_real]
        zeros = values.new_zeros(len(values), self.num_graphs, values.shape[2])

        def largest() -> Tensor:
            places = graph[None, :, None].expand(len(values), -1, values.shape[2])
            return zeros.scatter_reduce(1, places, values[:, : self.num_real], "amax", include_self=False)

        if how == "max":
            return largest()
        total = zeros.index_add(1, graph, values[:, : self.num_real])
        if how == "sum":
            return total
        # `bincount` would wait for a GPU.
        ones = total.new_ones(1).expand(len(graph))
        mean = total / total.new_zeros(self.num_graphs).index_add(0, graph, ones).clamp(min=1)[:, None]
        return mean if how == "mean" else torch.cat([total, mean, largest()], 2)
