"""Tests at link level: splits, unlinked pairs, aggregation and learning."""

import pytest
from small_graphs import make_trainer

from supa_gff import GraphSet, Network, Pairs, preset, split_links
from supa_learning import metrics

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
pytest.importorskip("torch_geometric", reason="PyTorch Geometric is not installed")


def graph(nodes: int = 80, edges: int = 300, seed: int = 0) -> GraphSet:
    """Return a graph of four communities with links inside communities, self-loops and repeated edges."""
    from torch_geometric.data import Data

    random = torch.Generator().manual_seed(seed)
    ends = torch.randint(nodes // 4, (2, edges), generator=random) * 4 + torch.randint(4, (edges,), generator=random)
    x = torch.rand((nodes, 6), generator=random)
    x[torch.arange(nodes), torch.arange(nodes) % 4] += 1
    both = torch.cat([ends, ends.flip(0)], 1) if edges else ends
    return GraphSet.of(
        [Data(x=x, edge_index=both, y=torch.zeros(nodes, dtype=torch.int64))], level="node", num_outputs=2
    )


def pairs_of(index) -> list[tuple[int, int]]:
    return [(min(u, v), max(u, v)) for u, v in index.t().tolist()]


def test_messages_never_pass_along_predicted_links():
    graphs = graph()
    split = split_links(graphs, seed=3)
    links = {pair for pair in pairs_of(graphs.edge_index) if pair[0] != pair[1]}
    parts = {}
    for name in ("train", "valid", "test"):
        batch = getattr(split, name)
        linked = pairs_of(batch.units[:, batch.target == 1])
        others = pairs_of(batch.units[:, batch.target == 0])
        assert len(linked) == len(set(linked)) == len(others) == len(set(others))
        assert set(linked) <= links
        assert not set(others) & links
        assert all(u != v for u, v in others)
        parts[name] = (set(linked), set(others))
    train, valid, test = (parts[name][0] for name in ("train", "valid", "test"))
    assert train | valid | test == links
    assert (len(valid), len(test)) == (int(0.16 * len(links)), int(0.2 * len(links)))
    assert len(train) + len(valid) + len(test) == len(links)
    assert sum(len(others) for _, others in parts.values()) == len(
        set().union(*(others for _, others in parts.values()))
    )
    for batch, known in ((split.train, train), (split.valid, train), (split.test, train | valid)):
        assert set(pairs_of(batch.edge_index)) == known
        assert batch.edge_index.shape[1] == 2 * len(known)


def test_split_is_determined_by_seed():
    one, same, other = (split_links(graph(), seed=seed).test.units for seed in (1, 1, 2))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"graphs": graph(edges=0)}, "0 links"),
        ({"valid": 0.5, "test": 0.6}, "choose other fractions"),
        ({"graphs": graph(nodes=4, edges=200)}, "as many unlinked pairs|0 links|choose other fractions"),
        ({"valid": 1.5}, "between 0 and 1"),
    ],
)
def test_invalid_splits_raise(change, message):
    with pytest.raises(ValueError, match=message):
        split_links(**{"graphs": graph(), **change})


def test_several_graphs_raise():
    from torch_geometric.data import Data

    one = Data(x=torch.ones(3, 2), edge_index=torch.tensor([[0, 1], [1, 2]]), y=torch.tensor([0]))
    with pytest.raises(ValueError, match="2 graphs"):
        split_links(GraphSet.of([one, one], num_outputs=2))


@pytest.mark.parametrize("name", ["link-cross-entropy", "link-goodness", "symba", "backprop", "best"])
def test_links_are_learned(name):
    graphs = graph()
    split = split_links(graphs)
    torch.manual_seed(0)
    method = preset(name, "link").replace(hidden_channels=32, epochs=150, learning_rate=1e-2)
    network = Network(method, graphs.num_features, 1, "link")
    make_trainer(network, Pairs(split.train, split.valid)).run()
    assert metrics.roc_auc(network.predict(split.test), split.test.target) > 0.7


def test_layers_are_aggregated_by_sum_of_probabilities():
    """The published rule: sigmoid of the score minus the threshold of the loss."""
    scores = torch.tensor([[[0.5], [3.0], [-1.0]], [[2.0], [0.1], [4.0]]])
    for name, theta in (("link-cross-entropy", 0.0), ("link-goodness", 2.0), ("symba", 0.0)):
        network = Network(preset(name, "link"), 4, 1, "link")
        expected = sum(1 / (1 + (theta - layer).exp()) for layer in scores)
        assert torch.allclose(network.aggregate(scores), expected)


def test_link_loss_is_twice_the_binary_cross_entropy():
    """The weight decay of the preset is twice that of ForwardGNN, which makes the steps of Adam equal."""
    method = preset("link-cross-entropy", "link")
    true, wrong = torch.randn(7), torch.randn(7, 1)
    scores, target = torch.cat([true, wrong[:, 0]]), torch.cat([torch.ones(7), torch.zeros(7)])
    twice = 2 * torch.nn.functional.binary_cross_entropy_with_logits(scores, target)
    assert torch.allclose(method.loss(true, wrong), twice)
    assert method.weight_decay == 2 * preset("single-forward", "node").weight_decay
