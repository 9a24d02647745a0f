"""Methods: what does not go together is refused, all else survives JSON."""

import json
import re

import pytest
from small_graphs import presets

from supa_gff import PRESETS, Method, Network, preset
from supa_gff.goodness import Entmax, TopK
from supa_gff.heads import ClassGroups, Goodness, Head, PairProduct, Prototypes
from supa_gff.label_injection import Embedding, EveryLayer, Gate, NodeFeatures, VirtualNodes
from supa_gff.losses import Softmax, SquaredError, Threshold
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
    ({"score": Goodness()}, "A Goodness scores hypotheses about the label and needs label="),
    ({"label": NodeFeatures()}, "do not, so label= must be None"),
    ({"score": ClassGroups(), "label": Gate()}, "so label= must be None"),
    ({"score": Prototypes()}, "Prototypes are the classes' virtual nodes: give label=VirtualNodes() with them."),
    ({"score": Prototypes(), "label": NodeFeatures()}, "Prototypes are the classes' virtual nodes"),
    ({"score": Goodness(), "label": NodeFeatures()}, "A Goodness compares with negative labels"),
    ({**GOODNESS, "loss": SquaredError()}, "Values are predicted by heads: with SquaredError(), give score=Head(...)."),
    ({"loss": SquaredError(), "negatives": AllNegatives()}, "SquaredError() has no negative labels"),
    ({"score": PairProduct(), "negatives": AllNegatives()}, "Pairs bring their own negatives"),
    ({"loss": SquaredError(), "aggregate": "probabilities"}, "Values have no probabilities"),
    ({"score": ClassGroups(), "train_convolution": False}, "With train_convolution=False only heads are trained"),
    ({**GOODNESS, "hypotheses": "sequential"}, "Batch normalisation of one hypothesis at a time removes"),
    (
        {**GOODNESS, "hypotheses": "sequential", "normalisation": "layer", "dropout": 0.1},
        "Sequential hypotheses are computed twice, with the same result: dropout= must be 0",
    ),
    (
        {**GOODNESS, "hypotheses": "sequential", "normalisation": "layer", "label": VirtualNodes()},
        "Sequential hypotheses are computed twice",
    ),
    (
        {**GOODNESS, "hypotheses": "sequential", "normalisation": "layer", "schedule": "overlapping-pairs"},
        "hypotheses='sequential' is for a Goodness and schedule='greedy' or 'joint'.",
    ),
    ({"hypotheses": "sequential", "normalisation": "layer"}, "hypotheses='sequential' is for a Goodness"),
    ({"checkpointing": True}, "checkpointing= is for schedule='backprop'"),
    ({"collaboration": True, "layers_used": "last"}, "scores of a layer are an addition to those below"),
    ({"schedule": "backprop", "collaboration": True}, "collaboration= is for local losses"),
]  # fmt: skip


@pytest.mark.parametrize(("parts", "message"), BAD, ids=range(len(BAD)))
def test_what_does_not_go_together_is_refused(parts, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        Method(**parts)
    with pytest.raises(ValueError, match=re.escape(message)):
        Method().replace(**parts)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Goodness(pool="max"), "pool: 'max' was given, but it is one of 'mean', 'sum'."),
        (lambda: Goodness("squares"), "of: 'squares' was given, but it is one of SumOfSquares(...), MeanOfSquares"),
        (lambda: Goodness(scale=0), "scale: 0 was given, but it must be a number above zero."),
        (lambda: ClassGroups(pool="max"), "pool: 'max' was given"),
        (lambda: ClassGroups(3), "of: 3 was given"),
        (lambda: Head("deep"), "kind: 'deep' was given, but it is one of 'linear', 'mlp', 'conv'."),
        (lambda: Head(pool="max"), "pool: 'max' was given"),
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
        (lambda: preset("gff", "grph"), "level: 'grph' was given, but it is one of 'graph', 'node', 'link'."),
        (lambda: preset("gff", "link"), "gff is not for link level"),
        (lambda: Network(Method(conv="gcm"), 3, 2), "'gcm' was given, but a convolution is one of gcn"),
        (lambda: Network(Method(), 3, 1), "There is only one class, so there is nothing to learn"),
        (lambda: Network(Method(), 3, 2, "edge"), "level: 'edge' was given"),
        (lambda: Network(Method(), 0, 2), "in_channels: 0 was given"),
        (lambda: Network(Method(loss=SquaredError()), 3, 2), "SquaredError() predicts one value, but 2 outputs were"),
        (lambda: Network(Method(), 3, 1, "link"), "score=PairProduct() is for level 'link'"),
        (lambda: Network(Method(score=PairProduct()), 3, 2), "score=PairProduct() is for level 'link'"),
        (
            lambda: Network(Method(score=Prototypes(), label=VirtualNodes()), 3, 2, "graph"),
            "Prototypes are for node level",
        ),
        (lambda: Network(Method(conv="pna"), 3, 2), "PNA needs deg="),
        (lambda: Network(Method(conv="gat", hidden_channels=6), 3, 2), "hidden_channels is 6, but"),
    ],
)  # fmt: skip
def test_bad_names_and_parts_get_one_clear_error(make, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        make()


@pytest.mark.parametrize(("name", "level"), presets())
def test_presets_survive_json(name, level):
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
    ],
)
def test_any_parts_survive_json(parts):
    method = Method(**parts)
    assert Method.from_dict(json.loads(json.dumps(method.to_dict()))) == method


def test_a_function_as_convolution_is_written_as_custom():
    written = Method(conv=lambda a, b: None).to_dict()
    assert written["conv"] == "custom"
    json.dumps(written)
    with pytest.raises(ValueError, match="'custom' was given, but a convolution is one of"):
        Network(Method.from_dict(written), 3, 2)


def test_the_names_are_known_without_their_parts():
    assert {(name, level) for name, levels in METHODS.items() for level in levels} == {*presets()}
    with pytest.raises(ValueError, match=r"one of gff, .*\. Did you mean 'backprop'\?"):
        preset("backpropp")


def test_every_preset_has_a_level():
    assert {name for name, _ in presets()} == set(PRESETS)
