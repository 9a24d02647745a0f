"""The update rule of a method."""

from collections.abc import Mapping

from supa_gff.method import Schedule
from supa_gff.networks.network import Network
from supa_gff.updates.backprop import Backprop
from supa_gff.updates.joint import Joint
from supa_gff.updates.overlapping_pairs import OverlappingPairs
from supa_gff.updates.rule import UpdateRule
from supa_gff.updates.top_down import TopDown

_RULES: Mapping[Schedule, type[UpdateRule]] = {
    "greedy": Joint,  # a greedy training gives step() the layer; without it, a step updates all layers
    "joint": Joint,
    "overlapping-pairs": OverlappingPairs,
    "backprop": Backprop,
}


def update_rule(network: Network) -> UpdateRule:
    """Make the update rule of a network's method.

    Args:
        network: the network.

    Returns:
        The rule, with optimisers of its own.
    """
    method = network.method
    return TopDown(network) if method.top_down is not None else _RULES[method.schedule](network)
