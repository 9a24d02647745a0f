"""Raw files of small synthetic benchmarks, in the layout of the published files."""

import pickle
import random
from pathlib import Path

import numpy as np
import scipy.sparse


def write_tu(root: Path, name: str, *, graphs: int = 40, classes: int = 2, labels: bool = True) -> None:
    """Write graphs in which most nodes have the label of the graph's class. Some nodes and graphs have no edges."""
    numbers = random.Random(1)
    edges, indicator, graph_labels, node_labels, nodes = [], [], [], [], 0
    for graph in range(graphs):
        size, label = 4 + graph % 3, graph % classes
        for node in range(size):
            indicator.append(graph + 1)
            node_labels.append(label if numbers.random() < 0.9 else (label + 1) % 3)
            if graph % 10 != 5 and node % 4 != 3 and node:  # one graph of ten has no edges
                edges += [(nodes + node, nodes + node + 1), (nodes + node + 1, nodes + node)]
        graph_labels.append(label)
        nodes += size
    files = {
        "A": [f"{a}, {b}" for a, b in edges],
        "graph_indicator": indicator,
        "graph_labels": graph_labels,
        **({"node_labels": node_labels} if labels else {}),
    }
    raw = root / name / "raw"
    raw.mkdir(parents=True)
    for part, rows in files.items():
        (raw / f"{name}_{part}.txt").write_text("\n".join(map(str, rows)) + "\n")


def write_planetoid(
    root: Path, name: str = "Cora", *, classes: int = 3, labelled: int = 12, assortative: bool = False
) -> None:
    """Write a citation graph of about 570 nodes with two features for each class.

    Edges are random; with ``assortative=True`` they join nodes of the same class only.
    """
    random_numbers = np.random.default_rng(2)
    nodes, test = labelled + 560, range(labelled + 540, labelled + 560)
    target = np.arange(nodes) % classes
    x = np.zeros((nodes, 2 * classes), dtype=np.float32)
    x[np.arange(nodes), 2 * target + random_numbers.integers(0, 2, nodes)] = 1
    one_hot = np.eye(classes, dtype=np.int32)[target]
    known = nodes - len(test)
    graph = {
        node: [int(other) for other in random_numbers.integers(0, nodes, 2)] if node % 20 else []
        for node in range(nodes)
    }
    if assortative:
        graph = {
            node: [min(other + (node - other) % classes, nodes - classes + node % classes) for other in others]
            for node, others in graph.items()
        }
    parts = {
        "x": scipy.sparse.csr_matrix(x[:labelled]),
        "y": one_hot[:labelled],
        "allx": scipy.sparse.csr_matrix(x[:known]),
        "ally": one_hot[:known],
        "tx": scipy.sparse.csr_matrix(x[known:]),
        "ty": one_hot[known:],
        "graph": graph,
    }
    raw = root / name / "raw"
    raw.mkdir(parents=True)
    for part, value in parts.items():
        with (raw / f"ind.{name.lower()}.{part}").open("wb") as file:
            pickle.dump(value, file)
    (raw / f"ind.{name.lower()}.test.index").write_text("\n".join(map(str, test)) + "\n")


def write_citation_full(root: Path, name: str = "cora_ml", *, labels: np.ndarray | None = None) -> None:
    """Write a graph of sixty nodes as an npz file of sparse matrices."""
    labels = np.arange(60) % 3 if labels is None else labels
    x = scipy.sparse.csr_matrix(np.eye(3, dtype=np.float32)[np.arange(len(labels)) % 3])
    adjacency = scipy.sparse.random(len(labels), len(labels), 0.1, "csr", np.float32, np.random.default_rng(3))
    raw = root / name / "raw"
    raw.mkdir(parents=True)
    parts = {}
    for key, matrix in (("adj", adjacency), ("attr", x)):
        parts |= {f"{key}_{part}": getattr(matrix, part) for part in ("data", "indices", "indptr", "shape")}
    np.savez(raw / f"{name}.npz", labels=labels, **parts)


def write_webkb(root: Path, name: str = "texas") -> None:
    """Write a graph of thirty nodes in two classes, with ten published splits."""
    raw = root / name / "raw"
    raw.mkdir(parents=True)
    rows = [f"{node}\t{','.join('1' if f == node % 2 else '0' for f in range(4))}\t{node % 2}" for node in range(30)]
    (raw / "out1_node_feature_label.txt").write_text("\n".join(["id\tfeature\tlabel", *rows]) + "\n")
    edges = [f"{node}\t{(node + 2) % 30}" for node in range(30)]
    (raw / "out1_graph_edges.txt").write_text("\n".join(["from\tto", *edges]) + "\n")
    for split in range(10):
        part = (np.arange(30) + split) % 3
        masks = {f"{purpose}_mask": part == k for k, purpose in enumerate(("train", "val", "test"))}
        np.savez(raw / f"{name}_split_0.6_0.2_{split}.npz", **masks)
