"""Tests of networks that are trained together: each must equal a single training."""

import copy
import dataclasses

import pytest
import torch
from small_graphs import triangles_or_trees

from supa_gff import GraphSet, Method, Network, preset, train
from supa_gff.heads import Head
from supa_gff.losses import Softmax
from supa_gff.stacked import modules
from supa_gff.stacked.batches import PaddedBatches
from supa_gff.stacked.training import Member, train_together

METHODS = (
    "best", "best-goodness", "overlapping-pairs", "backprop", "backprop-linear", "backprop-accumulation",
    "backprop-checkpointing", "deep-supervision",
)  # fmt: skip


def graphs(classes: int = 3) -> GraphSet:
    """Return graphs of different sizes in float64, in which the order of additions does not matter."""
    made = GraphSet.of(triangles_or_trees(75, classes))
    return dataclasses.replace(made, x=made.x.double())


def short(name: str, *, dropout: float | None = 0.0, **changes: object) -> Method:
    method = preset(name).replace(**{"layers": 3, "hidden_channels": 8, "batch_size": 16, "epochs": 3} | changes)
    if isinstance(method.score, Head) and dropout is not None:
        method = method.replace(score=dataclasses.replace(method.score, dropout=dropout))
    return method


def members(method: Method, dataset: GraphSet) -> list[Member]:
    """Return three members with different graphs, different numbers of graphs and different seeds."""
    order = torch.randperm(len(dataset), generator=torch.Generator().manual_seed(0))
    made = []
    for k, count in enumerate((56, 57, 58)):
        network = Network.for_graphs(method, dataset, seed=k % 2).double()
        own = order.roll(13 * k)
        made.append(Member(network, own[:count], own[count : count + 12 + k], k % 2))
    return made


def assert_same(first: Network, second: Network, dataset: GraphSet) -> None:
    """Check that two networks compute the same scores."""
    batch = dataset.batch(torch.arange(len(dataset)))
    torch.testing.assert_close(first.layer_scores(batch), second.layer_scores(batch), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        *[(name, {}) for name in METHODS],
        ("best", {"loss": Softmax(smoothing=0.1), "score": Head("mlp", pool="moments"), "epochs": 2}),
        ("best", {"conv": "sage", "normalisation": "none", "layers_used": "chosen", "epochs": 2}),
    ],
)
def test_networks_that_are_trained_together_equal_single_trainings(name, changes):
    dataset = graphs()
    method = short(name, **changes)
    together = members(method, dataset)
    before = copy.deepcopy(together[0].network)
    states = train_together(together, dataset)
    for member, state, single in zip(together, states, members(method, dataset), strict=True):
        trained = train(single.network, dataset, single.train, single.valid, seed=single.seed).state
        assert_same(member.network, single.network, dataset)
        assert (state.best_epoch, len(trained.history)) == (trained.best_epoch, state.epoch)
    with pytest.raises(AssertionError):
        assert_same(before, together[0].network, dataset)


@pytest.mark.parametrize(("rows", "parts"), [(48, 1), (256, 2), (768, 4)])
def test_gradients_of_linear_maps_are_added_over_parts_of_the_rows(rows, parts):
    random = torch.Generator().manual_seed(rows)
    assert modules._parts(rows, 5) == parts
    x, weight, bias, slope = (
        torch.randn(*shape, generator=random, dtype=torch.float64).requires_grad_()
        for shape in ((2, rows, 5), (2, 3, 5), (2, 3), (2, rows, 3))
    )
    found = modules._Linear.apply(x, weight, bias)
    expected = torch.einsum("mri,moi->mro", x, weight) + bias[:, None]
    torch.testing.assert_close(found, expected)
    grads = [torch.autograd.grad(values, (x, weight, bias), slope) for values in (found, expected)]
    torch.testing.assert_close(*grads)


def test_parts_of_the_rows_do_not_change_a_training(monkeypatch):
    monkeypatch.setattr(modules, "_ROWS_OF_PART", 8)
    used = []
    monkeypatch.setattr(modules, "_parts", lambda *a, parts=modules._parts: used.append(parts(*a)) or used[-1])
    dataset = graphs()
    method = short("best", epochs=1)
    together = members(method, dataset)
    train_together(together, dataset)
    for member, single in zip(together, members(method, dataset), strict=True):
        train(single.network, dataset, single.train, single.valid, seed=single.seed)
        assert_same(member.network, single.network, dataset)
    assert max(used) > 1
    assert min(used) == 1


def test_removed_edges_of_a_padded_batch_lead_to_padded_nodes_of_the_same_member():
    batches = PaddedBatches(graphs(), 2)
    indices, shape = batches.pad([[torch.arange(9)], [torch.arange(20, 30)]])
    batch = batches.batch(indices[:, 0], shape)
    whole = batch.topology(None)
    real = batch.nodes.shares.flatten() > 0
    inside = real[whole.edge_index[1]]
    assert inside.sum() == sum(batches._edges_of[own].sum() for own in (range(9), range(20, 30)))
    for dropout in (0.5, 1.0):
        source, goal = whole.thinned(dropout).edge_index
        moved = goal != whole.edge_index[1]
        assert not real[goal[moved]].any()
        assert torch.equal(source // shape.nodes, goal // shape.nodes)
        assert abs(float(moved[inside].double().mean()) - dropout) < 0.15
        assert dropout < 1 or not real[goal].any()


def test_dropout_of_layers_is_reproducible_and_leaves_the_global_random_state_unchanged():
    dataset = graphs()
    method = short("best", epochs=2).replace(dropout=0.3, edge_dropout=0.3)
    first, second, without = (
        members(method, dataset),
        members(method, dataset),
        members(short("best", epochs=2), dataset),
    )
    before = torch.get_rng_state()
    for each in (first, second, without):
        train_together(each, dataset)
        assert torch.equal(torch.get_rng_state(), before)
        torch.rand(3)
        before = torch.get_rng_state()
    assert_same(first[1].network, second[1].network, dataset)
    with pytest.raises(AssertionError):
        assert_same(first[1].network, without[1].network, dataset)


@pytest.mark.parametrize("name", ["best", "backprop-accumulation"])
def test_random_numbers_of_a_member_do_not_depend_on_the_others(name):
    dataset = graphs()
    method = short(name, dropout=None)
    together, alone = members(method, dataset), members(method, dataset)
    train_together(together, dataset)
    for member, single in zip(together, alone, strict=True):
        train_together([single], dataset)
        assert_same(member.network, single.network, dataset)
