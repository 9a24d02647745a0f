"""Training and test of a method on one fold of a benchmark."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from supa_datasets import GraphBenchmark
from supa_gff.batch import Level
from supa_gff.bench.jobs import JobResult
from supa_gff.graph_set import GraphSet
from supa_gff.names import METHODS
from supa_gff.networks.network import Network
from supa_gff.presets import preset
from supa_gff.stacked.network import reason_not_to_stack
from supa_gff.stacked.training import Member, step_parts, train_together
from supa_gff.training.tasks import train as train_network
from supa_learning.folds import Fold
from supa_learning.metrics import accuracy

DIVERGED = "The training diverged; use a lower learning_rate or a normalisation."
"""Reason for the failure of a member whose validation score was never finite."""


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


def train_and_test(
    benchmark: GraphBenchmark, fold: Fold, method: str, conv: str, seed: int, device: str = "cpu"
) -> JobResult:
    """Train a method on a fold, select the epoch by its validation part, and test once.

    Args:
        benchmark: Benchmark to load the graphs from.
        fold: Training, validation and test indices: of graphs, or of the nodes of a single graph.
        method: One of ``METHODS``.
        conv: One of ``CONVOLUTIONS``.
        seed: Random seed of the initial weights and of the training.
        device: ``"cpu"`` or ``"cuda"``.

    Returns:
        The accuracies, the number of epochs and the number of parameters.
    """
    graphs = GraphSet.of_benchmark(benchmark).to(device)
    train, valid, test = (torch.from_numpy(part).to(device) for part in (fold.train, fold.valid, fold.test))
    network = Network.for_graphs(preset(method, graphs.level).replace(conv=conv), graphs, seed=seed)
    state = train_network(network, graphs, train, valid, seed=seed).state
    return _result(network, graphs, (train, valid, test), len(state.history))


def can_train_together(method: str, conv: str, task: str) -> bool:
    """Return whether the folds and seeds of a method can be trained together.

    Args:
        method: One of ``METHODS``.
        conv: One of ``CONVOLUTIONS``.
        task: ``"graph"`` or ``"node"``.

    Returns:
        Whether `train_and_test_together` supports the method.
    """
    level = _level(task)
    return reason_not_to_stack(preset(method, level).replace(conv=conv), level) is None


def train_and_test_together(
    graphs: GraphSet, folds: Sequence[Fold], method: str, conv: str, seeds: Sequence[int]
) -> list[JobResult | str]:
    """Train a method on several folds at once, and test each as `train_and_test` does.

    Args:
        graphs: Set of graphs on the device of the training.
        folds: Fold of each member. `steps_of` must be equal for all of them.
        method: One of ``METHODS``.
        conv: One of ``CONVOLUTIONS``.
        seeds: Random seed of each member.

    Returns:
        Result of each member, or the reason for its failure.
    """
    settings = preset(method, graphs.level).replace(conv=conv)
    parts = [
        [torch.from_numpy(part).to(graphs.device) for part in (fold.train, fold.valid, fold.test)] for fold in folds
    ]
    members = [
        Member(Network.for_graphs(settings, graphs, seed=seed), train, valid, seed)
        for (train, valid, _), seed in zip(parts, seeds, strict=True)
    ]
    return [
        _result(member.network, graphs, own, state.epoch) if state.best_epoch >= 0 else DIVERGED
        for member, own, state in zip(members, parts, train_together(members, graphs), strict=True)
    ]


def steps_of(fold: Fold, method: str, conv: str) -> tuple[int, ...]:
    """Return the steps of an epoch, which must be equal for folds that are trained together; see `step_parts`."""
    return step_parts(len(fold.train), preset(method).replace(conv=conv))


def _result(network: Network, graphs: GraphSet, parts: Sequence[torch.Tensor], epochs: int) -> JobResult:
    train, valid, test = parts
    return JobResult(
        test_accuracy=100 * _accuracy(network, graphs, test, train),
        valid_accuracy=100 * _accuracy(network, graphs, valid, train),
        epochs=epochs,
        parameters=sum(part.numel() for part in network.parameters() if part.requires_grad),
    )


def _accuracy(network: Network, graphs: GraphSet, members: torch.Tensor, known: torch.Tensor) -> float:
    scores, target = network.scores_of(graphs.batches(members, 4 * network.method.batch_size, known=known))
    return accuracy(network.aggregate(scores), target)


def _level(task: str) -> Level:
    return "graph" if task == "graph" else "node"
