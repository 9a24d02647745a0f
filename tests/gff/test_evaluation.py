"""Tests of the evaluation of networks."""

import torch
from small_graphs import random_graph, small

from supa_gff import GraphSet, Network, evaluate
from supa_gff.splits.standard import Split
from supa_learning import metrics


def _graphs(labels):
    generator = torch.Generator().manual_seed(0)
    graphs = [random_graph(4, 6, 3, generator) for _ in labels]
    for graph, label in zip(graphs, labels, strict=True):
        graph.y = torch.tensor([label])
    return GraphSet.of(graphs)


def test_majority_class_is_of_the_training_part():
    # Class 0 is the most frequent class in the training part only. In all other parts and in total it is class 1.
    graphs = _graphs([0, 0, 1, 1, 1, 0, 1, 1, 1, 1])
    split = Split("by hand", torch.arange(3), torch.arange(3, 6), torch.arange(6, 10))
    results = evaluate(Network.for_graphs(small("best", "graph"), graphs), graphs, split)
    assert [results[name].majority for name in ("train", "valid", "test")] == [2 / 3, 1 / 3, 0.0]


def test_accuracies_and_confusion_equal_a_plain_loop():
    graphs = _graphs([0, 1, 2, 0, 1, 2, 0, 0])
    split = Split("by hand", torch.arange(4), torch.arange(4, 6), torch.arange(6, 8))
    network = Network.for_graphs(small("best", "graph"), graphs)
    for name, indices in (("train", split.train), ("valid", split.valid), ("test", split.test)):
        result, batch = evaluate(network, graphs, split)[name], graphs.batch(indices)
        scores = network.layer_scores(batch)
        assert list(result.layers) == [metrics.accuracy(layer, batch.target) for layer in scores]
        predicted = network.predict(batch)
        assert result.network == float((predicted == batch.target).double().mean())
        for true in range(3):
            for made in range(3):
                assert result.confusion[true, made] == int(((batch.target == true) & (predicted == made)).sum())
