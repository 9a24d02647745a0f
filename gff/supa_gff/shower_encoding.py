"""Node features and targets of the graphs of showers, fitted to training showers."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from supa.arrays import Array, FloatArray, IntArray
from supa.observables.principal_axis import group_means, principal_axis_frame
from supa.serialise import Config
from supa_datasets import Nearest, Normalisation, Within
from supa_datasets.loaders import tasks
from supa_datasets.offsets import counts_to_offsets
from supa_gff.graph_set import GraphSet

_CONTEXT = ("mean u", "mean v", "spread u", "spread v", "mean energy", "energy along u", "hits")
"""Names of the means over the hits of a shower. The spreads are weighted by energy."""

Columns = Mapping[str, Tensor]
"""Columns of several graphs; see `node_columns`."""


@dataclass(frozen=True)
class ShowerEncoding(Config):
    """Conversion of the hits of showers into node features and targets, fitted to training showers.

    Args:
        task: Name of the task, one of ``SHOWER_TASKS``.
        classes: Names of the classes. Empty for regression.
        normalisation: Normalisation of the features of a hit.
        edges: Rule for the edges between hits.
        spread: Standard deviation of the coordinates u and v, for the task ``"primary"``.
        context_mean: Mean of each feature of the whole shower, for the task ``"primary"``.
        context_std: Standard deviation of each feature of the whole shower.

    Example:
        >>> import supa
        >>> from supa_gff import shower_graphs
        >>> encoding = shower_graphs(supa.simulate(100, "critical", seed=1), "incident_energy").encoding
        >>> encoding.task, encoding.features, encoding.classes
        ('incident_energy', ('x', 'y', 'z'), ())
    """

    task: str
    classes: tuple[str, ...]
    normalisation: Normalisation
    edges: Nearest | Within
    spread: float = 1.0
    context_mean: tuple[float, ...] = ()
    context_std: tuple[float, ...] = ()

    @classmethod
    def fit(cls, task: str, normalisation: Normalisation, edges: Nearest | Within, columns: Columns) -> Self:
        """Fit an encoding to training showers.

        Args:
            task: Name of the task.
            normalisation: Normalisation of the features of a hit.
            edges: Rule for the edges between hits.
            columns: Columns of the training showers, with normalised features.

        Returns:
            The encoding.

        Raises:
            ValueError: If the showers do not support the task.
        """
        definition = tasks.shower_task(task)
        given = {name: columns[name].numpy() for name in definition.targets}
        classes = tasks.task_classes(definition, given)
        if task != "primary":
            return cls(task, classes, normalisation, edges)
        tasks.task_target(definition, given, classes)  # refuses showers without two primaries
        own = _frame(columns)
        # Both coordinates have the same scale, which preserves angles.
        spread = float(own.std())
        moments = _moments(_coordinates(own, spread, columns), columns)
        mean, std = moments.mean(axis=0), np.maximum(moments.std(axis=0), 1e-12)
        context = (tuple(mean.tolist()), tuple(std.tolist()))
        return cls(task, ("lower u", "higher u"), normalisation, edges, spread, *context)

    @property
    def definition(self) -> tasks.ShowerTask:
        """Task of the encoding."""
        return tasks.shower_task(self.task)

    @property
    def features(self) -> tuple[str, ...]:
        """Names of the features of a node."""
        return ("u", "v", "z", "energy", *_CONTEXT) if self.task == "primary" else self.definition.features

    @property
    def outputs(self) -> int:
        """Number of classes; 1 for regression."""
        return max(1, len(self.classes))

    def apply(self, columns: Columns) -> tuple[Tensor, Tensor]:
        """Compute the features of the nodes and the targets.

        Args:
            columns: Columns of the graphs, with normalised features.

        Returns:
            (nodes, features) float32 features, and (graphs,) or (nodes,) int64 classes or float32 values.

        Raises:
            ValueError: If the showers do not support the task.
        """
        given = {name: columns[name].numpy() for name in self.definition.targets}
        target = tasks.task_target(self.definition, given, self.classes)
        if self.task != "primary":
            return columns["x"], torch.from_numpy(target)
        own = _frame(columns)
        x = _coordinates(own, self.spread, columns)
        context = (_moments(x, columns) - np.array(self.context_mean)) / np.array(self.context_std)
        graph = _graph(columns)
        x = torch.cat([x, torch.from_numpy(context.astype(np.float32))[torch.from_numpy(graph)]], 1)
        return x, torch.from_numpy(_along_axis(own, target, columns))


def graph_targets(definition: tasks.ShowerTask) -> tuple[str, ...]:
    """Return the targets of the loader that a task needs.

    Args:
        definition: The task.

    Returns:
        Names of the targets.
    """
    return (*definition.targets, "energy")


def node_columns(batch: Any, targets: Iterable[str]) -> dict[str, Tensor]:
    """Return the columns of a batch of `supa_datasets.GraphDataset`.

    Args:
        batch: Batch of graphs.
        targets: Names of the targets of the dataset.

    Returns:
        ``x`` (nodes, features) float32, ``pos`` (nodes, 3) float32, ``nodes`` (graphs,) int64 with the number of nodes
        of each graph, and the targets.
    """
    return {name: batch[name] for name in ("x", "pos", *targets)} | {"nodes": batch.ptr.diff()}


def encoded_graphs(encoding: ShowerEncoding, columns: Columns) -> GraphSet:
    """Convert columns to a set of graphs.

    Args:
        encoding: The encoding.
        columns: Columns of the nodes; also ``edge_index`` (2, edges) int64 with nodes that are numbered within each
            graph, and ``edges`` (graphs,) int64 with the number of edges of each graph.

    Returns:
        The graphs, on the CPU.
    """
    x, target = encoding.apply(columns)
    node_offset, edge_offset = counts_to_offsets(columns["nodes"]), counts_to_offsets(columns["edges"])
    return GraphSet(
        x=x,
        edge_index=columns["edge_index"] + node_offset[:-1].repeat_interleave(columns["edges"]),
        node_offset=node_offset,
        edge_offset=edge_offset,
        target=target,
        level="node" if encoding.definition.level == "hit" else "graph",
        num_outputs=encoding.outputs,
    )


def joined(parts: Sequence[GraphSet]) -> GraphSet:
    """Join sets of graphs.

    Args:
        parts: Sets with the same features and targets.

    Returns:
        The graphs of all sets.
    """
    begins = np.cumsum([0, *(len(part.x) for part in parts)]).tolist()
    edges = [part.edge_index + begin for part, begin in zip(parts, begins, strict=False)]
    return GraphSet(
        x=torch.cat([part.x for part in parts]),
        edge_index=torch.cat(edges, 1),
        node_offset=counts_to_offsets(torch.cat([part.node_offset.diff() for part in parts])),
        edge_offset=counts_to_offsets(torch.cat([part.edge_offset.diff() for part in parts])),
        target=torch.cat([part.target for part in parts]),
        level=parts[0].level,
        num_outputs=parts[0].num_outputs,
    )


def _graph(columns: Columns) -> IntArray:
    """Return the number of the graph of each node."""
    nodes = columns["nodes"].numpy()
    return np.repeat(np.arange(len(nodes)), nodes)


def _frame(columns: Columns) -> FloatArray:
    """Return the (nodes, 2) coordinates u and v in the frame of the shower; see `supa_gff.shower_graphs`."""
    position, energy = columns["pos"].numpy().astype(np.float64), columns["energy"].numpy().astype(np.float64)
    graphs = len(columns["nodes"])
    return np.column_stack(principal_axis_frame(position[:, 0], position[:, 1], energy, _graph(columns), graphs))


def _coordinates(own: FloatArray, spread: float, columns: Columns) -> Tensor:
    """Return the features u, v, z and energy of each node."""
    return torch.cat([torch.from_numpy((own / spread).astype(np.float32)), columns["x"][:, 2:]], 1)


def _along_axis(own: FloatArray, primary: Array, columns: Columns) -> Array:
    """Order the two primaries of each shower along u."""
    graph, energy = _graph(columns), columns["energy"].numpy().astype(np.float64)
    of_primary, size = 2 * graph + primary.astype(np.int64), 2 * len(columns["nodes"])
    with np.errstate(invalid="ignore"):
        mean = np.bincount(of_primary, energy * own[:, 0], size) / np.bincount(of_primary, energy, size)
    swapped = mean[0::2] > mean[1::2]
    return np.where(swapped[graph], 1 - primary, primary)


def _moments(x: Tensor, columns: Columns) -> FloatArray:
    """Compute features of the whole shower, which a few layers of message passing cannot reach.

    Args:
        x: (nodes, 4) float32 u, v, z and energy of each node.
        columns: Columns of the graphs.

    Returns:
        (graphs, features) float64, not normalised.
    """
    graph, energy = _graph(columns), columns["energy"].numpy().astype(np.float64)
    graphs = len(columns["nodes"])
    u, v, _, log_energy = x.numpy().astype(np.float64).T

    def mean(values: FloatArray, weights: FloatArray | None = None) -> FloatArray:
        return group_means(values, np.ones(len(graph)) if weights is None else weights, graph, graphs)

    mean_log_energy = mean(log_energy)
    return np.column_stack(
        [
            mean(u),
            mean(v),
            np.sqrt(mean(u * u, energy)),
            np.sqrt(mean(v * v, energy)),
            mean_log_energy,
            mean(u * (log_energy - mean_log_energy[graph])),
            np.log(np.maximum(columns["nodes"].numpy(), 1)),
        ]
    )
