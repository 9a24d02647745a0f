"""Graph benchmarks by name: downloaded by PyTorch Geometric, or made of raw files at hand, without a network."""

import io
import os
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Mapping
from contextlib import nullcontext, redirect_stderr
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from supa.checks import check_name, whole

Task = Literal["graph", "node"]

MOST_DEGREES = 64
"""Nodes without features get their degree as one-hot; degrees from here on share the last place."""


@dataclass(frozen=True)
class BenchmarkSource:
    """Where a benchmark comes from.

    Args:
        name: its name here.
        family: PyTorch Geometric's class.
        set_name: its name there.
        folder: name of the folder that holds its ``raw`` folder, and of its zip.
        raw_file: one of its raw files.
        task: ``"graph"``: classify graphs; ``"node"``: classify the nodes of one graph.
    """

    name: str
    family: str
    set_name: str
    folder: str
    raw_file: str
    task: Task


def _sources() -> list[BenchmarkSource]:
    graph_sets = (
        "AIDS", "BZR", "COLLAB", "COX2", "DD", "DHFR", "ENZYMES", "IMDB-BINARY", "IMDB-MULTI", "MUTAG", "Mutagenicity",
        "NCI1", "NCI109", "PROTEINS", "PTC_MR", "REDDIT-BINARY",
    )  # fmt: skip
    sources = [BenchmarkSource(n, "TUDataset", n, n, f"{n}_A.txt", "graph") for n in graph_sets]
    for n in ("Cora", "CiteSeer", "PubMed"):
        sources.append(BenchmarkSource(n, "Planetoid", n, n, f"ind.{n.lower()}.graph", "node"))
    for n in ("Cora_ML", "CiteSeer", "DBLP"):
        key = n.lower()
        sources.append(BenchmarkSource(f"CitationFull-{n}", "CitationFull", n, key, f"{key}.npz", "node"))
    for n in ("Photo", "Computers"):
        raw = f"amazon_electronics_{n.lower()}.npz"
        sources.append(BenchmarkSource(f"Amazon-{n}", "Amazon", n, n, raw, "node"))
    sources.append(BenchmarkSource("Coauthor-CS", "Coauthor", "CS", "CS", "ms_academic_cs.npz", "node"))
    for n in ("Cornell", "Texas", "Wisconsin"):
        sources.append(BenchmarkSource(n, "WebKB", n, n.lower(), "out1_graph_edges.txt", "node"))
    return sources


BENCHMARKS: Mapping[str, BenchmarkSource] = MappingProxyType({source.name: source for source in _sources()})
"""The benchmarks that ``load_benchmark`` knows."""


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
            f"<GraphBenchmark {self.name}: {len(self):,} graphs, {nodes:,} nodes, {self.num_features} features"
            f"{' (degrees)' if self.from_degrees else ''}, {self.num_classes} classes>"
        )


def load_benchmark(
    name: str, *, root: str | os.PathLike[str] | None = None, cache: str | os.PathLike[str] | None = None
) -> GraphBenchmark:
    """Load a benchmark.

    Args:
        name: one of ``BENCHMARKS``.
        root: folder in which, at any depth, the set's zip or its folder with ``raw`` files lies; it is only read. None:
            the set is downloaded, if it is not in the cache.
        cache: folder for unpacked and processed files, by default ``supa/benchmarks`` in the user's cache.

    Returns:
        The benchmark.

    Raises:
        ValueError: there is no such benchmark, its files are not in the root, are damaged, or cannot be downloaded.
    """
    check_name(BENCHMARKS, "a benchmark", name)
    source = BENCHMARKS[name]
    place = _cache(cache) / source.family
    raw = place / source.folder / "raw" / source.raw_file
    if root is not None and not raw.exists():
        _unpack(source, Path(root), place)
    # What lies at hand is made quickly; a download may tell how far it is.
    quiet = redirect_stderr(io.StringIO()) if raw.exists() else nullcontext()
    try:
        with quiet:
            dataset = _makers()[source.family](str(place), source.set_name)
        graphs = [dataset[k] for k in range(len(dataset))]
    except OSError as error:
        raise ValueError(
            f"{name}: it cannot be downloaded or read ({error}); give the folder of its raw files (root=, --root)."
        ) from None
    except (ValueError, KeyError, RuntimeError, IndexError, TypeError, AttributeError) as error:
        shutil.rmtree(place / source.folder / "processed", ignore_errors=True)
        raise ValueError(f"{name}: its raw files are damaged ({error}).") from None
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
    """Give nodes without features their degree as one-hot.

    Args:
        edge_index: (2, edges) int64.
        num_nodes: number of nodes.
        most: number of features; the last one stands for all larger degrees.

    Returns:
        (num_nodes, most) float32 tensor.
    """
    import torch

    whole(1, 10**6, "most", most)
    degree = torch.bincount(edge_index[1], minlength=num_nodes).clamp(max=most - 1)
    return torch.nn.functional.one_hot(degree, most).float()


def _makers() -> dict[str, Callable[[str, str], Any]]:
    try:
        from torch_geometric import datasets
    except ImportError:
        raise ValueError("Graph benchmarks need PyTorch Geometric: pip install 'supa-showers[learn]'.") from None

    return {
        name: getattr(datasets, name)
        for name in ("TUDataset", "Planetoid", "CitationFull", "Amazon", "Coauthor", "WebKB")
    }


def _cache(given: str | os.PathLike[str] | None) -> Path:
    if given is not None:
        return Path(given)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "supa" / "benchmarks"


def _unpack(source: BenchmarkSource, root: Path, place: Path) -> None:
    """Bring a set's raw files to where PyTorch Geometric looks for them; they appear there whole or not at all."""
    if not root.is_dir():
        raise ValueError(f"{root}: there is no such folder; root is the folder in which the raw files lie.")
    found = _found(source, root)
    if found is None:
        raise ValueError(
            f"{source.name}: {root} holds neither {source.folder}.zip nor {source.folder}/raw/{source.raw_file}, at "
            "any depth; put the set there, or leave root out to download it."
        )
    place.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=place) as fresh:
        raw = Path(fresh) / "raw"
        if found.is_dir():
            shutil.copytree(found, raw)
        else:
            raw.mkdir()
            try:
                with zipfile.ZipFile(found) as archive:
                    for entry in archive.infolist():
                        parts = Path(entry.filename).parts
                        # Only plain files of the folder `raw`, so that no name leads elsewhere.
                        if not entry.is_dir() and len(parts) >= 2 and parts[-2] == "raw":
                            with archive.open(entry) as packed, (raw / parts[-1]).open("wb") as file:
                                shutil.copyfileobj(packed, file)
            except (zipfile.BadZipFile, EOFError, NotImplementedError, OSError) as error:
                raise ValueError(f"{found}: it is damaged, or no zip ({error}).") from None
        if not (raw / source.raw_file).is_file():
            raise ValueError(f"{found}: it does not hold raw/{source.raw_file}.")
        target = place / source.folder
        target.mkdir(exist_ok=True)
        shutil.rmtree(target / "raw", ignore_errors=True)
        raw.replace(target / "raw")


def _found(source: BenchmarkSource, root: Path) -> Path | None:
    """Find a set's folder of raw files, or its zip."""
    for path in sorted(root.rglob(source.raw_file)):
        if path.parent.name == "raw" and path.parent.parent.name.lower() == source.folder.lower():
            return path.parent
    zips = [path for path in sorted(root.rglob("*.zip")) if path.stem.lower() == source.folder.lower()]
    for path in zips:
        with path.open("rb") as file:
            if not zipfile.is_zipfile(file):
                return path  # named so, but damaged: said when it is opened
        with zipfile.ZipFile(path) as archive:
            if any(Path(name).name == source.raw_file for name in archive.namelist()):
                return path
    return None
