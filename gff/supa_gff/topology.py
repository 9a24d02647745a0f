"""Which nodes are joined and to which graph they belong, for one stream of a batch or for several side by side."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Topology:
    """Edges and graphs of the nodes that a layer sees.

    A stream is the batch under one hypothesis about the labels; activations have the shape (streams, nodes, features).

    Args:
        edge_index: (2, edges) int64 of one stream; of all streams side by side, where they differ.
        graph: (nodes,) int64, the graph of each node.
        num_graphs: number of graphs.
        num_real: how many of the nodes, the first ones, are nodes of the batch; virtual nodes follow.
        streams: number of streams whose edges ``edge_index`` holds; None: the streams share them.
    """

    edge_index: Tensor
    graph: Tensor
    num_graphs: int
    num_real: int
    streams: int | None = None

    def edges(self, streams: int) -> Tensor:
        """Give the edges of streams side by side.

        Args:
            streams: their number.

        Returns:
            (2, all edges) int64, node n of stream s counted as s * nodes + n.
        """
        if self.streams is not None or streams == 1:
            return self.edge_index
        shift = torch.arange(streams, device=self.edge_index.device) * len(self.graph)
        return (self.edge_index[:, None, :] + shift[None, :, None]).reshape(2, -1)

    def graphs(self, streams: int) -> Tensor:
        """Give the graph of each node of streams side by side.

        Args:
            streams: their number.

        Returns:
            (streams * nodes,) int64.
        """
        if streams == 1:
            return self.graph
        shift = torch.arange(streams, device=self.graph.device) * self.num_graphs
        return (self.graph[None] + shift[:, None]).reshape(-1)

    def pool(self, values: Tensor, how: str) -> Tensor:
        """Sum or average over the real nodes of each graph.

        Args:
            values: (streams, nodes, features) float32.
            how: ``"sum"`` or ``"mean"``.

        Returns:
            (streams, graphs, features) float32; a graph without nodes has zeros.
        """
        graph = self.graph[: self.num_real]
        total = values.new_zeros(len(values), self.num_graphs, values.shape[2])
        total = total.index_add(1, graph, values[:, : self.num_real])
        if how == "mean":
            total = total / torch.bincount(graph, minlength=self.num_graphs).clamp(min=1)[:, None]
        return total
