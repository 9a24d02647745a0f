"""How good a network is on members of a set, layer by layer."""

from dataclasses import dataclass

import torch
from torch import Tensor

from supa_gff import metrics
from supa_gff.data import GraphSet
from supa_gff.networks.network import Network
from supa_gff.splits.standard import Split

PARTS = ("train", "valid", "test")


@dataclass(frozen=True, eq=False)
class Performance:
    """How good a network is on some members.

    Args:
        layers: accuracy of each layer alone, from 0 to 1.
        voted: accuracy of the layers that vote together.
        majority: accuracy of always predicting the class that is most frequent in training.
        confusion: (classes, classes) int64, numbers of units by true class (row) and predicted class (column).
    """

    layers: tuple[float, ...]
    voted: float
    majority: float
    confusion: Tensor


def performances(network: Network, graphs: GraphSet, split: Split) -> dict[str, Performance]:
    """Measure a classifier on each part of a split.

    Args:
        network: the network, on the device of the set.
        graphs: the set.
        split: of its members.

    Returns:
        By ``"train"``, ``"valid"`` and ``"test"``.
    """
    train = split.train.to(graphs.device)
    known, made = train if graphs.transductive else None, {}
    for name in PARTS:
        members = getattr(split, name).to(graphs.device)
        scores, target = network.scores_of(graphs.batches(members, 4 * network.method.batch_size, known=known))
        if name == "train":
            majority = torch.bincount(target).argmax()
        voted = network.aggregate(scores)
        pairs = target * network.out_channels + voted.argmax(1)
        made[name] = Performance(
            layers=tuple(metrics.accuracy(part, target) for part in scores),
            voted=metrics.accuracy(voted, target),
            majority=float((target == majority).double().mean()),
            confusion=torch.bincount(pairs, minlength=network.out_channels**2).view(network.out_channels, -1).cpu(),
        )
    return made
