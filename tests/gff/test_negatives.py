"""Tests of negative labels: their distribution, and when they are drawn."""

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
    raise AssertionError("the scores must not be computed")


def counts(drawn: torch.Tensor, true: int) -> list[int]:
    found = torch.bincount(drawn.flatten(), minlength=CLASSES).tolist()
    return found[:true] + found[true + 1 :]


@pytest.mark.parametrize("negatives", [Uniform(1), Uniform(3), Uniform(9), AllNegatives()])
def test_negatives_are_distinct_and_exclude_the_positive_label(negatives):
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
def test_negative_labels_are_equally_likely(negatives, true):
    torch.manual_seed(true)
    wrong = negatives.draw(torch.full((UNITS,), true), CLASSES, never)
    for column in wrong.t():  # the distribution is also uniform in each column
        assert chisquare(counts(column, true)).pvalue > 1e-4


@pytest.mark.parametrize("true", [0, 2, 4])
def test_hard_negatives_follow_softmax_of_scores(true):
    torch.manual_seed(7)
    scores = torch.tensor([0.0, 1.0, -1.0, 2.0, 0.5])
    wrong = Hard().draw(torch.full((UNITS,), true), CLASSES, lambda: scores.expand(UNITS, -1))
    weights = torch.cat([scores[:true], scores[true + 1 :]]).softmax(0).double()
    assert (wrong != true).all()
    assert chisquare(counts(wrong, true), (weights / weights.sum() * UNITS).tolist()).pvalue > 1e-4


def test_hard_negatives_have_requested_count_for_extreme_scores():
    scores = torch.tensor([[0.0, 1e4, 0.0]]).expand(50, -1)
    wrong = Hard(5).draw(torch.zeros(50, dtype=torch.int64), 3, lambda: scores)
    assert wrong.sort(1).values.tolist() == [[1, 2]] * 50


def drawn(monkeypatch: pytest.MonkeyPatch, level: str, schedule: str, negatives: object) -> list[torch.Tensor]:
    """Return the candidate labels of all units in each epoch, in the order of the units."""
    graphs, train, valid = task(level, count=24)
    graphs = replace(graphs, num_outputs=6)
    method = small("gff", level, epochs=4, negatives=negatives, schedule=schedule, layers=2, batch_size=5)
    torch.manual_seed(0)
    network = Network.for_graphs(method, graphs)
    seen, loss = [], UpdateRule.loss

    def watched(self, layer, scores, batch, candidates, below=None):
        if layer == 0:
            # For a single graph, a layer may get the training nodes only.
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
def test_negatives_are_redrawn_or_fixed(level, schedule, kind, monkeypatch):
    fixed = drawn(monkeypatch, level, schedule, kind(redraw=False))
    assert all(torch.equal(fixed[0], epoch) for epoch in fixed[1:])
    fresh = drawn(monkeypatch, level, schedule, kind(redraw=True))
    assert not any(torch.equal(fresh[0], epoch) for epoch in fresh[1:])


def test_invalid_counts_raise():
    for kind in (Uniform, Hard):
        with pytest.raises(ValueError, match="count: 0 was given"):
            kind(0)


def test_uniform_draws_one_new_label_per_step_by_default():
    assert (Uniform(), Hard(), AllNegatives()) == (
        Uniform(count=1, redraw=True),
        Hard(count=1),
        AllNegatives(redraw=True),
    )


def test_hard_negatives_use_scores_of_trained_layers(monkeypatch):
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
