"""Baselines without message passing, from sizes and labels of graphs or from features of nodes.

A graph network that does not beat them has learnt nothing about the structure of the graphs.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np

from supa.arrays import FloatArray, IntArray
from supa.checks import check_int, check_name, counted
from supa_datasets import GraphBenchmark
from supa_learning.folds import Fold

TREES = 200
"""Number of trees of a random forest."""


@dataclass(frozen=True)
class Baseline:
    """Features and model of a baseline.

    Args:
        features: ``"none"``, ``"size"`` (numbers of nodes and edges of a graph), ``"labels"`` (the size and the sum of
            each node feature, which is a histogram for one-hot features), or ``"nodes"`` (the features of a node).
        model: ``"majority"``, ``"logistic"`` or ``"forest"``.
        task: ``"graph"`` or ``"node"``; None for both.
        random: Whether the result depends on the seed.
    """

    features: str
    model: str
    task: str | None
    random: bool = False


BASELINES: Mapping[str, Baseline] = MappingProxyType(
    {
        "majority": Baseline("none", "majority", None),
        "size": Baseline("size", "logistic", "graph"),
        "labels": Baseline("labels", "logistic", "graph"),
        "size-forest": Baseline("size", "forest", "graph", random=True),
        "labels-forest": Baseline("labels", "forest", "graph", random=True),
        "features": Baseline("nodes", "logistic", "node"),
    }
)
"""The baselines by name."""


@dataclass(frozen=True, eq=False)
class BaselineResult:
    """Result of a baseline on one fold.

    Args:
        predictions: (n,) int64 predicted class of each item of the test part.
        test_accuracy: Accuracy on the test part in percent; NaN if it is empty.
        valid_accuracy: Accuracy on the validation part in percent; NaN if it is empty.
        parameters: Number of fitted parameters: coefficients and intercepts, or nodes of all trees.
    """

    predictions: IntArray
    test_accuracy: float
    valid_accuracy: float
    parameters: int


def run_baseline(benchmark: GraphBenchmark, fold: Fold, name: str, *, seed: int = 0) -> BaselineResult:
    """Fit a baseline to the training part of a fold and evaluate it on the test part.

    ``"majority"`` predicts the most frequent class. The other baselines are logistic regressions (L2 penalty, C = 1)
    on standardised features, or random forests of 200 trees (``"size-forest"``, ``"labels-forest"``).

    Args:
        benchmark: The graph benchmark.
        fold: Indices of graphs, or of nodes for node classification.
        name: Name of the baseline, out of ``BASELINES``: ``"majority"``; ``"size"`` and ``"size-forest"`` (numbers of
            nodes and edges), ``"labels"`` and ``"labels-forest"`` (the same and the sum of each node feature), for
            graphs; ``"features"`` (features of a node), for nodes.
        seed: Random seed of the random forests.

    Returns:
        Result with ``predictions`` (n,) int64 of the test part, ``test_accuracy`` and ``valid_accuracy`` in percent,
        and ``parameters``, the number of fitted parameters.

    Raises:
        ValueError: If there is no such baseline, it does not fit the task, an index is out of range, or scikit-learn is
            not installed.

    Example:
        >>> import torch
        >>> from supa_datasets import GraphBenchmark
        >>> from supa_learning import run_baseline, stratified_folds
        >>> from torch_geometric.data import Data
        >>> edges = torch.tensor([[0, 1], [1, 0]])
        >>> graphs = tuple(Data(x=torch.ones(2, 1), edge_index=edges, y=torch.tensor([int(k > 3)])) for k in range(20))
        >>> benchmark = GraphBenchmark("pairs", "graph", graphs, num_features=1, num_classes=2, from_degrees=False)
        >>> fold = stratified_folds([int(k > 3) for k in range(20)], folds=4)[0]
        >>> run_baseline(benchmark, fold, "majority").test_accuracy
        80.0
    """
    check_name(BASELINES, "a baseline", name)
    chosen = BASELINES[name]
    if chosen.task not in (None, benchmark.task):
        fitting = ", ".join(n for n, b in BASELINES.items() if b.task in (None, benchmark.task))
        raise ValueError(
            f"{name} is not a baseline for the {benchmark.task} task of {benchmark.name}; choose {fitting}."
        )
    targets = targets_of(benchmark)
    for indices in (fold.train, fold.valid, fold.test):
        if len(indices) and not 0 <= indices.min() <= indices.max() < len(targets):
            raise ValueError(
                f"The fold has indices out of range for {benchmark.name}, {counted(len(targets), 'item')}."
            )
    known = targets[fold.train]
    if chosen.model == "majority" or len(np.unique(known)) == 1:
        predicted = np.full(len(targets), np.bincount(known).argmax(), dtype=np.int64)
        parameters = 1
    else:
        features = _features(benchmark, chosen.features)
        model = _model(chosen.model, check_int(0, 2**32 - 1, "seed", seed))
        model.fit(features[fold.train], known)
        predicted = np.full(len(targets), -1, dtype=np.int64)
        asked = np.concatenate([fold.valid, fold.test])
        predicted[asked] = model.predict(features[asked])
        parameters = _parameters(model[-1])
    test, valid = (
        100 * float(np.mean(predicted[part] == targets[part])) if len(part) else float("nan")
        for part in (fold.test, fold.valid)
    )
    return BaselineResult(predicted[fold.test], test, valid, parameters)


def targets_of(benchmark: GraphBenchmark) -> IntArray:
    """Return the target classes of a benchmark.

    Args:
        benchmark: The graph benchmark.

    Returns:
        (graphs,) or (nodes,) int64.
    """
    if benchmark.task == "node":
        return np.asarray(benchmark.graphs[0].y.numpy(), dtype=np.int64)
    return np.array([int(graph.y) for graph in benchmark.graphs], dtype=np.int64)


def _features(benchmark: GraphBenchmark, kind: str) -> FloatArray:
    """Return the features of all items, (items, features)."""
    if kind == "nodes":
        return np.asarray(benchmark.graphs[0].x.numpy(), dtype=np.float64)
    sizes = np.array([(graph.num_nodes, graph.num_edges) for graph in benchmark.graphs], dtype=np.float64)
    if kind == "size":
        return sizes
    return np.column_stack([sizes, [graph.x.double().sum(dim=0).numpy() for graph in benchmark.graphs]])


def _model(kind: str, seed: int) -> Any:
    try:
        from sklearn.ensemble import RandomForestClassifier
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler
    except ImportError:
        raise ValueError("Baselines need the package scikit-learn: pip install 'supa-showers[compare]'.") from None
    if kind == "forest":
        return make_pipeline(RandomForestClassifier(TREES, random_state=seed))
    return make_pipeline(StandardScaler(), LogisticRegression(max_iter=5000))


def _parameters(model: Any) -> int:
    if hasattr(model, "estimators_"):
        return sum(int(tree.tree_.node_count) for tree in model.estimators_)
    return int(model.coef_.size + model.intercept_.size)
