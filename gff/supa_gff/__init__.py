"""Graph networks trained layer by layer with forward passes only, beside backpropagation (arXiv 2302.05282)."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from supa_gff.baselines import BASELINES, run_baseline
    from supa_gff.checkpoint import Checkpoint
    from supa_gff.folds import Fold, stratified_folds
    from supa_gff.goodness import Entmax, MeanActivation, MeanOfSquares, SumOfSquares, TopK
    from supa_gff.graphs import Batch, Graphs
    from supa_gff.labels import Embedding, EveryLayer, Gate, NodeFeatures, VirtualNodes
    from supa_gff.links import LinkSplit, split_links
    from supa_gff.losses import Softmax, SquaredError, SymBa, Threshold
    from supa_gff.method import Method
    from supa_gff.negatives import AllWrong, Hard, Uniform
    from supa_gff.network import Network
    from supa_gff.performance import Performance, performances
    from supa_gff.presets import PRESETS, preset
    from supa_gff.scores import ClassGroups, Goodness, Head, PairProduct, Prototypes
    from supa_gff.showers import SHOWER_TASKS, ShowerGraphs, shower_graphs
    from supa_gff.splits import Split, standard_split
    from supa_gff.streams import Step
    from supa_gff.topdown import TopDownNetwork
    from supa_gff.training import Epoch, Pairs, Trainer

_MODULES = {
    "baselines": (
        "BASELINES",
        "run_baseline",
    ),
    "checkpoint": ("Checkpoint",),
    "folds": (
        "Fold",
        "stratified_folds",
    ),
    "goodness": ("Entmax", "MeanActivation", "MeanOfSquares", "SumOfSquares", "TopK"),
    "graphs": ("Batch", "Graphs"),
    "labels": ("Embedding", "EveryLayer", "Gate", "NodeFeatures", "VirtualNodes"),
    "links": ("LinkSplit", "split_links"),
    "losses": ("Softmax", "SquaredError", "SymBa", "Threshold"),
    "method": ("Method",),
    "negatives": ("AllWrong", "Hard", "Uniform"),
    "network": ("Network",),
    "streams": ("Step",),
    "performance": (
        "Performance",
        "performances",
    ),
    "presets": ("PRESETS", "preset"),
    "scores": ("ClassGroups", "Goodness", "Head", "PairProduct", "Prototypes"),
    "showers": (
        "SHOWER_TASKS",
        "ShowerGraphs",
        "shower_graphs",
    ),
    "splits": (
        "Split",
        "standard_split",
    ),
    "topdown": ("TopDownNetwork",),
    "training": ("Epoch", "Pairs", "Trainer"),
}

__all__ = [
    "BASELINES",
    "PRESETS",
    "SHOWER_TASKS",
    "AllWrong",
    "Batch",
    "Checkpoint",
    "ClassGroups",
    "Embedding",
    "Entmax",
    "Epoch",
    "EveryLayer",
    "Fold",
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
    "Performance",
    "Prototypes",
    "ShowerGraphs",
    "Softmax",
    "Split",
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
    "performances",
    "preset",
    "run_baseline",
    "shower_graphs",
    "split_links",
    "standard_split",
    "stratified_folds",
]


def __getattr__(name: str) -> Any:
    # PyTorch loads in seconds: what needs it is looked up when it is asked for.
    for module, names in _MODULES.items():
        if name in names:
            return getattr(importlib.import_module(f"supa_gff.{module}"), name)
    raise AttributeError(f"module 'supa_gff' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
