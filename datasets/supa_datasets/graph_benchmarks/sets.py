"""Loading a graph benchmark by name."""

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
"""Number of one-hot features of nodes that have no features. The last feature also stands for all larger degrees."""


@dataclass(frozen=True, eq=False)
class GraphBenchmark:
    """A graph benchmark in memory, as returned by `load_benchmark`.

    Args:
        name: Name of the benchmark.
        task: ``"graph"`` to classify graphs, ``"node"`` to classify the nodes of one graph.
        graphs: ``torch_geometric.data.Data`` objects with ``x`` (nodes, features) float32, ``edge_index`` (2, edges)
            int64, and ``y`` int64: (1,) for a graph, (nodes,) for nodes. A node benchmark has one graph, which also has
            masks if the set defines splits.
        num_features: Number of features of a node.
        num_classes: Number of classes.
        from_degrees: Whether the features are the degrees of the nodes, because the set has no node features.

    Example:
        >>> import torch
        >>> from supa_datasets import GraphBenchmark
        >>> from torch_geometric.data import Data
        >>> edges = torch.tensor([[0, 1], [1, 0]])
        >>> graphs = tuple(Data(x=torch.ones(2, 1), edge_index=edges, y=torch.tensor([k])) for k in (0, 1))
        >>> GraphBenchmark("pairs", "graph", graphs, num_features=1, num_classes=2, from_degrees=False)
        <GraphBenchmark pairs: 2 graphs, 4 nodes, 1 feature, 2 classes>
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
    """Load a graph benchmark by name.

    For sets without node features, the features are the degrees of the nodes in one-hot form (64 features), see
    `supa_datasets.graph_benchmarks.degree_features`.

    Args:
        name: Name of the benchmark, out of ``BENCHMARKS``.
        root: Folder with the raw files of the set at any depth, in folders or zip archives. Nothing is written to it.
            Symbolic links are followed. By default, raw files in the cache are used; missing ones are downloaded.
        cache: Folder for raw and processed files; by default ``supa/benchmarks`` in the user's cache. A set is
            processed again if its files there are damaged or differ from those in ``root``.

    Returns:
        The benchmark.

    Raises:
        ValueError: If there is no such benchmark, ``root`` does not contain it, its files are damaged or cannot be
            downloaded, or the cache cannot be written.

    Example:
        This example writes raw files of two small molecules under the name MUTAG, so that nothing is downloaded:

        >>> from pathlib import Path
        >>> from supa_datasets import load_benchmark
        >>> files = {"A": "1,2 2,1 3,4 4,3", "graph_indicator": "1 1 2 2", "graph_labels": "-1 1"}
        >>> Path("raw").mkdir()
        >>> for part, lines in files.items():
        ...     with Path(f"raw/MUTAG_{part}.txt").open("w") as file:
        ...         print(*lines.split(), sep=chr(10), file=file)
        >>> load_benchmark("MUTAG", root="raw", cache="cache")
        <GraphBenchmark MUTAG: 2 graphs, 4 nodes, 64 features (degrees), 2 classes>

    Source:
        The classes of ``torch_geometric.datasets``: TUDataset (Morris et al. 2020, arXiv 2007.08663), Planetoid (Yang
        et al. 2016, arXiv 1603.08861), CitationFull (Bojchevski and Guennemann 2017, arXiv 1707.03815), Amazon and
        Coauthor (Shchur et al. 2018, arXiv 1811.05868), WebKB (Pei et al. 2020, arXiv 2002.05287).
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
    """Return the degrees of nodes as one-hot features.

    Args:
        edge_index: (2, edges) int64 tensor of sources and targets. The degree is the number of edges to a node.
        num_nodes: Number of nodes.
        most: Number of features; the last one stands for the degree ``most - 1`` and all larger degrees.

    Returns:
        (num_nodes, most) float32 tensor.

    Raises:
        ValueError: If ``most`` is not an integer from 1 to 1,000,000.

    Example:
        >>> import torch
        >>> from supa_datasets.graph_benchmarks import degree_features
        >>> degree_features(torch.tensor([[0, 1], [1, 0]]), num_nodes=3, most=2)
        tensor([[0., 1.],
                [0., 1.],
                [1., 0.]])
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
        raise ValueError(f"There is no folder for the cache of graph benchmarks ({error}); pass cache=.") from None
