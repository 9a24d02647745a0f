"""Graph networks trained layer by layer with forward passes only, beside backpropagation (arXiv 2302.05282)."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from supa_gff.goodness import Entmax, MeanActivation, MeanOfSquares, SumOfSquares, TopK
    from supa_gff.graphs import Batch, Graphs
    from supa_gff.labels import Embedding, EveryLayer, Gate, NodeFeatures, VirtualNodes
    from supa_gff.links import LinkSplit, split_links
    from supa_gff.losses import Softmax, SquaredError, SymBa, Threshold
    from supa_gff.method import Method
    from supa_gff.negatives import AllWrong, Hard, Uniform
    from supa_gff.network import Network, Step
    from supa_gff.presets import PRESETS, preset
    from supa_gff.scores import ClassGroups, Goodness, Head, PairProduct, Prototypes
    from supa_gff.topdown import TopDownNetwork
    from supa_gff.training import Epoch, Pairs, Trainer

_MODULES = {
    "goodness": ("Entmax", "MeanActivation", "MeanOfSquares", "SumOfSquares", "TopK"),
    "graphs": ("Batch", "Graphs"),
    "labels": ("Embedding", "EveryLayer", "Gate", "NodeFeatures", "VirtualNodes"),
    "links": ("LinkSplit", "split_links"),
    "losses": ("Softmax", "SquaredError", "SymBa", "Threshold"),
    "method": ("Method",),
    "negatives": ("AllWrong", "Hard", "Uniform"),
    "network": ("Network", "Step"),
    "presets": ("PRESETS", "preset"),
    "scores": ("ClassGroups", "Goodness", "Head", "PairProduct", "Prototypes"),
    "topdown": ("TopDownNetwork",),
    "training": ("Epoch", "Pairs", "Trainer"),
}

__all__ = [
    "PRESETS",
    "AllWrong",
    "Batch",
    "ClassGroups",
    "Embedding",
    "Entmax",
    "Epoch",
    "EveryLayer",
    "Gate",
    "Goodness",
    "Graphs",
    "Hard",
    "Head",
    "LinkSplit",
    "MeanActivation",
    "MeanOfSquares",
    "Method",
    "Network",
    "NodeFeatures",
    "PairProduct",
    "Pairs",
    "Prototypes",
    "Softmax",
    "SquaredError",
    "Step",
    "SumOfSquares",
    "SymBa",
    "Threshold",
    "TopDownNetwork",
    "TopK",
    "Trainer",
    "Uniform",
    "VirtualNodes",
    "preset",
    "split_links",
]


def __getattr__(name: str) -> Any:
    # PyTorch loads in seconds: what needs it is looked up when it is asked for.
    for module, names in _MODULES.items():
        if name in names:
            return getattr(importlib.import_module(f"supa_gff.{module}"), name)
    raise AttributeError(f"module 'supa_gff' has no attribute {name!r}")
