"""Choice of the update rule of a method."""

from collections.abc import Mapping

from supa_gff.method import Schedule
from supa_gff.networks.score_network import ScoreNetwork
from supa_gff.updates.backprop import Backprop
from supa_gff.updates.deep_supervision import DeepSupervision
from supa_gff.updates.joint import Joint
from supa_gff.updates.overlapping_pairs import OverlappingPairs
from supa_gff.updates.rule import UpdateRule
from supa_gff.updates.top_down import TopDown

_RULES: Mapping[Schedule, type[UpdateRule]] = {
    "greedy": Joint,  # greedy training passes the layer to step(); otherwise a step updates all layers
    "joint": Joint,
    "overlapping-pairs": OverlappingPairs,
    "backprop": Backprop,
    "deep-supervision": DeepSupervision,
}


def update_rule(network: ScoreNetwork) -> UpdateRule:
    """Return a new update rule for a network, as set by the schedule of its method.

    Use an update rule in your own training loop. `train` runs the complete training.

    Args:
        network: Network to train.

    Returns:
        The update rule, with a separate optimiser for each layer.

    Example:
        >>> import torch
        >>> from torch_geometric.data import Data
        >>> from supa_gff import GraphSet, Network, preset, update_rule
        >>> edges = torch.tensor([[0, 1], [1, 0]])
        >>> graphs = [Data(x=torch.full((2, 3), k % 2), edge_index=edges, y=torch.tensor([k % 2])) for k in range(16)]
        >>> dataset = GraphSet.of(graphs)
        >>> network = Network.for_graphs(preset("mono-forward").replace(layers=2), dataset)
        >>> rule = update_rule(network)
        >>> losses = []
        >>> for epoch in range(10):
        ...     stats = rule.step(dataset.batch(torch.arange(16)))
        ...     losses.append(stats[0].loss)  # the loss of the first layer
        >>> losses[-1] < losses[0]
        True
    """
    method = network.method
    return TopDown(network) if method.top_down is not None else _RULES[method.schedule](network)
