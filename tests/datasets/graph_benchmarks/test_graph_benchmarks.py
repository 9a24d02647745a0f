"""Graph benchmarks from raw files and zip archives without a network, and clear errors."""

import zipfile
from pathlib import Path

import numpy as np
import pytest

from supa_datasets import BENCHMARKS, load_benchmark

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
pytest.importorskip("torch_geometric", reason="PyTorch Geometric is not installed")


def _tu_files(name: str, *, labels: bool) -> dict[str, str]:
    """Return the files of a triangle of class 1, and of a path of three nodes with an isolated node of class -1."""
    edges = [(1, 2), (2, 3), (3, 1), (4, 5), (5, 6)]
    both = edges + [(b, a) for a, b in edges]
    files = {
        "A": "\n".join(f"{a}, {b}" for a, b in sorted(both)),
        "graph_indicator": "1\n1\n1\n2\n2\n2\n2",
        "graph_labels": "1\n-1",
    }
    if labels:
        files["node_labels"] = "0\n1\n2\n0\n0\n1\n2"
    return {f"{name}_{part}.txt": text + "\n" for part, text in files.items()}


def _zip(path: Path, files: dict[str, str], folder: str) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in files.items():
            archive.writestr(f"{folder}/raw/{name}", text)


def test_a_set_is_loaded_from_a_zip_at_any_depth(tmp_path):
    (tmp_path / "root" / "deep").mkdir(parents=True)
    _zip(tmp_path / "root" / "deep" / "MUTAG.zip", _tu_files("MUTAG", labels=True), "MUTAG")
    benchmark = load_benchmark("MUTAG", root=tmp_path / "root", cache=tmp_path / "cache")
    assert (len(benchmark), benchmark.num_features, benchmark.num_classes, benchmark.from_degrees) == (2, 3, 2, False)
    triangle, path = benchmark.graphs
    assert triangle.x.tolist() == np.eye(3).tolist()
    assert (triangle.num_edges, path.num_edges, path.num_nodes) == (6, 4, 4)
    assert [int(graph.y) for graph in benchmark.graphs] == [1, 0]
    assert "MUTAG: 2 graphs, 7 nodes, 3 features, 2 classes" in repr(benchmark)
    # The root is not written, and from now on the cache is sufficient.
    assert [p.name for p in (tmp_path / "root").rglob("*") if p.is_file()] == ["MUTAG.zip"]
    again = load_benchmark("MUTAG", cache=tmp_path / "cache")
    assert torch.equal(again.graphs[0].edge_index, triangle.edge_index)


def test_a_set_is_loaded_from_a_folder_and_degrees_replace_missing_features(tmp_path):
    raw = tmp_path / "root" / "IMDB-BINARY" / "raw"
    raw.mkdir(parents=True)
    for name, text in _tu_files("IMDB-BINARY", labels=False).items():
        (raw / name).write_text(text)
    benchmark = load_benchmark("IMDB-BINARY", root=tmp_path / "root", cache=tmp_path / "cache")
    assert benchmark.from_degrees
    assert benchmark.num_features == 64
    assert benchmark.graphs[1].x.argmax(dim=1).tolist() == [1, 2, 1, 0]  # the isolated node has degree 0


def test_attributes_of_nodes_are_features_of_a_benchmark_of_their_own(tmp_path):
    files = _tu_files("ENZYMES", labels=True)
    _zip(tmp_path / "ENZYMES.zip", files, "ENZYMES")
    with pytest.raises(ValueError, match="holds neither"):
        load_benchmark("ENZYMES-attributes", root=tmp_path, cache=tmp_path / "cache")
    values = [[k / 2, -k] for k in range(7)]
    files["ENZYMES_node_attributes.txt"] = "".join(f"{a}, {b}\n" for a, b in values)
    _zip(tmp_path / "ENZYMES.zip", files, "ENZYMES")
    graphs = load_benchmark("ENZYMES-attributes", root=tmp_path, cache=tmp_path / "cache").graphs
    labels = load_benchmark("ENZYMES", cache=tmp_path / "cache").graphs
    for k, (graph, plain) in enumerate(zip(graphs, labels, strict=True)):
        own = torch.tensor(values[3 * k : 3 * k + graph.num_nodes])
        assert torch.equal(graph.x, torch.cat([own, plain.x], 1))
        assert plain.x.shape[1] == 3


def test_large_degrees_share_the_last_feature():
    from supa_datasets.graph_benchmarks import degree_features

    star = torch.tensor([[0] * 5 + [1, 2, 3, 4, 5], [1, 2, 3, 4, 5] + [0] * 5])
    assert degree_features(star, 6, most=3).argmax(dim=1).tolist() == [2, 1, 1, 1, 1, 1]


def test_names_in_a_zip_cannot_leave_the_cache(tmp_path):
    with zipfile.ZipFile(tmp_path / "MUTAG.zip", "w") as archive:
        for name, text in _tu_files("MUTAG", labels=True).items():
            archive.writestr(f"MUTAG/raw/{name}", text)
        archive.writestr("../../escaped.txt", "x")
        archive.writestr("/tmp/raw/../../escaped.txt", "x")
    load_benchmark("MUTAG", root=tmp_path, cache=tmp_path / "cache")
    assert not list(tmp_path.parent.rglob("escaped.txt"))


def test_mistakes_are_clear_errors(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="a benchmark is one of AIDS, BZR"):
        load_benchmark("MUTAGG")
    with pytest.raises(ValueError, match="there is no such folder"):
        load_benchmark("MUTAG", root=tmp_path / "none", cache=tmp_path / "cache")
    with pytest.raises(ValueError, match=r"holds neither MUTAG\.zip nor MUTAG/raw/MUTAG_A\.txt"):
        load_benchmark("MUTAG", root=tmp_path, cache=tmp_path / "cache")
    (tmp_path / "MUTAG.zip").write_bytes(b"no zip")
    with pytest.raises(ValueError, match="damaged or not a zip archive"):
        load_benchmark("MUTAG", root=tmp_path, cache=tmp_path / "cache")
    files = _tu_files("MUTAG", labels=True)
    files["MUTAG_graph_labels.txt"] = "one\ntwo\n"
    _zip(tmp_path / "MUTAG.zip", files, "MUTAG")
    with pytest.raises(ValueError, match=r"its raw files are damaged.*MUTAG\.zip: MUTAG/raw/MUTAG_graph_labels\.txt"):
        load_benchmark("MUTAG", root=tmp_path, cache=tmp_path / "cache")

    def no_network(*_arguments, **_options):
        raise OSError("no route to host")

    monkeypatch.setattr("torch_geometric.datasets.tu_dataset.fs.cp", no_network)
    with pytest.raises(ValueError, match=r"cannot be downloaded or read .*root= or --root"):
        load_benchmark("NCI1", cache=tmp_path / "cache")


@pytest.mark.parametrize(
    ("name", "graphs", "nodes", "features", "classes"),
    [
        ("MUTAG", 188, 3371, 7, 2),
        ("ENZYMES", 600, 19580, 3, 6),
        ("ENZYMES-attributes", 600, 19580, 21, 6),
        ("IMDB-MULTI", 1500, 19502, 64, 3),
        ("Cora", 1, 2708, 1433, 7),
        ("CitationFull-Cora_ML", 1, 2995, 2879, 7),
        ("Amazon-Photo", 1, 7650, 745, 8),
        ("Texas", 1, 183, 1703, 5),
    ],
)
def test_real_sets_have_their_published_sizes(root, tmp_path, name, graphs, nodes, features, classes):
    folder = root.parent / "shared" / "datasets"
    if not folder.exists():
        pytest.skip("the raw files of the benchmarks are not available")
    benchmark = load_benchmark(name, root=folder, cache=tmp_path)
    assert len(benchmark) == graphs
    assert sum(graph.num_nodes for graph in benchmark.graphs) == nodes
    assert (benchmark.num_features, benchmark.num_classes) == (features, classes)
    assert benchmark.task == BENCHMARKS[name].task
