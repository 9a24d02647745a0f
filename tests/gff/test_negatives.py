"""Wrong labels: never the true one, each as often as it should be, drawn anew or once."""

from dataclasses import replace

import pytest
import torch
from scipy.stats import chisquare
from small_graphs import make_trainer, small, task

from supa_gff import Network, update_rule
from supa_gff.negatives import AllNegatives, Hard, Uniform, every_negative
from supa_gff.updates.rule import UpdateRule

CLASSES, UNITS = 5, 20_000


def never() -> torch.Tensor:
    raise AssertionError("nobody asked for scores")


def counts(drawn: torch.Tensor, true: int) -> list[int]:
    found = torch.bincount(drawn.flatten(), minlength=CLASSES).tolist()
    return found[:true] + found[true + 1 :]


@pytest.mark.parametrize("negatives", [Uniform(1), Uniform(3), Uniform(9), AllNegatives()])
def test_the_true_label_is_never_drawn_and_none_comes_twice(negatives):
    torch.manual_seed(0)
    target = torch.randint(CLASSES, (UNITS,))
    wrong = negatives.draw(target, CLASSES, never)
    expected = CLASSES - 1 if isinstance(negatives, AllNegatives) else min(negatives.count, CLASSES - 1)
    assert wrong.shape == (UNITS, expected)
    assert not (wrong == target[:, None]).any()
    assert ((wrong >= 0) & (wrong < CLASSES)).all()
    ordered = wrong.sort(1).values
    assert (ordered.diff(dim=1) > 0).all()


@pytest.mark.parametrize("negatives", [Uniform(1), Uniform(2), AllNegatives()])
@pytest.mark.parametrize("true", range(CLASSES))
def test_each_wrong_label_is_as_likely(negatives, true):
    torch.manual_seed(true)
    wrong = negatives.draw(torch.full((UNITS,), true), CLASSES, never)
    for column in wrong.t():  # also in each place, so that the order tells nothing
        assert chisquare(counts(column, true)).pvalue > 1e-4


@pytest.mark.parametrize("true", [0, 2, 4])
def test_hard_ones_come_in_proportion_to_their_score(true):
    torch.manual_seed(7)
    scores = torch.tensor([0.0, 1.0, -1.0, 2.0, 0.5])
    wrong = Hard().draw(torch.full((UNITS,), true), CLASSES, lambda: scores.expand(UNITS, -1))
    weights = torch.cat([scores[:true], scores[true + 1 :]]).softmax(0).double()
    assert (wrong != true).all()
    assert chisquare(counts(wrong, true), (weights / weights.sum() * UNITS).tolist()).pvalue > 1e-4


def test_as_many_hard_ones_as_are_wanted_also_where_one_has_all_weight():
    scores = torch.tensor([[0.0, 1e4, 0.0]]).expand(50, -1)
    wrong = Hard(5).draw(torch.zeros(50, dtype=torch.int64), 3, lambda: scores)
    assert wrong.sort(1).values.tolist() == [[1, 2]] * 50


def drawn(monkeypatch: pytest.MonkeyPatch, level: str, schedule: str, negatives: object) -> list[torch.Tensor]:
    """Give the labels of every unit at each epoch of training, in the units' order."""
    graphs, train, valid = task(level, count=24)
    graphs = replace(graphs, num_outputs=6)
    method = small("gff", level, epochs=4, negatives=negatives, schedule=schedule, layers=2, batch_size=5)
    torch.manual_seed(0)
    network = Network.for_graphs(method, graphs)
    seen, loss = [], UpdateRule.loss

    def watched(self, layer, scores, batch, candidates, below=None):
        if layer == 0:
            # Of the nodes of one graph, a layer may be given the training nodes alone.
            units = next(part for part in (batch.graph_indices, batch.units, train) if part is not None)
            seen.append((units, candidates))
        return loss(self, layer, scores, batch, candidates, below)

    with monkeypatch.context() as patch:
        patch.setattr(UpdateRule, "loss", watched)
        make_trainer(network, graphs, train, valid).run()
    per_epoch = len(seen) // 4
    epochs = []
    for k in range(4):
        units, candidates = zip(*seen[k * per_epoch : (k + 1) * per_epoch], strict=True)
        order = torch.cat(units).argsort()
        assert torch.cat(units)[order].tolist() == train.tolist()
        assert torch.equal(torch.cat(candidates)[order, 0], graphs.target[train])
        epochs.append(torch.cat(candidates)[order])
    return epochs


@pytest.mark.parametrize("level", ["graph", "node"])
@pytest.mark.parametrize("schedule", ["greedy", "joint"])
@pytest.mark.parametrize("kind", [AllNegatives, Uniform])
def test_redrawn_each_epoch_or_once(level, schedule, kind, monkeypatch):
    fixed = drawn(monkeypatch, level, schedule, kind(redraw=False))
    assert all(torch.equal(fixed[0], epoch) for epoch in fixed[1:])
    fresh = drawn(monkeypatch, level, schedule, kind(redraw=True))
    assert not any(torch.equal(fresh[0], epoch) for epoch in fresh[1:])


def test_counts_must_be_whole():
    for kind in (Uniform, Hard):
        with pytest.raises(ValueError, match="count: 0 was given"):
            kind(0)


def test_by_default_one_wrong_label_is_drawn_anew_at_each_step():
    assert (Uniform(), Hard(), AllNegatives()) == (
        Uniform(count=1, redraw=True),
        Hard(count=1),
        AllNegatives(redraw=True),
    )


def test_hard_ones_follow_the_scores_of_the_layers_that_train(monkeypatch):
    graphs, train, _ = task("graph", count=24)
    rule = update_rule(Network.for_graphs(small("best", "graph", negatives=Hard()), graphs))
    batch, seen = graphs.batch(train), []

    def draw(_self, target, classes, scores):
        seen.append(scores())
        return every_negative(target, classes)

    monkeypatch.setattr(Hard, "draw", draw)
    given = torch.zeros(len(train), 2)
    rule.draw_candidates(batch)
    rule.draw_candidates(batch, layer=1)
    rule.draw_candidates(batch, lambda: given)
    layers = rule.network.layer_scores(batch)
    for found, expected in zip(seen, (layers.sum(0), layers[1], given), strict=True):
        assert torch.equal(found, expected)
