"""Sets of graphs in flat columns on one device, and their batches."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from supa.checks import counted
from supa_datasets import GraphBenchmark
from supa_datasets.offsets import counts_to_offsets
from supa_gff.checks import one_of

Level = Literal["graph", "node", "link"]
"""What is predicted: a target of each graph, of each node, or whether two nodes are linked."""


@dataclass(frozen=True, eq=False)
class Batch:
    """Some graphs with the targets to predict.

    A unit is anything with a prediction: a graph, a node, or a pair of nodes.

    Args:
        x: (nodes, features) float32.
        edge_index: (2, edges) int64, source and target nodes.
        graph: (nodes,) int64, the graph of each node.
        num_graphs: number of graphs.
        target: (units,) int64 classes, or float32 values; for pairs: 1 = linked, 0 = not.
        units: node level: (units,) int64 nodes to predict, None for all; link level: (2, units) int64 pairs.
        known_labels: (nodes,) int64, labels that label injection may show, -1 = unknown; None: all are unknown.
        node_indices: (nodes,) int64, indices of the nodes in the set; None if the batch is the set.
        graph_indices: (graphs,) int64, indices of the graphs in the set; None if the batch is the set.
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

    @property
    def num_nodes(self) -> int:
        """Number of nodes."""
        return len(self.x)

    @property
    def num_units(self) -> int:
        """Number of units."""
        return len(self.target)

    @staticmethod
    def of(data: Any, level: Level = "graph", *, targets: bool = True) -> "Batch":
        """Make a batch from PyTorch Geometric's ``Data`` or ``Batch``.

        Args:
            data: with x, edge_index and y. At node level, the nodes of ``train_mask`` are predicted, and label
                injection may use their labels; without a mask, all nodes are predicted. At link level,
                ``edge_label_index`` and ``edge_label`` take the place of y. A batch of this module is returned
                unchanged.
            level: what is predicted.
            targets: whether y or edge_label is required; if it is missing and not required, the targets are zeros.

        Returns:
            The batch.

        Raises:
            ValueError: something is missing.
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
                f"A batch at {level} level needs {', '.join(wanted)}; this one lacks {', '.join(missing)}. Of a "
                f"list of graphs make a batch first, by PyTorch Geometric's Batch.from_data_list."
            )
        x, edge_index = data.x, data.edge_index
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
            target = data.y.view(-1) if known else x.new_zeros(expected, dtype=torch.int64)
            if len(target) != expected:
                raise ValueError(
                    f"The batch has {counted(len(target), 'target')}, but at {level} level it must have {expected:,}."
                )
            mask = getattr(data, "train_mask", None)
            if level == "node" and mask is not None and known:
                units = mask.nonzero().view(-1)
                known_labels = torch.full((len(x),), -1, dtype=torch.int64, device=x.device)
                known_labels[units] = target[units]
                target = target[units]
        return Batch(x.float(), edge_index, graph, num_graphs, target, units, known_labels)


@dataclass(frozen=True, eq=False)
class GraphSet:
    """A set of graphs in flat columns.

    Args:
        x: (all nodes, features) float32.
        edge_index: (2, all edges) int64, nodes numbered across all graphs, edges ordered by graph.
        node_offset: (graphs + 1,) int64, start of the nodes of each graph.
        edge_offset: (graphs + 1,) int64, start of its edges.
        target: one value a graph, or one a node: int64 classes from 0, or float32.
        level: what is predicted.
        num_outputs: number of classes; 1 for values.
    """

    x: Tensor
    edge_index: Tensor
    node_offset: Tensor
    edge_offset: Tensor
    target: Tensor
    level: Level
    num_outputs: int
    _graph: Tensor = field(init=False, repr=False)

    def __post_init__(self) -> None:
        counts = self.node_offset.diff()
        numbers = torch.arange(len(counts), device=self.x.device)
        object.__setattr__(self, "_graph", torch.repeat_interleave(numbers, counts, output_size=len(self.x)))

    def __len__(self) -> int:
        return len(self.node_offset) - 1

    def __repr__(self) -> str:
        return (
            f"<GraphSet: {counted(len(self), 'graph')}, {counted(len(self.x), 'node')}, "
            f"{counted(self.edge_index.shape[1], 'edge')}, {counted(self.num_features, 'feature')}, "
            f"{counted(self.num_outputs, 'output')} a {self.level}>"
        )

    @property
    def num_features(self) -> int:
        """Features of a node."""
        return self.x.shape[1]

    @property
    def num_items(self) -> int:
        """Number of items that are split: the nodes of a single graph at node level, otherwise the graphs."""
        return len(self.x) if self.transductive else len(self)

    @property
    def transductive(self) -> bool:
        """Whether training and test nodes belong to one graph."""
        return self.level == "node" and len(self) == 1

    @property
    def device(self) -> torch.device:
        """Device of the columns."""
        return self.x.device

    @property
    def deg(self) -> Tensor:
        """(largest degree + 1,) int64 histogram of the nodes' in-degrees."""
        return torch.bincount(torch.bincount(self.edge_index[1], minlength=len(self.x)))

    def to(self, device: torch.device | str) -> "GraphSet":
        """Move the set to a device.

        Args:
            device: the device.

        Returns:
            The set on the device.
        """
        columns = ("x", "edge_index", "node_offset", "edge_offset", "target")
        return replace(self, **{name: getattr(self, name).to(device) for name in columns})

    def normalised_rows(self) -> "GraphSet":
        """Divide the features of each node by their sum, as is usual for bags of words.

        Returns:
            The set with rows that sum to one; rows whose sum is zero do not change.
        """
        total = self.x.sum(1, keepdim=True)
        return replace(self, x=self.x / torch.where(total == 0, 1.0, total))

    @classmethod
    def of(cls, graphs: Sequence[Any], *, level: Level = "graph", num_outputs: int | None = None) -> "GraphSet":
        """Join graphs of PyTorch Geometric.

        Args:
            graphs: ``Data`` with x, edge_index and y: one value, or at node level one a node.
            level: what is predicted.
            num_outputs: number of classes; 1 for values; None: one more than the largest class, or 1 for float targets.

        Returns:
            The set.

        Raises:
            ValueError: there are no graphs, or features, edges or targets are missing or do not fit together.
        """
        if len(graphs) == 0:
            raise ValueError("There are no graphs; give at least one.")
        one_of(get_args(Level), "level", level)
        for k, graph in enumerate(graphs):
            _check_graph(k, graph, level, graphs[0].x)
        nodes = torch.tensor([len(graph.x) for graph in graphs])
        edges = torch.tensor([graph.edge_index.shape[1] for graph in graphs])
        node_offset, edge_offset = counts_to_offsets(nodes), counts_to_offsets(edges)
        target = torch.cat([graph.y.view(-1) for graph in graphs])
        if target.is_floating_point():
            target, outputs = target.float(), 1
        else:
            target, outputs = target.long(), int(target.max()) + 1
        outputs = outputs if num_outputs is None else num_outputs
        if not target.is_floating_point() and (int(target.min()) < 0 or int(target.max()) >= outputs):
            raise ValueError(
                f"The labels reach from {int(target.min())} to {int(target.max())}, but with "
                f"{counted(outputs, 'class', 'classes')} they must lie in 0 to {outputs - 1}; renumber them."
            )
        return cls(
            x=torch.cat([graph.x for graph in graphs]).float(),
            edge_index=torch.cat(
                [graph.edge_index + start for graph, start in zip(graphs, node_offset, strict=False)], 1
            ),
            node_offset=node_offset,
            edge_offset=edge_offset,
            target=target,
            level=level,
            num_outputs=outputs,
        )

    @classmethod
    def of_benchmark(cls, benchmark: GraphBenchmark) -> "GraphSet":
        """Join the graphs of a benchmark.

        Args:
            benchmark: from ``supa_datasets.load_benchmark``.

        Returns:
            The set.
        """
        level: Level = "graph" if benchmark.task == "graph" else "node"
        return cls.of(benchmark.graphs, level=level, num_outputs=benchmark.num_classes)

    def batch(self, indices: Tensor, known: Tensor | None = None) -> Batch:
        """Make a batch of some items.

        Args:
            indices: (count,) int64 indices of graphs; of nodes of a single graph at node level, where the batch is the
                whole graph.
            known: (known,) int64 indices of nodes of a single graph whose labels label injection may show.

        Returns:
            The batch.
        """
        if self.transductive:
            known_labels = torch.full((len(self.x),), -1, dtype=torch.int64, device=self.device)
            if known is not None:
                known_labels[known] = self.target[known]
            return Batch(self.x, self.edge_index, self._graph, 1, self.target[indices], indices, known_labels)
        rows, graph, begin = _ragged(self.node_offset, indices)
        columns, edge_graph, _ = _ragged(self.edge_offset, indices)
        shift = begin - self.node_offset[indices]
        return Batch(
            x=self.x[rows],
            edge_index=self.edge_index[:, columns] + shift[edge_graph],
            graph=graph,
            num_graphs=len(indices),
            target=self.target[indices] if self.level == "graph" else self.target[rows],
            node_indices=rows,
            graph_indices=indices,
        )

    def batches(self, indices: Tensor, size: int, *, known: Tensor | None = None) -> Iterator[Batch]:
        """Iterate over items in batches; the nodes of a single graph at node level are one batch.

        Args:
            indices: (count,) int64, see `batch`.
            size: number of graphs in a batch.
            known: see `batch`.

        Yields:
            The batches.
        """
        if self.transductive:
            yield self.batch(indices, known)
            return
        for part in torch.split(indices, size):
            yield self.batch(part)


def _check_graph(k: int, graph: Any, level: Level, first: Any) -> None:
    if getattr(graph, "x", None) is None:
        raise ValueError(f"Graph {k} has no node features x; give some, for example the one-hot degrees of its nodes.")
    edges = getattr(graph, "edge_index", None)
    if edges is None or edges.dim() != 2 or edges.shape[0] != 2 or edges.dtype != torch.int64:
        raise ValueError(f"Graph {k} has no int64 edge_index of shape (2, edges); without edges it is (2, 0).")
    if graph.x.dim() != 2 or graph.x.shape[1] != first.shape[1]:
        columns = first.shape[1] if first.dim() == 2 else "features"
        raise ValueError(f"Graph {k} has features of shape {tuple(graph.x.shape)}, but all must be (nodes, {columns}).")
    nodes = len(graph.x)
    if edges.numel() and not (int(edges.min()) >= 0 and int(edges.max()) < nodes):
        raise ValueError(f"Graph {k} has {counted(nodes, 'node')}, but edges to others; nodes are counted from 0.")
    if getattr(graph, "y", None) is None:
        raise ValueError(f"Graph {k} has no target y{'; a set for links takes any number' * (level == 'link')}.")
    expected = nodes if level == "node" else 1
    if level != "link" and graph.y.numel() != expected:
        raise ValueError(
            f"Graph {k} has {counted(graph.y.numel(), 'target')}, but at {level} level it must have {expected:,}."
        )
    for name, values in (("features", graph.x), ("targets", graph.y)):
        if not bool(torch.isfinite(values).all()):
            raise ValueError(f"Graph {k} has {name} that are not finite; correct them or leave the graph out.")


def _ragged(offset: Tensor, indices: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the elements of some ranges, the number of the range of each, and the start of each range among them."""
    counts = offset[indices + 1] - offset[indices]
    begin = counts.cumsum(0) - counts
    number = torch.repeat_interleave(torch.arange(len(indices), device=offset.device), counts)
    elements = torch.arange(len(number), device=offset.device) + (offset[indices] - begin)[number]
    return elements, number, begin
