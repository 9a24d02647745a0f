"""Sets of graphs and their batches, stored as flat tensors on one device."""

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
"""What is predicted: a target of each graph, a target of each node, or whether two nodes are linked."""


@dataclass(frozen=True, eq=False)
class Batch:
    """Batch of graphs with their targets.

    A *unit* is the object of one prediction: a graph, a node, or a pair of nodes.

    Args:
        x: (nodes, features) float32 node features.
        edge_index: (2, edges) int64 source and target nodes.
        graph: (nodes,) int64 index of the graph of each node.
        num_graphs: Number of graphs.
        target: (units,) int64 classes or float32 regression targets. At link level: float32, 1 for linked pairs and 0
            for others.
        units: At node level: (units,) int64 nodes to predict; None: all nodes. At link level: (2, units) int64 pairs.
        known_labels: (nodes,) int64 labels that the network may use as input, -1 for unknown ones. None: all labels are
            unknown.
        node_indices: (nodes,) int64 indices of the nodes in the `GraphSet`. None if the batch is the whole set.
        graph_indices: (graphs,) int64 indices of the graphs in the `GraphSet`. None if the batch is the whole set.

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
        """Convert a ``Data`` or ``Batch`` of PyTorch Geometric to a batch.

        Args:
            data: Object with ``x``, ``edge_index`` and ``y``. At node level, the nodes of ``train_mask`` are predicted
                and the network may use their labels as input; without ``train_mask``, all nodes are predicted. At link
                level, ``edge_label_index`` and ``edge_label`` replace ``y``. A `Batch` is returned unchanged.
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
                    f"The batch must have {counted(expected, 'target')} at {level} level, got {len(target):,}."
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
    """Set of graphs, stored as flat tensors on one device.

    Use `GraphSet.of` to convert a list of PyTorch Geometric's ``Data``.

    Args:
        x: (nodes, features) float32 features of the nodes of all graphs.
        edge_index: (2, edges) int64 source and target nodes. Nodes are numbered across all graphs, and edges are
            ordered by graph.
        node_offset: (graphs + 1,) int64 index of the first node of each graph, then the number of nodes.
        edge_offset: (graphs + 1,) int64 index of the first edge of each graph, then the number of edges.
        target: (graphs,) or, at node level, (nodes,): int64 classes from 0, or float32 regression targets.
        level: What is predicted: ``"graph"``, ``"node"`` or ``"link"``.
        num_outputs: Number of classes; 1 for regression.

    Example:
        >>> import torch
        >>> from torch_geometric.data import Data
        >>> from supa_gff import GraphSet
        >>> edges = torch.tensor([[0, 1], [1, 0]])
        >>> graphs = [Data(x=torch.ones(2, 3), edge_index=edges, y=torch.tensor([k % 2])) for k in range(10)]
        >>> dataset = GraphSet.of(graphs)
        >>> dataset
        <GraphSet: 10 graphs, 20 nodes, 20 edges, 3 features, 2 outputs per graph>
        >>> batch = dataset.batch(torch.tensor([0, 3]))
        >>> batch.num_nodes, batch.target.tolist()
        (4, [0, 1])
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
            f"{counted(self.num_outputs, 'output')} per {self.level}>"
        )

    @property
    def num_features(self) -> int:
        """Number of features per node."""
        return self.x.shape[1]

    @property
    def num_items(self) -> int:
        """Number of items to split into parts: the nodes if the set is transductive, otherwise the graphs."""
        return len(self.x) if self.transductive else len(self)

    @property
    def transductive(self) -> bool:
        """Whether the set is a single graph at node level, whose nodes are split into parts."""
        return self.level == "node" and len(self) == 1

    @property
    def device(self) -> torch.device:
        """Device of the tensors."""
        return self.x.device

    @property
    def deg(self) -> Tensor:
        """(largest degree + 1,) int64 histogram of the in-degrees of the nodes."""
        return torch.bincount(torch.bincount(self.edge_index[1], minlength=len(self.x)))

    def to(self, device: torch.device | str) -> "GraphSet":
        """Move the set to a device.

        Args:
            device: Target device.

        Returns:
            The set on the device.
        """
        columns = ("x", "edge_index", "node_offset", "edge_offset", "target")
        return replace(self, **{name: getattr(self, name).to(device) for name in columns})

    def normalised_rows(self) -> "GraphSet":
        """Divide the features of each node by their sum, as is usual for bags of words.

        Returns:
            A set whose feature rows sum to one. Rows whose sum is zero do not change.
        """
        total = self.x.sum(1, keepdim=True)
        return replace(self, x=self.x / torch.where(total == 0, 1.0, total))

    @classmethod
    def of(cls, graphs: Sequence[Any], *, level: Level = "graph", num_outputs: int | None = None) -> "GraphSet":
        """Join a sequence of PyTorch Geometric's ``Data`` into a set.

        Args:
            graphs: List of ``Data``, or a dataset of PyTorch Geometric. Each graph has ``x``, ``edge_index`` and ``y``:
                one target per graph, or one per node at node level. At link level the value of ``y`` is not used.
            level: What is predicted.
            num_outputs: Number of classes; 1 for regression. None: the largest class plus one, or 1 for float targets.

        Returns:
            The set. Integer targets are classes, floating-point targets are regression targets.

        Raises:
            ValueError: If there are no graphs, or features, edges or targets are missing or inconsistent.
        """
        if len(graphs) == 0:
            raise ValueError("There are no graphs; pass at least one.")
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
                f"Labels must be between 0 and {outputs - 1} for {counted(outputs, 'class', 'classes')}, but they "
                f"range from {int(target.min())} to {int(target.max())}; renumber them."
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
        """Join the graphs of a benchmark into a set.

        Args:
            benchmark: Benchmark from `supa_datasets.load_benchmark`.

        Returns:
            The set.
        """
        level: Level = "graph" if benchmark.task == "graph" else "node"
        return cls.of(benchmark.graphs, level=level, num_outputs=benchmark.num_classes)

    def batch(self, indices: Tensor, known: Tensor | None = None) -> Batch:
        """Return a batch of the given items.

        Args:
            indices: (count,) int64 indices of graphs. For a transductive set: indices of the nodes to predict; the
                batch contains the whole graph.
            known: (known,) int64 indices of the nodes whose labels the network may use as input. Used for a
                transductive set only.

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
        """Iterate over the given items in batches. A transductive set is one batch.

        Args:
            indices: (count,) int64 indices; see `batch`.
            size: Number of graphs per batch.
            known: (known,) int64 indices of nodes with known labels; see `batch`.

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
        raise ValueError(f"Graph {k} has no node features x. Add some, for example the one-hot degree of each node.")
    edges = getattr(graph, "edge_index", None)
    if edges is None or edges.dim() != 2 or edges.shape[0] != 2 or edges.dtype != torch.int64:
        raise ValueError(f"Graph {k} has no int64 edge_index of shape (2, edges). Use shape (2, 0) if it has no edges.")
    if graph.x.dim() != 2 or graph.x.shape[1] != first.shape[1]:
        columns = first.shape[1] if first.dim() == 2 else "features"
        raise ValueError(f"Graph {k} must have features of shape (nodes, {columns}), got {tuple(graph.x.shape)}.")
    nodes = len(graph.x)
    if edges.numel() and not (int(edges.min()) >= 0 and int(edges.max()) < nodes):
        raise ValueError(
            f"Graph {k} has {counted(nodes, 'node')}, but its edges use other indices. Indices start at 0."
        )
    if getattr(graph, "y", None) is None:
        raise ValueError(f"Graph {k} has no target y{'. Set it to any number at link level' * (level == 'link')}.")
    expected = nodes if level == "node" else 1
    if level != "link" and graph.y.numel() != expected:
        raise ValueError(
            f"Graph {k} must have {counted(expected, 'target')} at {level} level, got {graph.y.numel():,}."
        )
    for name, values in (("features", graph.x), ("targets", graph.y)):
        if not bool(torch.isfinite(values).all()):
            raise ValueError(f"Graph {k} has {name} that are not finite. Correct them or remove the graph.")


def _ragged(offset: Tensor, indices: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the elements of the given ranges, the range of each element, and the start of each range among them."""
    counts = offset[indices + 1] - offset[indices]
    begin = counts.cumsum(0) - counts
    number = torch.repeat_interleave(torch.arange(len(indices), device=offset.device), counts)
    elements = torch.arange(len(number), device=offset.device) + (offset[indices] - begin)[number]
    return elements, number, begin
