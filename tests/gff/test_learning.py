"""Tests that all presets and other parts learn small synthetic tasks well above chance."""

import pytest
import torch
from small_graphs import make_trainer, pairs, presets, small, triangles_or_trees, two_communities

from supa_gff import GraphSet, Network
from supa_gff.goodness import Entmax, MeanOfSquares, TopK
from supa_gff.heads import Goodness, Head, PairProduct
from supa_gff.label_injection import Embedding, EveryLayer, NodeFeatures, VirtualNodes
from supa_gff.losses import SymBa
from supa_gff.negatives import AllNegatives, Hard
from supa_learning import metrics

QUICK = {
    "graph": {"epochs": 12, "learning_rate": 5e-3, "layers": 2, "hidden_channels": 32, "batch_size": 16},
    "node": {"epochs": 60, "learning_rate": 1e-2, "layers": 2, "hidden_channels": 32, "validate_every": 4},
    "link": {"epochs": 60, "learning_rate": 1e-2, "layers": 2, "hidden_channels": 32, "validate_every": 4},
}


def learned(name: str, level: str, **changes: object) -> float:
    """Train a network and return its metric on test data."""
    method = small(name, level, **{**QUICK[level], **changes})
    torch.manual_seed(0)
    if level == "link":
        made = pairs()
        network = Network(method, 8, 1, "link")
        make_trainer(network, made).run()
        # The validation pairs only select the epoch. They are not edges of the training graph.
        return metrics.roc_auc(network.predict(made.valid), made.valid.target)
    graphs = GraphSet.of(triangles_or_trees(120) if level == "graph" else [two_communities()], level=level)
    order = torch.randperm(graphs.num_items, generator=torch.Generator().manual_seed(0))
    parts = order[: len(order) // 2], order[len(order) // 2 : -len(order) // 4], order[-len(order) // 4 :]
    network = Network.for_graphs(method, graphs)
    make_trainer(network, graphs, parts[0], parts[1]).run()
    test = graphs.batch(parts[2], parts[0])
    return metrics.accuracy(network(test), test.target)


@pytest.mark.parametrize(("name", "level"), presets())
def test_presets_learn_synthetic_tasks(name, level):
    assert learned(name, level) > 0.8


@pytest.mark.parametrize(
    ("name", "level", "changes"),
    [
        ("best", "graph", {"schedule": "overlapping-pairs"}),
        ("best", "graph", {"collaboration": True}),
        ("best", "graph", {"negatives": Hard(), "score": Head("conv")}),
        ("best", "graph", {"conv": "pna"}),
        ("symba", "graph", {"label": EveryLayer(), "score": Goodness(TopK(4)), "negatives": Hard()}),
        ("symba", "graph", {"label": Embedding(), "score": Goodness(Entmax())}),
        ("symba", "graph", {"label": NodeFeatures(), "hypotheses": "sequential", "normalisation": "graph"}),
        ("symba", "graph", {"label": VirtualNodes(), "normalisation": "layer"}),
        ("symba", "node", {"label": EveryLayer(), "negatives": Hard()}),
        ("virtual-nodes", "node", {"conv": "sage", "score": Goodness(MeanOfSquares()), "loss": SymBa()}),
        ("gff", "node", {"conv": "gat", "negatives": AllNegatives()}),
        ("link-goodness", "link", {"score": PairProduct(), "conv": "sage"}),
    ],
)
def test_other_parts_learn_synthetic_tasks(name, level, changes):
    assert learned(name, level, **changes) > 0.75
