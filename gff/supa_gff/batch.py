"""Batches of graphs with their targets."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from supa.checks import counted
from supa_gff.checks import form, one_of
from supa_gff.topology import Topology

Level = Literal["graph", "node", "link"]
"""What is predicted: a target of each graph, a target of each node, or whether two nodes are linked."""


def part_sizes(graphs: int, parts: int) -> list[int]:
    """Return the numbers of graphs of the parts of a batch; see `Batch.split`.

    Args:
        graphs: Number of graphs of the batch.
        parts: Largest number of parts.

    Returns:
        The number of graphs of each part.
    """
    parts = max(1, min(parts, graphs // 2))
    return [graphs // parts + (k < graphs % parts) for k in range(parts)]


@dataclass(frozen=True, eq=False)
class Batch:
    """Batch of graphs with their targets.

    A *unit* is the object of one prediction: a graph, a node, or a pair of nodes.

    Args:
        x: (nodes, features) float32 node features.
        edge_index: (2, edges) int64 source and target nodes.
        graph: (nodes,) int64 index of the graph of each node.
        num_graphs: Number of graphs.
        target: (units,) int64 classes, (units,) or (units, targets) float32 regression targets, or (units, labels)
            bool, True for labels that apply. At link level: float32, 1 for linked pairs and 0 for others.
        units: At node level: (units,) int64 nodes to predict; None: all nodes. At link level: (2, units) int64 pairs.
        known_labels: (nodes,) int64 labels that the network may use as input, -1 for unknown ones. None: all labels are
            unknown.
        node_indices: (nodes,) int64 indices of the nodes in the `GraphSet`. None if the batch is the whole set.
        graph_indices: (graphs,) int64 indices of the graphs in the `GraphSet`. None if the batch is the whole set.
        edge_attr: (edges, edge features) float32 features of the edges. None: there are none.
        weights: (units,) float32 weights of the units, whose weighted losses are added up. None: the loss is the mean
            over the units.

    Example:
        >>> import torch
        >>> from torch_geometric.data import Batch as PyGBatch
        >>> from torch_geometric.data import Data
        >>> from supa_gff import Batch
        >>> edges = torch.tensor([[0, 1], [1, 0]])
        >>> graphs = [Data(x=torch.ones(2, 3), edge_index=edges, y=torch.tensor([k])) for k in range(4)]
        >>> batch = Batch.of(PyGBatch.from_data_list(graphs), level="graph")
        >>> batch.num_graphs, batch.num_nodes, batch.target.tolist()
        (4, 8, [0, 1, 2, 3])
    """

    x: Tensor
    edge_index: Tensor
    graph: Tensor
    num_graphs: int
    target: Tensor
    units: Tensor | None = None
    known_labels: Tensor | None = None
    node_indices: Tensor | None = None
    graph_indices: Tensor | None = None
    edge_attr: Tensor | None = None
    weights: Tensor | None = None

    @property
    def num_nodes(self) -> int:
        """Number of nodes."""
        return len(self.x)

    @property
    def num_units(self) -> int:
        """Number of units."""
        return len(self.target)

    def topology(self, edge_attr: Tensor | None) -> Topology:
        """Return the edges and graphs of the nodes.

        Args:
            edge_attr: (edges, edge features) float32 features of the edges that the convolutions use. None: they use
                none.

        Returns:
            The topology of the batch.
        """
        return Topology(self.edge_index, self.graph, self.num_graphs, self.num_nodes, edge_attr=edge_attr)

    def split(self, parts: int) -> "Iterator[Batch]":
        """Split a batch of graphs with targets into smaller batches.

        Args:
            parts: Number of parts. There are fewer if a part would have less than two graphs, which batch normalisation
                requires.

        Yields:
            The parts. Their weights are such that the losses of the parts add up to the loss of the batch.
        """
        sizes = part_sizes(self.num_graphs, parts)
        cuts = torch.tensor(sizes, device=self.x.device).cumsum(0)
        of_nodes = torch.searchsorted(self.graph, cuts).tolist()
        of_edges = torch.searchsorted(self.graph[self.edge_index[0]], cuts).tolist()
        first, node, edge = 0, 0, 0
        for size, node_end, edge_end in zip(sizes, of_nodes, of_edges, strict=True):
            yield Batch(
                x=self.x[node:node_end],
                edge_index=self.edge_index[:, edge:edge_end] - node,
                graph=self.graph[node:node_end] - first,
                num_graphs=size,
                target=self.target[first : first + size],
                edge_attr=None if self.edge_attr is None else self.edge_attr[edge:edge_end],
                weights=self.x.new_full((size,), 1 / self.num_graphs),
            )
            first, node, edge = first + size, node_end, edge_end

    @staticmethod
    def of(data: Any, level: Level = "graph", *, targets: bool = True) -> "Batch":
        """Convert a ``Data`` or ``Batch`` of PyTorch Geometric to a batch.

        Args:
            data: Object with ``x``, ``edge_index``, ``y`` and, if the network uses it, ``edge_attr``. At node level,
                the nodes of ``train_mask`` are predicted and the network may use their labels as input; without
                ``train_mask``, all nodes are predicted. At link level, ``edge_label_index`` and ``edge_label`` replace
                ``y``. A `Batch` is returned unchanged.
            level: What is predicted.
            targets: Whether ``y`` or ``edge_label`` is required. If False and the attribute is missing, the targets are
                zeros.

        Returns:
            The batch.

        Raises:
            ValueError: If an attribute is missing, or the number of targets is wrong.
        """
        if isinstance(data, Batch):
            return data
        one_of(get_args(Level), "level", level)
        label = "edge_label" if level == "link" else "y"
        known = getattr(data, label, None) is not None
        wanted = ["x", "edge_index", *(["edge_label_index"] if level == "link" else []), *([label] if targets else [])]
        missing = [name for name in wanted if getattr(data, name, None) is None]
        if missing:
            raise ValueError(
                f"A batch at {level} level requires {', '.join(wanted)}, but {', '.join(missing)} "
                f"{'is' if len(missing) == 1 else 'are'} missing. Join a list of graphs by PyTorch Geometric's "
                f"Batch.from_data_list first."
            )
        x, edge_index = data.x, data.edge_index
        _check_graph(x, edge_index)
        graph = getattr(data, "batch", None)
        if graph is None:
            graph = torch.zeros(len(x), dtype=torch.int64, device=x.device)
        if getattr(data, "ptr", None) is not None:
            num_graphs = int(data.num_graphs)
        else:
            num_graphs = int(graph.max()) + 1 if len(graph) else 1
        units = known_labels = None
        if level == "link":
            units = data.edge_label_index
            target = data.edge_label if known else x.new_zeros(units.shape[1])
        else:
            expected = num_graphs if level == "graph" else len(x)
            target = data.y if known else x.new_zeros(expected, dtype=torch.int64)
            if not isinstance(target, Tensor):
                raise ValueError(
                    f"The batch has targets y that are {form(target)}, but y must be a tensor of numbers, such as "
                    "torch.tensor([0])."
                )
            if target.dim() != 2 or target.shape[0] != expected or target.shape[1] == 1:
                target = target.view(-1)
            if len(target) != expected:
                raise ValueError(
                    f"The batch must have {counted(expected, 'target')} at {level} level, got {len(target):,}."
                )
            mask = getattr(data, "train_mask", None)
            if level == "node" and mask is not None and known:
                if not isinstance(mask, Tensor) or mask.dtype != torch.bool or mask.shape != (len(x),):
                    raise ValueError(
                        f"train_mask must be a bool tensor of shape ({len(x)},), got {form(mask)}. Choose one column "
                        "of several masks."
                    )
                units = mask.nonzero().view(-1)
                known_labels = known_labels_of(target, units)
                target = target[units]
        edge_attr = getattr(data, "edge_attr", None)
        edge_attr = edge_attr.float() if isinstance(edge_attr, Tensor) and edge_attr.dim() == 2 else None
        return Batch(x.float(), edge_index, graph, num_graphs, target, units, known_labels, edge_attr=edge_attr)


def _check_graph(x: Any, edge_index: Any) -> None:
    if not isinstance(x, Tensor) or x.dim() != 2 or x.is_complex():
        raise ValueError(f"The batch must have features x of shape (nodes, features), got {form(x)}.")
    if len(x) == 0:
        raise ValueError("The batch has no nodes, so nothing can be predicted from it; leave it out.")
    edges = isinstance(edge_index, Tensor) and edge_index.dim() == 2 and edge_index.shape[0] == 2
    if not edges or edge_index.dtype != torch.int64:
        raise ValueError(f"The batch must have int64 edge_index of shape (2, edges), got {form(edge_index)}.")
    if not edge_index.is_cuda and edge_index.numel():  # on a GPU the check would synchronise in each step
        least, largest = int(edge_index.min()), int(edge_index.max())
        if least < 0 or largest >= len(x):
            raise ValueError(
                f"The batch has {counted(len(x), 'node')}, but its edges have indices from {least} to {largest}. They "
                "start at 0 and must be below the number of nodes."
            )


def known_labels_of(target: Tensor, known: Tensor) -> Tensor | None:
    """Return the labels of the nodes whose labels are known.

    Args:
        target: (nodes, ...) targets of all nodes.
        known: (count,) int64 nodes whose labels are known.

    Returns:
        (nodes,) int64 labels, -1 for other nodes. None if the targets are not classes.
    """
    if target.dtype == torch.bool or target.is_floating_point() or target.dim() == 2:
        return None
    labels = torch.full((len(target),), -1, dtype=torch.int64, device=target.device)
    labels[known] = target[known]
    return labels
