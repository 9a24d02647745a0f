"""Edges and graphs of the nodes of a batch, for one hypothesis or for several at once."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Topology:
    """Edges and graphs of the nodes that a layer sees.

    Activations have the shape (hypotheses, nodes, channels). For a convolution, hypotheses are disjoint copies of the
    batch: node n of hypothesis k has the number k * nodes + n.

    Args:
        edge_index: (2, edges) int64 of one hypothesis; of all hypotheses together, if they have edges of their own.
        graph: (nodes,) int64, the graph of each node.
        num_graphs: number of graphs.
        num_real: number of nodes that are nodes of the batch; they come first, virtual nodes follow.
        hypotheses: number of hypotheses whose edges ``edge_index`` holds; None: they share the edges.
    """

    edge_index: Tensor
    graph: Tensor
    num_graphs: int
    num_real: int
    hypotheses: int | None = None

    def edges(self, hypotheses: int) -> Tensor:
        """Return the edges of several hypotheses together.

        Args:
            hypotheses: their number.

        Returns:
            (2, all edges) int64.
        """
        if self.hypotheses is not None or hypotheses == 1:
            return self.edge_index
        shift = torch.arange(hypotheses, device=self.edge_index.device) * len(self.graph)
        return (self.edge_index[:, None, :] + shift[None, :, None]).reshape(2, -1)

    def graphs(self, hypotheses: int) -> Tensor:
        """Return the graph of each node of several hypotheses together.

        Args:
            hypotheses: their number.

        Returns:
            (hypotheses * nodes,) int64.
        """
        if hypotheses == 1:
            return self.graph
        shift = torch.arange(hypotheses, device=self.graph.device) * self.num_graphs
        return (self.graph[None] + shift[:, None]).reshape(-1)

    def pool(self, values: Tensor, how: str) -> Tensor:
        """Sum or average over the real nodes of each graph.

        Args:
            values: (hypotheses, nodes, channels) float32.
            how: ``"sum"`` or ``"mean"``.

        Returns:
            (hypotheses, graphs, channels) float32; zeros for a graph without nodes.
        """
        graph = self.graph[: self.num_real]
        total = values.new_zeros(len(values), self.num_graphs, values.shape[2])
        total = total.index_add(1, graph, values[:, : self.num_real])
        if how == "mean":
            total = total / torch.bincount(graph, minlength=self.num_graphs).clamp(min=1)[:, None]
        return total
