"""The graph benchmarks by name and their raw files."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Literal

Task = Literal["graph", "node"]


@dataclass(frozen=True)
class BenchmarkSource:
    """Names with which the files of a graph benchmark are found.

    Args:
        name: Name of the benchmark in this package.
        family: Name of its class in ``torch_geometric.datasets``.
        set_name: Name of the set in that class.
        folder: Name of the folder of the set, and of its zip archive.
        raw_files: Names of the required raw files.
        task: ``"graph"`` to classify graphs, ``"node"`` to classify the nodes of one graph.
        optional_files: Names of raw files that only some sets of the family have.
        node_attributes: Whether the features of the nodes include their attributes, which are numbers, and not only
            their one-hot labels.

    Example:
        >>> from supa_datasets import BENCHMARKS
        >>> BENCHMARKS["MUTAG"].family, BENCHMARKS["MUTAG"].task
        ('TUDataset', 'graph')
        >>> BENCHMARKS["MUTAG"].raw_files
        ('MUTAG_A.txt', 'MUTAG_graph_indicator.txt', 'MUTAG_graph_labels.txt')
    """

    name: str
    family: str
    set_name: str
    folder: str
    raw_files: tuple[str, ...]
    task: Task
    optional_files: tuple[str, ...] = ()
    node_attributes: bool = False

    @property
    def all_files(self) -> tuple[str, ...]:
        """Names of all raw files that the set can have."""
        return tuple(dict.fromkeys(self.raw_files + self.optional_files))


_TU_SETS = (
    "AIDS", "BZR", "COLLAB", "COX2", "DD", "DHFR", "ENZYMES", "IMDB-BINARY", "IMDB-MULTI", "MUTAG", "Mutagenicity",
    "NCI1", "NCI109", "PROTEINS", "PTC_MR", "REDDIT-BINARY",
)  # fmt: skip
_WITH_ATTRIBUTES = ("ENZYMES", "PROTEINS")
_TU_FILES = ("A", "graph_indicator", "graph_labels")
_TU_OPTIONAL = ("node_labels", "node_attributes", "edge_labels", "edge_attributes")
_PLANETOID_FILES = ("x", "tx", "allx", "y", "ty", "ally", "graph", "test.index")


def _sources() -> list[BenchmarkSource]:
    sources = []
    for n in _TU_SETS:
        needed, optional = (tuple(f"{n}_{part}.txt" for part in parts) for parts in (_TU_FILES, _TU_OPTIONAL))
        sources.append(BenchmarkSource(n, "TUDataset", n, n, needed, "graph", optional))
        if n in _WITH_ATTRIBUTES:
            with_attributes = replace(sources[-1], name=f"{n}-attributes", node_attributes=True)
            sources.append(replace(with_attributes, raw_files=(*needed, f"{n}_node_attributes.txt")))
    for n in ("Cora", "CiteSeer", "PubMed"):
        files = tuple(f"ind.{n.lower()}.{part}" for part in _PLANETOID_FILES)
        sources.append(BenchmarkSource(n, "Planetoid", n, n, files, "node"))
    for n in ("Cora_ML", "CiteSeer", "DBLP"):
        key = n.lower()
        sources.append(BenchmarkSource(f"CitationFull-{n}", "CitationFull", n, key, (f"{key}.npz",), "node"))
    for n in ("Photo", "Computers"):
        file = f"amazon_electronics_{n.lower()}.npz"
        sources.append(BenchmarkSource(f"Amazon-{n}", "Amazon", n, n, (file,), "node"))
    sources.append(BenchmarkSource("Coauthor-CS", "Coauthor", "CS", "CS", ("ms_academic_cs.npz",), "node"))
    for n in ("Cornell", "Texas", "Wisconsin"):
        key = n.lower()
        splits = tuple(f"{key}_split_0.6_0.2_{k}.npz" for k in range(10))
        files = ("out1_node_feature_label.txt", "out1_graph_edges.txt", *splits)
        sources.append(BenchmarkSource(n, "WebKB", n, key, files, "node"))
    return sources


BENCHMARKS: Mapping[str, BenchmarkSource] = MappingProxyType({source.name: source for source in _sources()})
"""The graph benchmarks by name."""
