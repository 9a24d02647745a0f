"""Names of methods, convolutions and kinds of targets, in a module that does not import PyTorch."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal

from supa.checks import check_name

METHODS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "gff": ("graph", "node"),
        "label-appending": ("node",),
        "virtual-nodes": ("node",),
        "single-forward": ("node",),
        "top-to-input": ("node",),
        "top-to-loss": ("node",),
        "link-goodness": ("link",),
        "link-cross-entropy": ("link",),
        "symba": ("graph", "node", "link"),
        "cafo": ("graph", "node"),
        "mono-forward": ("graph", "node"),
        "deeper-forward": ("graph", "node"),
        "best": ("graph", "node", "link"),
        "best-goodness": ("graph",),
        "overlapping-pairs": ("graph",),
        "backprop": ("graph", "node", "link"),
        "backprop-linear": ("graph",),
        "backprop-accumulation": ("graph",),
        "backprop-checkpointing": ("graph",),
        "deep-supervision": ("graph",),
    }
)
"""Levels of each method, by the name of the method."""

CONVOLUTIONS = ("gcn", "gin", "sage", "gat", "gatv2", "graph", "pna", "transformer")
"""Names of the convolutions. GAT, GATv2 and Transformer have four attention heads."""

EDGE_CONVOLUTIONS = ("gin", "gatv2", "pna", "transformer")
"""Names of the convolutions that can use the features of edges. GIN then becomes GINE (arXiv 1905.12265)."""

TargetKind = Literal["classification", "regression", "multi-label"]
"""What the targets are: one class of each unit, one or several numbers, or several labels that apply or do not."""


def check_method(name: str, level: str) -> None:
    """Check that a method exists and supports a level.

    Args:
        name: Name of the method.
        level: ``"graph"``, ``"node"`` or ``"link"``.

    Raises:
        ValueError: If the method does not exist or does not support the level.
    """
    check_name(METHODS, "a method", name)
    if level not in METHODS[name]:
        fitting = ", ".join(method for method, levels in METHODS.items() if level in levels)
        raise ValueError(f"{name} does not support {level} level; choose from {fitting}.")
