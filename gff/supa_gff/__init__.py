"""Graph networks trained layer by layer with forward passes only, beside backpropagation (arXiv 2302.05282).

The parts of a `Method` are in namespaces of their own: ``supa_gff.losses``, ``goodness``, ``heads``,
``label_injection``, ``negatives``.
"""

import importlib
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from supa_gff import goodness, heads, label_injection, losses, negatives
    from supa_gff.baselines import BASELINES, run_baseline
    from supa_gff.checkpoint import Checkpoint
    from supa_gff.data import Batch, GraphSet
    from supa_gff.evaluation import Evaluation, evaluate
    from supa_gff.method import Method
    from supa_gff.networks.network import Network
    from supa_gff.presets import PRESETS, preset
    from supa_gff.showers import SHOWER_TASKS, ShowerGraphs, shower_graphs
    from supa_gff.splits.folds import Fold, stratified_folds
    from supa_gff.splits.links import LinkSplit, split_links
    from supa_gff.splits.standard import Split, standard_split
    from supa_gff.training.data import Pairs
    from supa_gff.training.tasks import train, training_task
    from supa_gff.updates.factory import update_rule
    from supa_gff.updates.loss_stats import LayerStats

_MODULES = {
    "baselines": ("BASELINES", "run_baseline"),
    "checkpoint": ("Checkpoint",),
    "data": ("Batch", "GraphSet"),
    "method": ("Method",),
    "networks.network": ("Network",),
    "evaluation": ("Evaluation", "evaluate"),
    "presets": ("PRESETS", "preset"),
    "showers": ("SHOWER_TASKS", "ShowerGraphs", "shower_graphs"),
    "splits.folds": ("Fold", "stratified_folds"),
    "splits.links": ("LinkSplit", "split_links"),
    "splits.standard": ("Split", "standard_split"),
    "training.data": ("Pairs",),
    "training.tasks": ("train", "training_task"),
    "updates.factory": ("update_rule",),
    "updates.loss_stats": ("LayerStats",),
}

__all__ = [
    "BASELINES",
    "PRESETS",
    "SHOWER_TASKS",
    "Batch",
    "Checkpoint",
    "Evaluation",
    "Fold",
    "GraphSet",
    "LayerStats",
    "LinkSplit",
    "Method",
    "Network",
    "Pairs",
    "ShowerGraphs",
    "Split",
    "evaluate",
    "goodness",
    "heads",
    "label_injection",
    "losses",
    "negatives",
    "preset",
    "run_baseline",
    "shower_graphs",
    "split_links",
    "standard_split",
    "stratified_folds",
    "train",
    "training_task",
    "update_rule",
]


def __getattr__(name: str) -> Any:
    # PyTorch takes seconds to load: a module that needs it is imported on first use.
    for module, names in _MODULES.items():
        if name in names:
            return getattr(importlib.import_module(f"supa_gff.{module}"), name)
    if not name.startswith("_") and find_spec(f"supa_gff.{name}"):
        return importlib.import_module(f"supa_gff.{name}")
    raise AttributeError(f"module 'supa_gff' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
