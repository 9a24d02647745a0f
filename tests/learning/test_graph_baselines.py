"""Baselines: predictions on synthetic graphs, and known accuracies on real sets."""

import numpy as np
import pytest

from supa_datasets import GraphBenchmark, load_benchmark
from supa_learning import graph_baselines
from supa_learning.folds import Fold, stratified_folds
from supa_learning.graph_baselines import BASELINES, run_baseline, targets_of

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
pytest.importorskip("torch_geometric", reason="PyTorch Geometric is not installed")
pytest.importorskip("sklearn", reason="scikit-learn is not installed")


@pytest.fixture
def few_trees(monkeypatch):
    """Use small forests: those of the real sets have 200 trees."""
    monkeypatch.setattr(graph_baselines, "TREES", 20)


def _graph(nodes: int, labels: list[int], y: int):
    from torch_geometric.data import Data

    ring = torch.arange(nodes)
    edges = torch.stack([ring, ring.roll(1)])
    return Data(x=torch.nn.functional.one_hot(torch.tensor(labels), 3).float(), edge_index=edges, y=torch.tensor([y]))


def _benchmark(graphs) -> GraphBenchmark:
    return GraphBenchmark("made", "graph", tuple(graphs), 3, 2, False)


def _accuracy(benchmark, name, folds=5):
    made = stratified_folds(targets_of(benchmark), folds=folds)
    return np.mean([run_baseline(benchmark, fold, name).test_accuracy for fold in made])


@pytest.mark.usefixtures("few_trees")
def test_size_and_labels_classify_synthetic_graphs():
    random = np.random.default_rng(0)
    by_size = _benchmark(_graph(n := 4 + 4 * (k % 2), random.integers(0, 3, n).tolist(), k % 2) for k in range(60))
    by_label = _benchmark(_graph(6, [k % 2] * 5 + [2], k % 2) for k in range(60))
    by_nothing = _benchmark(_graph(6, random.integers(0, 3, 6).tolist(), int(random.integers(2))) for k in range(60))
    for name in ("size", "size-forest", "labels", "labels-forest"):
        assert _accuracy(by_size, name) == 100
        assert _accuracy(by_nothing, name) < 75
        assert _accuracy(by_label, name) == (100 if name.startswith("labels") else 50)
    assert _accuracy(by_size, "majority") == 50


def test_a_result_is_computed_on_its_fold():
    benchmark = _benchmark(_graph(4 + k % 3, [0] * (4 + k % 3), int(k >= 20)) for k in range(30))
    fold = Fold(np.arange(0, 24), np.array([24, 25]), np.array([0, 1, 26, 27, 28]))
    result = run_baseline(benchmark, fold, "majority")
    assert result.predictions.tolist() == [0, 0, 0, 0, 0]
    assert (result.test_accuracy, result.valid_accuracy, result.parameters) == (40.0, 0.0, 1)
    assert run_baseline(benchmark, fold, "size").parameters == 3
    assert np.isnan(run_baseline(benchmark, Fold(fold.train, np.array([], int), fold.test), "size").valid_accuracy)


@pytest.mark.usefixtures("few_trees")
def test_a_forest_depends_only_on_its_seed():
    random = np.random.default_rng(1)
    graphs = [_graph(n, random.integers(0, 3, n).tolist(), int(random.integers(2))) for n in random.integers(3, 9, 60)]
    fold = stratified_folds(targets_of(_benchmark(graphs)), folds=2)[0]
    one, same, other = (run_baseline(_benchmark(graphs), fold, "labels-forest", seed=s) for s in (0, 0, 1))
    assert one.predictions.tolist() == same.predictions.tolist()
    assert one.predictions.tolist() != other.predictions.tolist()


@pytest.mark.usefixtures("few_trees")
def test_a_single_training_class_is_always_predicted():
    benchmark = _benchmark(_graph(4, [0] * 4, int(k >= 20)) for k in range(30))
    fold = Fold(np.arange(5), np.array([6]), np.array([7, 25]))
    for name in ("size", "labels-forest"):
        assert run_baseline(benchmark, fold, name).test_accuracy == 50


def test_nodes_are_classified_by_their_features():
    from torch_geometric.data import Data

    y = torch.arange(40) % 2
    graph = Data(x=torch.stack([y * 2.0 - 1, torch.ones(40)], 1), edge_index=torch.zeros(2, 0, dtype=torch.long), y=y)
    benchmark = GraphBenchmark("nodes", "node", (graph,), 2, 2, False)
    assert _accuracy(benchmark, "features") == 100
    assert _accuracy(benchmark, "majority") == 50
    fold = stratified_folds(y)[0]
    with pytest.raises(
        ValueError, match="size is not a baseline for the node task of nodes; choose majority, features"
    ):
        run_baseline(benchmark, fold, "size")


def test_mistakes_are_clear_errors():
    benchmark = _benchmark(_graph(4, [0] * 4, k % 2) for k in range(10))
    fold = stratified_folds([0, 1] * 5, folds=2)[0]
    with pytest.raises(ValueError, match="'best' was given, but a baseline is one of majority, size"):
        run_baseline(benchmark, fold, "best")
    with pytest.raises(ValueError, match="out of range for made, 10 items"):
        run_baseline(benchmark, Fold(fold.train, fold.valid, np.array([10])), "size")


KNOWN = {
    "MUTAG": {"majority": 66.5, "size": 86.2, "labels": 85.7, "labels-forest": 86.1},
    "PROTEINS": {"majority": 59.6, "size": 70.8, "labels": 72.5, "size-forest": 67.6},
    "ENZYMES": {"majority": 16.7, "size": 21.5, "labels": 26.2, "labels-forest": 43.7},
    "BZR": {"majority": 78.8, "size": 79.8, "labels": 83.2},
    "COX2": {"majority": 78.2, "size": 78.2, "labels": 78.2},
}


@pytest.mark.slow
@pytest.mark.parametrize("name", KNOWN)
def test_real_sets_have_their_known_accuracies(name, shared_datasets, tmp_path):
    """The accuracies were measured independently of this code with the folds of scikit-learn."""
    benchmark = load_benchmark(name, root=shared_datasets, cache=tmp_path)
    for method, accuracy in KNOWN[name].items():
        assert _accuracy(benchmark, method, folds=10) == pytest.approx(accuracy, abs=3.0), method
    assert set(KNOWN[name]) <= set(BASELINES)
