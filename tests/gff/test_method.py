"""Tests of methods: invalid combinations raise, and valid ones survive a JSON round trip."""

import json
import re

import pytest
from small_graphs import presets

from supa_gff import PRESETS, Method, Network, preset
from supa_gff.goodness import Entmax, TopK
from supa_gff.heads import ClassGroups, Goodness, Head, PairProduct, Prototypes
from supa_gff.label_injection import Embedding, EveryLayer, Gate, NodeFeatures, VirtualNodes
from supa_gff.losses import BinaryCrossEntropy, Softmax, SquaredError, Threshold
from supa_gff.names import METHODS
from supa_gff.negatives import AllNegatives, Hard, Uniform

GOODNESS = {"score": Goodness(), "label": NodeFeatures(), "negatives": AllNegatives()}

BAD = [
    ({"schedule": "greddy"}, "schedule: 'greddy' was given, but it must be 'greedy', 'joint', 'overlapping-pairs'"),
    ({"normalisation": None}, "normalisation: None was given, but it must be 'length', 'batch'"),
    ({"layers_used": "best"}, "layers_used: 'best' was given, but it must be 'all', 'last' or 'chosen'."),
    ({"aggregate": "logits"}, "aggregate: 'logits' was given"),
    ({"hypotheses": "both"}, "hypotheses: 'both' was given, but it must be 'parallel' or 'sequential'."),
    ({"layers": 0}, "layers: 0 was given, but it must be a whole number from 1"),
    ({"hidden_channels": 2.5}, "hidden_channels: 2.5 was given, but it must be a whole number"),
    ({"epochs": True}, "epochs: True was given"),
    ({"patience": 0}, "patience: 0 was given"),
    ({"validate_every": 0}, "validate_every: 0 was given"),
    ({"batch_size": "64"}, "batch_size: '64' was given"),
    ({"lr_step_size": 0}, "lr_step_size: 0 was given"),
    ({"learning_rate": 0.0}, "learning_rate: 0.0 was given, but it must be a number above zero."),
    ({"learning_rate": float("nan")}, "learning_rate: nan was given"),
    ({"weight_decay": -1e-3}, "weight_decay: -0.001 was given, but it must be a number of at least zero."),
    ({"dropout": 1.0}, "dropout: 1.0 was given, but it must be a number from 0 to below 1."),
    ({"residual": "yes"}, "residual: 'yes' was given, but it must be True or False."),
    ({"checkpointing": 1}, "checkpointing: 1 was given, but it must be True or False."),
    ({"conv": None}, "conv: None was given, but it must be a string or a function."),
    ({"score": "head"}, "score: 'head' was given, but it must be Goodness(...), ClassGroups(...), Head(...)"),
    ({"score": Head}, "score: <class 'supa_gff.heads.Head'> was given"),
    ({"loss": "softmax"}, "loss: 'softmax' was given, but it must be Threshold(...), SymBa(...)"),
    ({**GOODNESS, "label": "one-hot"}, "label: 'one-hot' was given, but it must be NodeFeatures(...)"),
    ({**GOODNESS, "negatives": 3}, "negatives: 3 was given, but it must be AllNegatives(...)"),
    ({"score": Goodness()}, "score=Goodness() requires label="),
    ({"label": NodeFeatures()}, "With other scores label must be None"),
    ({"score": ClassGroups(), "label": Gate()}, "With other scores label must be None"),
    ({"score": Prototypes()}, "score=Prototypes() requires label=VirtualNodes()."),
    ({"score": Prototypes(), "label": NodeFeatures()}, "score=Prototypes() requires label=VirtualNodes()."),
    ({"score": Goodness(), "label": NodeFeatures()}, "score=Goodness() requires negatives="),
    ({**GOODNESS, "loss": SquaredError()}, "loss=SquaredError() requires score=Head(...)."),
    ({"loss": SquaredError(), "negatives": AllNegatives()}, "loss=SquaredError() does not use negative labels"),
    ({"score": PairProduct(), "negatives": AllNegatives()}, "the negatives are the pairs that are not linked"),
    ({"loss": SquaredError(), "aggregate": "probabilities"}, "loss=SquaredError() requires aggregate='scores'"),
    ({**GOODNESS, "loss": BinaryCrossEntropy()}, "loss=BinaryCrossEntropy() requires score=Head(...)."),
    ({"loss": BinaryCrossEntropy(), "negatives": AllNegatives()}, "loss=BinaryCrossEntropy() does not use negative"),
    ({"loss": BinaryCrossEntropy(), "aggregate": "probabilities"}, "requires aggregate='scores', since labels are not"),
    ({"class_weights": (1.0, 0.0)}, "class_weights: 0.0 was given, but it must be a number above zero."),
    ({"class_weights": 2.0}, "class_weights: 2.0 was given, but it must be a list, each a number or None."),
    ({"class_weights": (1.0,), "loss": SquaredError()}, "loss=SquaredError() has no classes"),
    ({"class_weights": (1.0,), "score": PairProduct()}, "pairs of nodes, which have no classes"),
    ({"score": ClassGroups(), "train_convolution": False}, "train_convolution=False requires score=Head(...)"),
    ({**GOODNESS, "hypotheses": "sequential"}, "requires another normalisation than 'batch'"),
    (
        {**GOODNESS, "hypotheses": "sequential", "normalisation": "layer", "dropout": 0.1},
        "hypotheses='sequential' computes each hypothesis twice",
    ),
    (
        {**GOODNESS, "hypotheses": "sequential", "normalisation": "layer", "label": VirtualNodes()},
        "label must not be VirtualNodes()",
    ),
    (
        {**GOODNESS, "hypotheses": "sequential", "normalisation": "layer", "schedule": "overlapping-pairs"},
        "hypotheses='sequential' requires score=Goodness() and schedule='greedy' or 'joint'.",
    ),
    ({"hypotheses": "sequential", "normalisation": "layer"}, "hypotheses='sequential' requires score=Goodness()"),
    ({"checkpointing": True}, "checkpointing=True requires schedule='backprop'"),
    ({"collaboration": True, "layers_used": "last"}, "collaboration=True requires layers_used='all' or 'chosen'"),
    ({"schedule": "backprop", "collaboration": True}, "collaboration=True requires local losses"),
]  # fmt: skip


@pytest.mark.parametrize(("parts", "message"), BAD, ids=range(len(BAD)))
def test_invalid_combinations_raise(parts, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        Method(**parts)
    with pytest.raises(ValueError, match=re.escape(message)):
        Method().replace(**parts)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Goodness(pool="max"), "pool must be one of 'mean', 'sum', 'sum+mean', got 'max'."),
        (lambda: Goodness("squares"), "of must be one of SumOfSquares(...), MeanOfSquares(...)"),
        (lambda: Goodness(scale=0), "scale: 0 was given, but it must be a number above zero."),
        (lambda: ClassGroups(pool="max"), "pool must be one of 'mean', 'sum', got 'max'."),
        (lambda: ClassGroups(3), "of must be one of SumOfSquares(...)"),
        (lambda: Head("deep"), "kind must be one of 'linear', 'mlp', 'conv', got 'deep'."),
        (lambda: Head(pool="min"), "pool must be one of 'mean', 'sum', 'max', 'moments', got 'min'."),
        (lambda: Head(dropout=1), "dropout: 1 was given"),
        (lambda: Embedding(0), "embedding_dim: 0 was given"),
        (lambda: Method().replace(depth=3), "'depth' is not a setting of Method; choose from score, loss, label"),
        (lambda: Method.from_dict({"depth": 3}), "'depth' is not a setting of Method; choose from score"),
        (lambda: Method.from_dict({"loss": {"part": "Hinge"}}), "loss: part: 'Hinge' was given, but it must be 'Thr"),
        (lambda: Method.from_dict({"loss": {"part": ["Softmax"]}}), "loss: part: ['Softmax'] was given"),
        (lambda: Method.from_dict({"loss": {}}), "loss: part: None was given"),
        (lambda: Method.from_dict({"loss": {"part": "Softmax", "tau": 1}}), "loss: 'tau' is not a setting of Softmax"),
        (lambda: Method.from_dict({"loss": "Softmax"}), "loss: 'Softmax' was given"),
        (lambda: preset("gf"), "'gf' was given, but a method is one of gff, label-appending"),
        (lambda: preset("gff", "grph"), "level must be one of 'graph', 'node', 'link', got 'grph'."),
        (lambda: preset("gff", "link"), "gff does not support link level"),
        (lambda: Network(Method(conv="gcm"), 3, 2), "conv must be one of gcn"),
        (lambda: Network(Method(), 3, 1), "out_channels must be at least 2"),
        (lambda: Network(Method(), 3, 2, "edge"), "level must be one of"),
        (lambda: Network(Method(), 0, 2), "in_channels: 0 was given"),
        (lambda: Network(Method(class_weights=(1.0, 2.0)), 3, 3), "one weight for each of the 3 classes, got 2."),
        (
            lambda: Network(Method(loss=BinaryCrossEntropy(), class_weights=(1.0,)), 3, 2),
            "one weight for each of the 2 labels, got 1.",
        ),
        (lambda: preset("best", "graph", "ranking"), "target_kind must be one of 'classification', 'regression', 'mul"),
        (lambda: preset("gff", "graph", "regression"), "gff does not support regression targets; choose from cafo"),
        (lambda: preset("best", "link", "multi-label"), "best does not support multi-label targets at link level."),
        (lambda: Network(Method(), 3, 1, "link"), "Level 'link' requires score=PairProduct()"),
        (lambda: Network(Method(score=PairProduct()), 3, 2), "Level 'link' requires score=PairProduct()"),
        (
            lambda: Network(Method(score=Prototypes(), label=VirtualNodes()), 3, 2, "graph"),
            "score=Prototypes() requires level 'node'",
        ),
        (lambda: Network(Method(conv="pna"), 3, 2), "PNA requires deg="),
        (lambda: Network(Method(conv="gat", hidden_channels=6), 3, 2), "must be a multiple of 4 for gat, got 6"),
    ],
)  # fmt: skip
def test_invalid_names_and_parts_raise(make, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        make()


@pytest.mark.parametrize(("name", "level"), presets())
def test_presets_survive_json_round_trip(name, level):
    method = preset(name, level)
    assert Method.from_dict(json.loads(json.dumps(method.to_dict()))) == method


@pytest.mark.parametrize(
    "parts",
    [
        {"score": Goodness(TopK(3), "sum", 2.0, True), "label": Embedding(7), "negatives": Hard(2)},
        {"score": Goodness(Entmax()), "label": VirtualNodes(positive_features=False), "negatives": Uniform(3, False)},
        {"score": Goodness(), "label": EveryLayer(), "negatives": AllNegatives(redraw=False), "loss": Threshold(1.0)},
        {"score": Head("conv", "mean", 0.2), "loss": SquaredError(), "lr_step_size": None},
        {"score": PairProduct(squared=True), "loss": Softmax(0.5)},
        {"loss": BinaryCrossEntropy(), "class_weights": (1.0, 2.5)},
    ],
)
def test_parts_survive_json_round_trip(parts):
    method = Method(**parts)
    assert Method.from_dict(json.loads(json.dumps(method.to_dict()))) == method


def test_convolution_function_is_serialised_as_custom():
    written = Method(conv=lambda a, b: None).to_dict()
    assert written["conv"] == "custom"
    json.dumps(written)
    with pytest.raises(ValueError, match=r"conv must be one of .*, got 'custom'"):
        Network(Method.from_dict(written), 3, 2)


def test_names_match_presets():
    assert {(name, level) for name, levels in METHODS.items() for level in levels} == {*presets()}
    with pytest.raises(ValueError, match=r"one of gff, .*\. Did you mean 'backprop'\?"):
        preset("backpropp")


def test_every_preset_supports_a_level():
    assert {name for name, _ in presets()} == set(PRESETS)
