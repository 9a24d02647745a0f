"""Presets: training methods by name."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import get_args

from supa_gff.batch import Level
from supa_gff.checks import one_of
from supa_gff.goodness import MeanActivation, MeanOfSquares, SumOfSquares
from supa_gff.heads import ClassGroups, Goodness, Head, PairProduct, Prototypes
from supa_gff.label_injection import Gate, NodeFeatures, VirtualNodes
from supa_gff.losses import BinaryCrossEntropy, Softmax, SquaredError, SymBa, Threshold
from supa_gff.method import Method
from supa_gff.names import METHODS, TargetKind, check_method
from supa_gff.negatives import AllNegatives, Uniform

_GRAPH_HEAD = Head("mlp", pool="moments", dropout=0.5)
"""Head of the tuned methods at graph level."""


def preset(name: str, level: Level = "graph", target_kind: TargetKind = "classification") -> Method:
    """Return a training method by name.

    Args:
        name: Name of the method, one of ``PRESETS``.
        level: What is predicted: ``"graph"``, ``"node"`` or ``"link"``. Architecture and number of epochs depend on it.
        target_kind: Kind of the targets, ``GraphSet.target_kind``. Methods with heads support regression, with the loss
            `SquaredError`, and multi-label targets, with `BinaryCrossEntropy`.

    Returns:
        The method. Use `Method.replace` to change its settings.

    Raises:
        ValueError: If the method does not exist, or does not support the level or the kind of targets.

    Example:
        >>> from supa_gff import preset
        >>> method = preset("gff", level="graph")
        >>> method.schedule, method.layers, method.loss
        ('greedy', 5, Threshold(theta=2.0))
        >>> method.replace(layers=3).layers
        3
    """
    one_of(get_args(Level), "level", level)
    one_of(get_args(TargetKind), "target_kind", target_kind)
    check_method(name, level)
    method = _MAKERS[name](level)
    if target_kind == "classification":
        return method
    if not isinstance(method.score, Head):
        fitting = [
            other for other in METHODS if level in METHODS[other] and isinstance(_MAKERS[other](level).score, Head)
        ]
        choose = f"; choose from {', '.join(fitting)}, which have heads" if fitting else " at link level"
        raise ValueError(f"{name} does not support {target_kind} targets{choose}.")
    return method.replace(loss=SquaredError() if target_kind == "regression" else BinaryCrossEntropy())


def _graph(**parts: object) -> Method:
    """Return a method with five GIN layers of 64 channels, as usual in graph classification (arXiv 1810.00826)."""
    settings: dict[str, object] = {"layers": 5, "hidden_channels": 64, "conv": "gin", "epochs": 60, "patience": 60}
    return Method().replace(**{**settings, **parts})


def _tuned_graph(**parts: object) -> Method:
    """Return a method that trains as long as in the comparison with backpropagation (see docs/explanation/gff.md)."""
    return _graph(**{"epochs": 120, "patience": 120, "lr_step_size": 60, **parts})


def _node(**parts: object) -> Method:
    """Return a method with the settings of ForwardGNN's scripts (arXiv 2403.11004)."""
    settings: dict[str, object] = {
        "layers": 2, "hidden_channels": 128, "conv": "gcn", "normalisation": "length", "learning_rate": 1e-3,
        "weight_decay": 5e-4, "lr_step_size": None, "epochs": 1000, "patience": 100, "validate_every": 2,
        "schedule": "greedy",
    }  # fmt: skip
    return Method().replace(**{**settings, **parts})


def _tuned_node(**parts: object) -> Method:
    """Return a method for graphs with few labelled nodes (see docs/explanation/gff_nodes.md)."""
    settings: dict[str, object] = {
        "hidden_channels": 64, "normalisation": "none", "dropout": 0.5, "learning_rate": 1e-2, "epochs": 200,
        "patience": 200, "validate_every": 1,
    }  # fmt: skip
    return _node(**{**settings, **parts})


def _gff(level: Level) -> Method:
    parts = {
        "score": Goodness(SumOfSquares(), pool="mean"),
        "loss": Threshold(2.0),
        "label": NodeFeatures(),
        "negatives": Uniform(1),
        "schedule": "greedy",
        "normalisation": "length",
        "layers_used": "all",
    }
    return _graph(**{**parts, "conv": "gcn"}) if level == "graph" else _node(**parts)


def _label_appending(_level: Level) -> Method:
    return _node(
        score=Goodness(SumOfSquares()), loss=Threshold(2.0), label=NodeFeatures(), negatives=AllNegatives(redraw=False)
    )


def _virtual_nodes(_level: Level) -> Method:
    return _node(
        score=Goodness(SumOfSquares()), loss=Threshold(2.0), label=VirtualNodes(), negatives=AllNegatives(redraw=False)
    )


def _single_forward(_level: Level) -> Method:
    return _node(score=Prototypes(), loss=Softmax(), label=VirtualNodes(), aggregate="probabilities")


def _top_to_input(level: Level) -> Method:
    return _single_forward(level).replace(top_down="input", schedule="joint")


def _top_to_loss(level: Level) -> Method:
    return _single_forward(level).replace(top_down="loss", schedule="joint")


def _link_goodness(_level: Level) -> Method:
    return _node(score=PairProduct(squared=True), loss=Threshold(2.0), aggregate="probabilities")


def _link_cross_entropy(_level: Level) -> Method:
    # ForwardGNN averages the loss over linked and other pairs together, which halves the loss relative to weight decay.
    return _node(score=PairProduct(), loss=Threshold(0.0), aggregate="probabilities", weight_decay=1e-3)


def _symba(level: Level) -> Method:
    if level == "link":
        return _node(score=PairProduct(squared=True), loss=SymBa(), aggregate="probabilities")
    parts = {"score": Goodness(MeanOfSquares()), "loss": SymBa(4.0), "label": NodeFeatures()}
    if level == "graph":
        return _graph(**parts, negatives=Uniform(1))
    return _node(**parts, negatives=AllNegatives())


def _cafo(level: Level) -> Method:
    parts = {"score": Head("linear"), "train_convolution": False, "schedule": "greedy"}
    return _graph(**parts) if level == "graph" else _node(**parts)


def _mono_forward(level: Level) -> Method:
    return _graph(score=Head("linear")) if level == "graph" else _node(score=Head("linear"), schedule="joint")


def _deeper_forward(level: Level) -> Method:
    parts = {
        "score": ClassGroups(MeanActivation()), "normalisation": "layer", "residual": True, "layers_used": "chosen",
        "schedule": "joint",
    }  # fmt: skip
    return _graph(**parts) if level == "graph" else _node(**parts)


def _best(level: Level) -> Method:
    if level == "link":
        return _link_cross_entropy(level)
    if level == "graph":
        return _tuned_graph(score=_GRAPH_HEAD)
    return _tuned_node(score=Head("conv", dropout=0.5), schedule="joint", layers_used="chosen")


def _overlapping_pairs(_level: Level) -> Method:
    return _tuned_graph(score=_GRAPH_HEAD, schedule="overlapping-pairs")


def _best_goodness(_level: Level) -> Method:
    return _tuned_graph(
        score=Goodness(MeanActivation(), pool="sum+mean", scale=4.0, learned_scale=True),
        loss=Softmax(),
        label=Gate(),
        negatives=AllNegatives(),
    )


def _backprop(level: Level) -> Method:
    if level == "link":
        return _node(
            score=PairProduct(), loss=Threshold(0.0), schedule="backprop", layers_used="last", weight_decay=1e-3
        )
    if level == "graph":
        return _tuned_graph(score=_GRAPH_HEAD, schedule="backprop")
    return _tuned_node(score=Head("linear", dropout=0.5), schedule="backprop")


def _deep_supervision(level: Level) -> Method:
    return _backprop(level).replace(schedule="deep-supervision")


def _backprop_accumulation(level: Level) -> Method:
    return _backprop(level).replace(accumulation=4)


def _backprop_checkpointing(level: Level) -> Method:
    return _backprop(level).replace(checkpointing=True)


def _backprop_linear(_level: Level) -> Method:
    return _tuned_graph(score=Head("linear", dropout=0.5), schedule="backprop")


_MAKERS: Mapping[str, Callable[[Level], Method]] = {
    "gff": _gff,
    "label-appending": _label_appending,
    "virtual-nodes": _virtual_nodes,
    "single-forward": _single_forward,
    "top-to-input": _top_to_input,
    "top-to-loss": _top_to_loss,
    "link-goodness": _link_goodness,
    "link-cross-entropy": _link_cross_entropy,
    "symba": _symba,
    "cafo": _cafo,
    "mono-forward": _mono_forward,
    "deeper-forward": _deeper_forward,
    "best": _best,
    "best-goodness": _best_goodness,
    "overlapping-pairs": _overlapping_pairs,
    "backprop": _backprop,
    "backprop-linear": _backprop_linear,
    "backprop-accumulation": _backprop_accumulation,
    "backprop-checkpointing": _backprop_checkpointing,
    "deep-supervision": _deep_supervision,
}


def _of_level(name: str) -> Callable[[Level], Method | None]:
    return lambda level: _MAKERS[name](level) if level in METHODS[name] else None


PRESETS: Mapping[str, Callable[[Level], Method | None]] = MappingProxyType({name: _of_level(name) for name in METHODS})
"""Functions that return the method for a level, by name. They return None if the method does not support the level."""
