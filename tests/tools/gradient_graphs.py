"""Layers that the autograd graph of a loss reaches, for tests of locality."""

import torch

from supa_gff import Network


def reached(value: torch.Tensor) -> set[torch.Tensor]:
    """Return all leaves of the autograd graph of a value."""
    leaves, seen, waiting = set(), set(), [value.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if hasattr(node, "variable"):
            leaves.add(node.variable)
        waiting += [parent for parent, _ in node.next_functions]
    return leaves


def layers_reached(network: Network, value: torch.Tensor) -> set[int]:
    leaves = reached(value)
    owner = {p: k for k in range(network.method.layers) for p in network.layer(k).parameters()}
    assert leaves <= owner.keys()
    return {owner[leaf] for leaf in leaves}
