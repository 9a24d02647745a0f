"""Training and test of a method on one fold of a benchmark."""

from collections.abc import Mapping
from typing import Any

import torch

from supa_datasets import GraphBenchmark
from supa_gff.bench.jobs import JobResult
from supa_gff.data import GraphSet, Level
from supa_gff.names import METHODS
from supa_gff.networks.network import Network
from supa_gff.presets import preset
from supa_gff.training.tasks import train as train_network
from supa_learning.folds import Fold
from supa_learning.metrics import accuracy


def method_settings(method: str, conv: str) -> Mapping[str, Any]:
    """Return the configuration on which a result depends.

    Args:
        method: One of ``METHODS``.
        conv: One of ``CONVOLUTIONS``.

    Returns:
        The settings of the method for each task that it supports.
    """
    tasks = [task for task in ("graph", "node") if task in METHODS[method]]
    return {task: preset(method, _level(task)).replace(conv=conv).to_dict() for task in tasks}


def train_and_test(benchmark: GraphBenchmark, fold: Fold, method: str, conv: str, seed: int) -> JobResult:
    """Train a method on a fold, select the epoch by its validation part, and test once.

    Args:
        benchmark: Benchmark to load the graphs from.
        fold: Training, validation and test indices: of graphs, or of the nodes of a single graph.
        method: One of ``METHODS``.
        conv: One of ``CONVOLUTIONS``.
        seed: Random seed of the initial weights and of the training.

    Returns:
        The accuracies, the number of epochs and the number of parameters.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    graphs = GraphSet.of_benchmark(benchmark).to(device)
    train, valid, test = (torch.from_numpy(part).to(device) for part in (fold.train, fold.valid, fold.test))
    network = Network.for_graphs(preset(method, graphs.level).replace(conv=conv), graphs, seed=seed)
    state = train_network(network, graphs, train, valid, seed=seed).state
    return JobResult(
        test_accuracy=100 * _accuracy(network, graphs, test, train),
        valid_accuracy=100 * _accuracy(network, graphs, valid, train),
        epochs=len(state.history),
        parameters=sum(part.numel() for part in network.parameters() if part.requires_grad),
    )


def _accuracy(network: Network, graphs: GraphSet, members: torch.Tensor, known: torch.Tensor) -> float:
    scores, target = network.scores_of(graphs.batches(members, 4 * network.method.batch_size, known=known))
    return accuracy(network.aggregate(scores), target)


def _level(task: str) -> Level:
    return "graph" if task == "graph" else "node"
