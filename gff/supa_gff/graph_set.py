"""Sets of graphs, stored as flat tensors on one device."""

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, reduce
from typing import Any, get_args

import torch
from torch import Tensor

from supa.checks import counted
from supa_datasets import GraphBenchmark
from supa_datasets.offsets import counts_to_offsets
from supa_gff.batch import Batch, Level, known_labels_of
from supa_gff.checks import one_of
from supa_gff.names import TargetKind
from supa_gff.own_data.checks import (
    check_edge_features,
    check_graph,
    classes_of,
    inferred_kind,
    joined_targets,
    labels_of,
    target_of,
    values_of,
)
from supa_gff.own_data.conversion import as_data_list


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
        target: One row per graph or, at node level, per node: (rows,) int64 classes from 0; (rows,) or (rows, targets)
            float32 regression targets; or (rows, labels) bool, True for labels that apply.
        level: What is predicted: ``"graph"``, ``"node"`` or ``"link"``.
        num_outputs: Number of classes, of labels or of regression targets.
        masks: (nodes,) or (nodes, splits) bool training, validation and test nodes of a single graph at node level.
            None: the set has none.
        edge_attr: (edges, edge features) float32 features of the edges. None: networks use none.

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
    masks: tuple[Tensor, Tensor, Tensor] | None = None
    edge_attr: Tensor | None = None
    _graph: Tensor = field(init=False, repr=False)

    def __post_init__(self) -> None:
        counts = self.node_offset.diff()
        numbers = torch.arange(len(counts), device=self.x.device)
        object.__setattr__(self, "_graph", torch.repeat_interleave(numbers, counts, output_size=len(self.x)))

    def __len__(self) -> int:
        return len(self.node_offset) - 1

    def __repr__(self) -> str:
        of_edges = f"{counted(self.num_edge_features, 'edge feature')}, " if self.edge_attr is not None else ""
        return (
            f"<GraphSet: {counted(len(self), 'graph')}, {counted(len(self.x), 'node')}, "
            f"{counted(self.edge_index.shape[1], 'edge')}, {counted(self.num_features, 'feature')}, {of_edges}"
            f"{counted(self.num_outputs, 'output')} per {self.level}>"
        )

    @property
    def num_features(self) -> int:
        """Number of features per node."""
        return self.x.shape[1]

    @property
    def num_edge_features(self) -> int:
        """Number of features per edge; 0 if networks use none."""
        return 0 if self.edge_attr is None else self.edge_attr.shape[1]

    @property
    def num_items(self) -> int:
        """Number of items to split into parts: the nodes if the set is transductive, otherwise the graphs."""
        return len(self.x) if self.transductive else len(self)

    @property
    def transductive(self) -> bool:
        """Whether the set is a single graph at node level, whose nodes are split into parts."""
        return self.level == "node" and len(self) == 1

    @property
    def target_kind(self) -> TargetKind:
        """Kind of the targets, by their type: int64 classes, float32 regression targets, or bool labels."""
        if self.target.dtype == torch.bool:
            return "multi-label"
        return "regression" if self.target.is_floating_point() else "classification"

    @property
    def device(self) -> torch.device:
        """Device of the tensors."""
        return self.x.device

    @cached_property
    def checksum(self) -> str:
        """Checksum of the features, edges and targets, by which a checkpoint recognises its training data."""
        columns = [self.x, self.edge_index, self.node_offset, self.target]
        columns += [] if self.edge_attr is None else [self.edge_attr]
        parts = [column.contiguous().cpu().numpy().tobytes() for column in columns]
        return f"{reduce(lambda value, part: zlib.crc32(part, value), parts, 0):08x}"

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
        columns = ["x", "edge_index", "node_offset", "edge_offset", "target"]
        columns += [] if self.edge_attr is None else ["edge_attr"]
        return replace(self, **{name: getattr(self, name).to(device) for name in columns})

    def normalised_rows(self) -> "GraphSet":
        """Divide the features of each node by their sum, as is usual for bags of words.

        Returns:
            A set whose feature rows sum to one. Rows whose sum is zero do not change.
        """
        total = self.x.sum(1, keepdim=True)
        return replace(self, x=self.x / torch.where(total == 0, 1.0, total))

    def targets_of(self, indices: Tensor) -> Tensor:
        """Return the targets of the given items.

        Args:
            indices: (count,) int64 indices of graphs, or of the nodes of a single graph at node level.

        Returns:
            (units,) or (units, columns) targets: of the graphs, or of all of their nodes at node level.
        """
        if self.level == "node" and not self.transductive:
            return self.target[_ragged(self.node_offset, indices)[0]]
        return self.target[indices]

    def balanced_weights(self, train: Tensor) -> tuple[float, ...]:
        """Return class weights with which all classes contribute equally to the loss, for `Method.class_weights`.

        Args:
            train: (count,) int64 indices of the training graphs, or of the training nodes of a single graph.

        Returns:
            For classes: units / (classes * units of the class), for each class. For multi-label targets: units without
            the label / units with it, for each label.

        Raises:
            ValueError: If the targets are regression targets, or a class or label has no training units.

        Example:
            >>> import torch
            >>> from torch_geometric.data import Data
            >>> from supa_gff import GraphSet
            >>> edges = torch.tensor([[0, 1], [1, 0]])
            >>> graphs = [Data(x=torch.ones(2, 3), edge_index=edges, y=torch.tensor([k // 6])) for k in range(8)]
            >>> GraphSet.of(graphs).balanced_weights(torch.arange(8))  # 6 graphs of class 0, 2 of class 1
            (0.6666666666666666, 2.0)
        """
        if self.target_kind == "regression" or self.level == "link":
            raise ValueError("Balanced weights need classes or labels, but the targets are values or pairs.")
        target = self.targets_of(train.to(self.device))
        several = self.target_kind == "multi-label"
        counts = target.sum(0) if several else torch.bincount(target, minlength=self.num_outputs)
        if not bool((counts > 0).all()):
            what, missing = "label" if several else "class", int((counts == 0).nonzero()[0])
            raise ValueError(
                f"The {what} {missing} has no training units, so it cannot have a balanced weight; set class_weights "
                "yourself, or use another split."
            )
        if several:
            return tuple(((len(target) - counts).clamp(min=1) / counts).double().tolist())
        return tuple((len(target) / (self.num_outputs * counts.double())).tolist())

    @classmethod
    def of(
        cls,
        graphs: Any,
        *,
        level: Level = "graph",
        target_kind: TargetKind | None = None,
        num_outputs: int | None = None,
        edge_features: bool = False,
    ) -> "GraphSet":
        """Join graphs into a set.

        Args:
            graphs: List of PyTorch Geometric's ``Data``; a dataset of PyTorch Geometric; or a list of graphs of
                NetworkX or DGL, or of pairs of a graph and its target. Each graph has ``x``, ``edge_index`` and ``y``.
                NetworkX graphs have the attribute ``x`` of the nodes, and ``y`` of the graph or of the nodes; DGL
                graphs have ``ndata["x"]`` and ``ndata["y"]``. The shape of ``y`` is (1,) or (1, targets), or (nodes,)
                or (nodes, targets) at node level. At link level its value is not used.
            level: What is predicted.
            target_kind: ``"classification"``, ``"regression"`` or ``"multi-label"``. None: integers are classes, or
                labels if there are several per graph or node; floats are regression targets.
            num_outputs: Number of classes, of labels or of regression targets. None: the number in the graphs, in which
                every class occurs.
            edge_features: Whether networks use the features of the edges: ``edge_attr`` of shape (edges, edge
                features), at graph or node level. DGL graphs have ``edata["edge_attr"]``, and NetworkX graphs the
                attribute ``edge_attr`` of each edge.

        Returns:
            The set.

        Raises:
            ValueError: If there are no graphs, or features, edges or targets are missing, inconsistent or not allowed.
        """
        one_of(get_args(Level), "level", level)
        one_of((None, *get_args(TargetKind)), "target_kind", target_kind)
        graphs = as_data_list(graphs)
        if len(graphs) == 0:
            raise ValueError("There are no graphs; pass at least one.")
        targets = []
        for k, graph in enumerate(graphs):
            check_graph(k, graph, graphs[0])
            if edge_features:
                check_edge_features(k, graph, graphs[0], level)
            targets.append(target_of(k, graph, len(graph.x) if level == "node" else 1, level))
        nodes = torch.tensor([len(graph.x) for graph in graphs])
        edges = torch.tensor([graph.edge_index.shape[1] for graph in graphs])
        node_offset, edge_offset = counts_to_offsets(nodes), counts_to_offsets(edges)
        target, outputs = _checked_targets(targets, level, target_kind, num_outputs)
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
            masks=_masks(graphs[0]) if level == "node" and len(graphs) == 1 else None,
            edge_attr=torch.cat([graph.edge_attr for graph in graphs]).float() if edge_features else None,
        )

    @classmethod
    def of_benchmark(cls, benchmark: GraphBenchmark, *, edge_features: bool = False) -> "GraphSet":
        """Join the graphs of a benchmark into a set.

        Args:
            benchmark: Benchmark from `supa_datasets.load_benchmark`.
            edge_features: Whether networks use the features of the edges: the one-hot edge labels and the attributes
                that some benchmarks have, such as MUTAG, PTC_MR, Mutagenicity and AIDS.

        Returns:
            The set.

        Raises:
            ValueError: If the benchmark has no features of edges, but they are to be used.
        """
        level: Level = "graph" if benchmark.task == "graph" else "node"
        if edge_features and any(graph.edge_attr is None for graph in benchmark.graphs):
            raise ValueError(
                f"{benchmark.name} has no features of edges; omit edge_features=True (--edge-features), or choose "
                "another benchmark, such as MUTAG."
            )
        return cls.of(benchmark.graphs, level=level, num_outputs=benchmark.num_classes, edge_features=edge_features)

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
            known_labels = known_labels_of(self.target, indices[:0] if known is None else known)
            target = self.target[indices]
            return Batch(
                self.x, self.edge_index, self._graph, 1, target, indices, known_labels, edge_attr=self.edge_attr
            )
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
            edge_attr=None if self.edge_attr is None else self.edge_attr[columns],
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


def _checked_targets(
    targets: Sequence[Tensor], level: Level, kind: TargetKind | None, num_outputs: int | None
) -> tuple[Tensor, int]:
    """Join and check the targets of all graphs, and return them with the number of outputs."""
    if level == "link":
        return torch.zeros(len(targets)), 1 if num_outputs is None else num_outputs
    target = joined_targets(targets)
    check = {"classification": classes_of, "regression": values_of, "multi-label": labels_of}
    return check[inferred_kind(target) if kind is None else kind](target, num_outputs)


def _masks(data: Any) -> tuple[Tensor, Tensor, Tensor] | None:
    """Return the masks of the nodes that PyTorch Geometric stores with a graph, if it has all three."""
    masks: list[Any] = [getattr(data, f"{name}_mask", None) for name in ("train", "val", "test")]
    if any(mask is None for mask in masks):
        return None
    for name, mask in zip(("train", "val", "test"), masks, strict=True):
        form = isinstance(mask, Tensor) and mask.dtype == torch.bool and mask.dim() in (1, 2)
        if not form or mask.shape != masks[0].shape or len(mask) != len(data.x):
            raise ValueError(
                f"{name}_mask must be a bool tensor of shape (nodes,) or (nodes, splits), like the other masks."
            )
    train, valid, test = masks
    return train, valid, test


def _ragged(offset: Tensor, indices: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the elements of the given ranges, the range of each element, and the start of each range among them."""
    counts = offset[indices + 1] - offset[indices]
    begin = counts.cumsum(0) - counts
    number = torch.repeat_interleave(torch.arange(len(indices), device=offset.device), counts)
    elements = torch.arange(len(number), device=offset.device) + (offset[indices] - begin)[number]
    return elements, number, begin
