"""Evaluation of a network on the parts of a split, layer by layer."""

from dataclasses import dataclass

from torch import Tensor

from supa_gff.data import GraphSet
from supa_gff.networks.network import Network
from supa_gff.splits.standard import Split
from supa_learning.metrics import accuracy, confusion_matrix, majority_class

PARTS = ("train", "valid", "test")


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Results of a network on one part of a split.

    Args:
        layers: accuracy of each layer alone, from 0 to 1.
        network: accuracy of the layers together.
        majority: accuracy of the class that is most frequent in the training part.
        confusion: (classes, classes) int64 counts by true class (row) and predicted class (column).
    """

    layers: tuple[float, ...]
    network: float
    majority: float
    confusion: Tensor


def evaluate(network: Network, graphs: GraphSet, split: Split) -> dict[str, Evaluation]:
    """Evaluate a classifier on each part of a split.

    Args:
        network: the network, on the device of the set.
        graphs: the set.
        split: indices of its items.

    Returns:
        By ``"train"``, ``"valid"`` and ``"test"``.
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
