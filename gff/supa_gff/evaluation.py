"""Accuracy of a network and of each of its layers on the parts of a split."""

from dataclasses import dataclass

from torch import Tensor

from supa_gff.data import GraphSet
from supa_gff.networks.network import Network
from supa_gff.splits.standard import Split
from supa_learning.metrics import accuracy, confusion_matrix, majority_class

PARTS = ("train", "valid", "test")


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Accuracy of a network on one part of a split. `evaluate` computes it.

    Args:
        layers: Accuracy of each layer alone, from 0 to 1.
        network: Accuracy of the combined layers, from 0 to 1.
        majority: Accuracy of always predicting the most frequent class of the training part, from 0 to 1.
        confusion: (classes, classes) int64 counts by true class (row) and predicted class (column).

    Example:
        >>> import torch
        >>> from supa_gff import Evaluation
        >>> confusion = torch.tensor([[5, 1], [2, 2]])
        >>> evaluation = Evaluation(layers=(0.6, 0.7), network=0.7, majority=0.6, confusion=confusion)
        >>> evaluation.network > evaluation.majority
        True
        >>> evaluation.confusion.diag() / evaluation.confusion.sum(1)  # recall of each class
        tensor([0.8333, 0.5000])
    """

    layers: tuple[float, ...]
    network: float
    majority: float
    confusion: Tensor


def evaluate(network: Network, graphs: GraphSet, split: Split) -> dict[str, Evaluation]:
    """Evaluate a classifier on each part of a split.

    Args:
        network: Network to evaluate, on the device of the set.
        graphs: Set of graphs, at graph or node level.
        split: Training, validation and test indices.

    Returns:
        The `Evaluation` of each part, with the keys ``"train"``, ``"valid"`` and ``"test"``.

    Example:
        >>> import torch
        >>> from torch_geometric.data import Data
        >>> from supa_gff import GraphSet, Network, Split, evaluate, preset
        >>> edges = torch.tensor([[0, 1], [1, 0]])
        >>> graphs = [Data(x=torch.ones(2, 3), edge_index=edges, y=torch.tensor([k % 2])) for k in range(12)]
        >>> dataset = GraphSet.of(graphs)
        >>> split = Split("by hand", torch.arange(6), torch.arange(6, 9), torch.arange(9, 12))
        >>> network = Network.for_graphs(preset("mono-forward").replace(layers=2), dataset)
        >>> results = evaluate(network, dataset, split)
        >>> list(results), len(results["test"].layers), results["train"].majority
        (['train', 'valid', 'test'], 2, 0.5)
    """
    train = split.train.to(graphs.device)
    known = train if graphs.transductive else None
    evaluations: dict[str, Evaluation] = {}
    for name in PARTS:
        indices = getattr(split, name).to(graphs.device)
        scores, target = network.scores_of(graphs.batches(indices, 4 * network.method.batch_size, known=known))
        if name == PARTS[0]:
            majority = majority_class(target)
        together = network.aggregate(scores)
        evaluations[name] = Evaluation(
            layers=tuple(accuracy(part, target) for part in scores),
            network=accuracy(together, target),
            majority=float((target == majority).double().mean()),
            confusion=confusion_matrix(target, together.argmax(1), network.out_channels),
        )
    return evaluations
