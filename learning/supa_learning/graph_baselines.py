"""Trivial baselines without message passing: sizes and labels of graphs, or features of nodes.

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
"""Trees of a random forest."""


@dataclass(frozen=True)
class Baseline:
    """Features and model of a baseline.

    Args:
        features: ``"none"``; of a graph its ``"size"`` (numbers of nodes and edges) or ``"labels"`` (the size, and the
            sum of each node feature: of one-hot features a histogram of node labels); ``"nodes"``: a node's features.
        model: ``"majority"``, ``"logistic"`` or ``"forest"``.
        task: ``"graph"`` or ``"node"``; None: both.
        random: whether it depends on its seed.
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
        predictions: (n,) int64, the predicted class of each item of the fold's test part.
        test_accuracy: percent of the test part.
        valid_accuracy: percent of the validation part, NaN if it is empty; no choice depends on it.
        parameters: number of fitted parameters: coefficients and intercepts, or nodes of all trees.
    """

    predictions: IntArray
    test_accuracy: float
    valid_accuracy: float
    parameters: int


def run_baseline(benchmark: GraphBenchmark, fold: Fold, name: str, *, seed: int = 0) -> BaselineResult:
    """Fit a trivial baseline on the training part of a fold and test it.

    Logistic regression (L2 penalty, C = 1) takes standardised features; a random forest has 200 trees.

    Args:
        benchmark: the benchmark.
        fold: indices of graphs, or of nodes for node classification.
        name: one of ``BASELINES``.
        seed: random seed of a forest.

    Returns:
        Predictions and accuracies.

    Raises:
        ValueError: there is no such baseline, it cannot do the task, an index is out of range, or scikit-learn is not
            installed.
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
            raise ValueError(f"The fold holds indices outside the {counted(len(targets), 'item')} of {benchmark.name}.")
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
        benchmark: the benchmark.

    Returns:
        (graphs,) or (nodes,) int64.
    """
    if benchmark.task == "node":
        return np.asarray(benchmark.graphs[0].y.numpy(), dtype=np.int64)
    return np.array([int(graph.y) for graph in benchmark.graphs], dtype=np.int64)


def _features(benchmark: GraphBenchmark, kind: str) -> FloatArray:
    """Return a row of features for each item."""
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
