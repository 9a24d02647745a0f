"""A benchmark in memory, and loading it by name."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from supa.caching import user_cache
from supa.checks import check_int, check_name, counted
from supa_datasets.graph_benchmarks.cache import load_graphs
from supa_datasets.graph_benchmarks.finding import DamagedError, find
from supa_datasets.graph_benchmarks.sources import BENCHMARKS, Task

MOST_DEGREES = 64
"""Nodes without features get their degree as one-hot; degrees from here on share the last place."""


@dataclass(frozen=True, eq=False)
class GraphBenchmark:
    """A benchmark in memory.

    Args:
        name: its name.
        task: ``"graph"``: classify graphs; ``"node"``: classify the nodes of one graph.
        graphs: PyG ``Data`` with x (nodes, features) float32, edge_index (2, edges) int64, and y: (1,) for a graph,
            (nodes,) for nodes; a node benchmark has one graph, and its masks where the set comes with splits.
        num_features: features of a node.
        num_classes: number of classes.
        from_degrees: whether the set has no features, and the nodes' degrees stand in.
    """

    name: str
    task: Task
    graphs: tuple[Any, ...]
    num_features: int
    num_classes: int
    from_degrees: bool

    def __len__(self) -> int:
        return len(self.graphs)

    def __repr__(self) -> str:
        nodes = sum(graph.num_nodes for graph in self.graphs)
        return (
            f"<GraphBenchmark {self.name}: {counted(len(self), 'graph')}, {counted(nodes, 'node')}, "
            f"{counted(self.num_features, 'feature')}{' (degrees)' if self.from_degrees else ''}, "
            f"{counted(self.num_classes, 'class', 'classes')}>"
        )


def load_benchmark(
    name: str, *, root: str | os.PathLike[str] | None = None, cache: str | os.PathLike[str] | None = None
) -> GraphBenchmark:
    """Load a benchmark.

    Args:
        name: one of ``BENCHMARKS``.
        root: the folder that holds the set's raw files at any depth, in a folder or a zip, with or without a folder
            ``raw``. It is only read, and symbolic links are followed. None: the raw files in the cache are used, or
            else downloaded.
        cache: the folder for raw and processed files, by default ``supa/benchmarks`` in the user's cache. A set whose
            files there are damaged, or differ from those in the root, is made anew.

    Returns:
        The benchmark.

    Raises:
        ValueError: there is no such benchmark, the root does not hold it, its files are damaged or cannot be
            downloaded, or the cache cannot be written.
    """
    check_name(BENCHMARKS, "a benchmark", name)
    source = BENCHMARKS[name]
    try:
        graphs = load_graphs(source, None if root is None else find(source, Path(root)), _cache(cache))
    except DamagedError as error:
        raise ValueError(f"{name}: its raw files are damaged: {error}") from None
    without = any(graph.x is None for graph in graphs)
    if without:
        for graph in graphs:
            graph.x = degree_features(graph.edge_index, graph.num_nodes)
    return GraphBenchmark(
        name=name,
        task=source.task,
        graphs=tuple(graphs),
        num_features=int(graphs[0].x.shape[1]),
        num_classes=int(max(int(graph.y.max()) for graph in graphs)) + 1,
        from_degrees=without,
    )


def degree_features(edge_index: Any, num_nodes: int, most: int = MOST_DEGREES) -> Any:
    """Return nodes without features their degree as one-hot.

    Args:
        edge_index: (2, edges) int64.
        num_nodes: number of nodes.
        most: number of features; the last one stands for all larger degrees.

    Returns:
        (num_nodes, most) float32 tensor.
    """
    import torch

    check_int(1, 10**6, "most", most)
    degree = torch.bincount(edge_index[1], minlength=num_nodes).clamp(max=most - 1)
    return torch.nn.functional.one_hot(degree, most).float()


def _cache(given: str | os.PathLike[str] | None) -> Path:
    if given is not None:
        return Path(given)
    try:
        return user_cache() / "benchmarks"
    except RuntimeError as error:
        raise ValueError(f"The cache of graph benchmarks has no place ({error}); name a folder (cache=).") from None
