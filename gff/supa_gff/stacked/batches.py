"""Padded batches of a stacked network, gathered on the device without waiting for it."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from supa_gff.batch import Batch
from supa_gff.graph_ops import backend
from supa_gff.graph_ops.function import moments_of_graphs
from supa_gff.graph_set import GraphSet
from supa_gff.stacked.rows import Rows
from supa_gff.topology import Topology


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


@dataclass(frozen=True, eq=False)
class PaddedTopology(Topology):
    """Topology of a padded batch, in which removed edges lead to padded nodes, so that the number of edges is constant.

    Args:
        spare: (edges,) int64 padded node of the same member for each edge.
        begin: (units,) int64 first node of each unit.
        sizes: (units,) int64 number of nodes of each unit, 0 for padding.
    """

    spare: Tensor = field(kw_only=True)
    begin: Tensor = field(kw_only=True)
    sizes: Tensor = field(kw_only=True)

    def pool(self, values: Tensor, how: str) -> Tensor:
        """Pool over the nodes of each unit; see `Topology.pool`. On a GPU, moments of padding are zero."""
        if how != "moments" or len(values) > 1 or not backend.uses_kernels(values):
            return super().pool(values, how)
        return moments_of_graphs(values[0], self.graph, self.begin, self.sizes)[None]

    def thinned(self, dropout: float) -> Topology:
        """Return the topology without some random edges; see `Topology.thinned`."""
        source, goal = self.edge_index
        kept = torch.rand(len(goal), device=goal.device) >= dropout
        return replace(self, edge_index=torch.stack([source, torch.where(kept, goal, self.spare)]))


@dataclass(frozen=True, eq=False)
class PaddedBatch(Batch):
    """Batch of all members of a stacked network.

    Args:
        nodes: Rows of the nodes.
        real: Rows of the units.
        spare: See `PaddedTopology`.
        begin: See `PaddedTopology`.
        sizes: See `PaddedTopology`.
        parts: Function that yields the parts of the batch, for `split`.
    """

    nodes: Rows = field(kw_only=True)
    real: Rows = field(kw_only=True)
    spare: Tensor = field(kw_only=True)
    begin: Tensor = field(kw_only=True)
    sizes: Tensor = field(kw_only=True)
    parts: Callable[[], Iterator[Batch]] | None = None

    def topology(self, _edge_attr: Tensor | None) -> Topology:
        """Return the topology; see `Batch.topology`. Networks that use features of edges cannot be stacked."""
        return PaddedTopology(
            self.edge_index, self.graph, self.num_graphs, self.num_nodes, spare=self.spare, begin=self.begin,
            sizes=self.sizes,
        )  # fmt: skip

    def split(self, _parts: int) -> Iterator[Batch]:
        """Return the parts of the batch, which the training has chosen; see `Batch.split`."""
        assert self.parts is not None
        return self.parts()


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

    def pad(self, indices: Sequence[Sequence[Tensor]]) -> tuple[Tensor, Shape]:
        """Pad the graphs of the parts of a batch to one shape.

        The shapes are rounded up, so that the batches of a training have few of them.

        Args:
            indices: (count,) int64 graphs of each part of each member, on the CPU.

        Returns:
            (members, parts, units) int64 graphs, on the CPU, and the shape of each part.
        """
        width = max(len(part) for own in indices for part in own) + 1
        padded = torch.full((self._members, len(indices[0]), width), self.empty)
        for row, own in zip(padded, indices, strict=True):
            for place, part in zip(row, own, strict=True):
                place[: len(part)] = part
        each = padded.numpy()
        nodes, edges = self._nodes_of[each].sum(2).max(), self._edges_of[each].sum((0, 2)).max()
        return padded, Shape(width, _rounded(int(nodes) + 1), _rounded(int(edges)))

    def batch(
        self,
        indices: Tensor,
        shape: Shape,
        count: Tensor | None = None,
        parts: Callable[[], Iterator[Batch]] | None = None,
    ) -> PaddedBatch:
        """Gather a batch on the device.

        Args:
            indices: (members, units) int64 graphs from `pad`, on the device.
            shape: Shape from `pad`.
            count: (members, 1) int64 number of graphs of the batch, if this is a part of it. None: it is not.
            parts: Function that yields the parts of the batch.

        Returns:
            The batch of all members, in which each member has the same numbers of units and nodes.
        """
        flat = indices.flatten()
        real = indices != self.empty
        sizes = (self._node_offset[indices + 1] - self._node_offset[indices]) * real
        filled = sizes.sum(1, keepdim=True)
        sizes[:, -1:] = shape.nodes - filled
        begin = sizes.view(-1).cumsum(0) - sizes.view(-1)
        units = torch.arange(len(flat), device=flat.device)
        graph = torch.repeat_interleave(units, sizes.view(-1), output_size=self._members * shape.nodes)
        place = torch.arange(len(graph), device=flat.device)
        is_node = place.view(self._members, -1) % shape.nodes < filled
        rows = place + (self._node_offset[flat] - begin)[graph]
        x = self._x.index_select(0, torch.where(is_node.view(-1), rows, len(self._x) - 1))
        count = real.sum(1, keepdim=True) if count is None else count
        edge_index, spare = self._edges(flat, begin, filled, shape)
        return PaddedBatch(
            x=x,
            edge_index=edge_index,
            graph=graph,
            num_graphs=len(flat),
            target=self._target[flat],
            weights=(real / count).to(x.dtype).view(-1),
            nodes=Rows.of(is_node, x.dtype),
            real=Rows.of(real, x.dtype),
            spare=spare,
            begin=begin,
            sizes=(sizes * real).view(-1),
            parts=parts,
        )

    def _edges(self, flat: Tensor, begin: Tensor, filled: Tensor, shape: Shape) -> tuple[Tensor, Tensor]:
        """Return the (2, edges) edges of a batch, and a padded node of the same member for each edge.

        Padded edges lead from real to padded nodes of a member.
        """
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
        member, turn = torch.where(padding, place % self._members, ends[0] // shape.nodes), place // self._members
        nodes = filled[member, 0]
        source = member * shape.nodes + turn % nodes.clamp(min=1)
        spare = member * shape.nodes + nodes + turn % (shape.nodes - nodes)
        return torch.where(padding, torch.stack([source, spare]), ends), spare


def _rounded(count: int) -> int:
    """Round up to a multiple of an eighth of the next lower power of two."""
    count = max(count, 1)
    step = 1 << max(3, count.bit_length() - 4)
    return -(-count // step) * step
