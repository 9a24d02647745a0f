"""Names of methods and convolutions, which can be checked without loading PyTorch."""

from collections.abc import Mapping
from types import MappingProxyType

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
    }
)
"""The methods and the levels of each."""

CONVOLUTIONS = ("gcn", "gin", "sage", "gat", "gatv2", "graph", "pna", "transformer")
"""The convolutions with a name; GAT, GATv2 and Transformer have four heads."""


def check_method(name: str, level: str) -> None:
    """Check the name of a method.

    Args:
        name: the name.
        level: ``"graph"``, ``"node"`` or ``"link"``.

    Raises:
        ValueError: there is no such method, or it is not for this level.
    """
    check_name(METHODS, "a method", name)
    if level not in METHODS[name]:
        fitting = ", ".join(method for method, levels in METHODS.items() if level in levels)
        raise ValueError(f"{name} is not for {level} level; choose from {fitting}.")
