"""Padded batches of a stacked network, gathered on the device without waiting for it."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from supa_gff.data import Batch, GraphSet
from supa_gff.stacked.rows import Rows


class Shape(NamedTuple):
    """Shape of a padded batch.

    Args:
        units: Number of units of each member. The last one is padding, to which padded nodes belong.
        nodes: Number of nodes of each member. At least the last one is padding.
        edges: Number of edges of all members together.
    """

    units: int
    nodes: int
    edges: int


class PaddedBatches:
    """Padded batches of graphs for the members of a stacked network.

    Args:
        graphs: Set of graphs, at graph level.
        members: Number of members.
    """

    def __init__(self, graphs: GraphSet, members: int) -> None:
        self._members = members
        self._nodes_of, self._edges_of = (
            np.append(offset.diff().cpu().numpy(), 0) for offset in (graphs.node_offset, graphs.edge_offset)
        )
        # Padding is a graph without nodes, after the last graph. Padded nodes have the features of a row of zeros.
        self.empty = len(graphs)
        self._x = torch.cat([graphs.x, graphs.x.new_zeros(1, graphs.num_features)])
        self._edge_index = torch.cat([graphs.edge_index, graphs.edge_index.new_zeros(2, 1)], 1)
        self._node_offset, self._edge_offset = (
            torch.cat([offset, offset[-1:]]) for offset in (graphs.node_offset, graphs.edge_offset)
        )
        self._target = torch.cat([graphs.target, graphs.target.new_zeros(1)])

    def pad(self, indices: Sequence[Tensor]) -> tuple[Tensor, Shape]:
        """Pad the graphs of a batch.

        The shapes are rounded up, so that the batches of a training have few of them.

        Args:
            indices: (count,) int64 graphs of each member, on the CPU.

        Returns:
            (members, units) int64 graphs, on the CPU, and the shape of the batch.
        """
        width = max(map(len, indices)) + 1
        padded = torch.full((self._members, width), self.empty)
        for row, own in zip(padded, indices, strict=True):
            row[: len(own)] = own
        each = padded.numpy()
        nodes, edges = self._nodes_of[each].sum(1).max(), self._edges_of[each].sum()
        return padded, Shape(width, _rounded(int(nodes) + 1), _rounded(int(edges)))

    def batch(self, indices: Tensor, shape: Shape) -> tuple[Batch, Rows, Rows]:
        """Gather a batch on the device.

        Args:
            indices: (members, units) int64 graphs from `pad`, on the device.
            shape: Shape from `pad`.

        Returns:
            The batch of all members, in which each member has the same numbers of units and nodes, and the rows of its
            nodes and of its units.
        """
        flat = indices.view(-1)
        real = indices != self.empty
        sizes = (self._node_offset[indices + 1] - self._node_offset[indices]) * real
        count = sizes.sum(1, keepdim=True)
        sizes[:, -1:] = shape.nodes - count
        begin = sizes.view(-1).cumsum(0) - sizes.view(-1)
        units = torch.arange(len(flat), device=flat.device)
        graph = torch.repeat_interleave(units, sizes.view(-1), output_size=self._members * shape.nodes)
        place = torch.arange(len(graph), device=flat.device)
        is_node = place.view(self._members, -1) % shape.nodes < count
        rows = place + (self._node_offset[flat] - begin)[graph]
        x = self._x.index_select(0, torch.where(is_node.view(-1), rows, len(self._x) - 1))
        batch = Batch(
            x=x,
            edge_index=self._edges(flat, begin, count, shape),
            graph=graph,
            num_graphs=len(flat),
            target=self._target[flat],
            weights=(real / real.sum(1, keepdim=True)).to(x.dtype).view(-1),
        )
        return batch, Rows.of(is_node, x.dtype), Rows.of(real, x.dtype)

    def _edges(self, flat: Tensor, begin: Tensor, count: Tensor, shape: Shape) -> Tensor:
        """Return the (2, edges) edges of a batch. Padded edges lead from real to padded nodes of the same member."""
        sizes = (self._edge_offset[flat + 1] - self._edge_offset[flat]) * (flat != self.empty)
        total = sizes.sum()
        sizes = torch.cat([sizes, (shape.edges - total)[None]])
        units = torch.arange(len(sizes), device=flat.device)
        unit = torch.repeat_interleave(units, sizes, output_size=shape.edges)
        place = torch.arange(shape.edges, device=flat.device)
        padding = place >= total
        graphs = torch.cat([flat, flat.new_full((1,), self.empty)])
        first = sizes.cumsum(0) - sizes
        chosen = torch.where(padding, 0, place + (self._edge_offset[graphs] - first)[unit])
        shift = torch.cat([begin - self._node_offset[flat], begin[:1]])
        ends = self._edge_index.index_select(1, chosen) + shift[unit]
        # Padded edges are spread over the nodes, since additions to the same node wait for each other.
        member, turn = place % self._members, place // self._members
        nodes = count[member, 0]
        source = member * shape.nodes + turn % nodes.clamp(min=1)
        goal = member * shape.nodes + nodes + turn % (shape.nodes - nodes)
        return torch.where(padding, torch.stack([source, goal]), ends)


def _rounded(count: int) -> int:
    """Round up to a multiple of an eighth of the next lower power of two."""
    count = max(count, 1)
    step = 1 << max(3, count.bit_length() - 4)
    return -(-count // step) * step
