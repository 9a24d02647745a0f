"""Stratified folds: every item is tested once, and class fractions are preserved even for small classes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from supa_learning.folds import stratified_folds


def _check(targets, folds, share, seed):
    made = stratified_folds(targets, folds=folds, valid_share=share, seed=seed)
    assert len(made) == folds
    n = len(targets)
    assert np.sort(np.concatenate([fold.test for fold in made])).tolist() == list(range(n))
    classes, counts = np.unique(targets, return_counts=True)
    for fold in made:
        parts = np.concatenate([fold.train, fold.valid, fold.test])
        assert np.sort(parts).tolist() == list(range(n))
        for part in (fold.train, fold.valid, fold.test):
            assert part.dtype == np.int64
            assert (np.diff(part) > 0).all()
        assert n // folds <= len(fold.test) <= -(-n // folds)
        for c, count in zip(classes, counts, strict=True):
            tested, validating = ((targets[part] == c).sum() for part in (fold.test, fold.valid))
            assert count // folds <= tested <= -(-count // folds)
            rest = count - tested
            if rest > 1:
                assert abs(validating - share * rest) < 1 + 1e-9
            if count > 1:
                assert (targets[fold.train] == c).any()


def test_class_fractions_are_preserved():
    targets = np.repeat([0, 1, 2], [125, 63, 12])
    _check(np.random.default_rng(0).permutation(targets), 10, 0.1, 0)
    made = stratified_folds(targets, folds=5, valid_share=0.2)
    assert {len(fold.valid) for fold in made} == {32}
    assert {len(fold.test) for fold in made} == {40}


@settings(max_examples=150, deadline=None)
@given(
    targets=st.lists(st.integers(-2, 3), min_size=4, max_size=60),
    folds=st.integers(2, 10),
    share=st.floats(0.01, 0.5),
    seed=st.integers(0, 9),
)
def test_any_targets_are_divided_or_rejected(targets, folds, share, seed):
    labels = np.array(targets)
    counts = np.unique(labels, return_counts=True)[1]
    if len(targets) < folds or (counts > 1).sum() < 2:
        try:
            made = stratified_folds(labels, folds=folds, valid_share=share, seed=seed)
        except ValueError:
            return
        # Classes with one member can be sufficient if they are tested in different folds.
        assert all(len(np.unique(labels[fold.train])) >= 2 for fold in made)
        return
    _check(labels, folds, share, seed)


def test_folds_depend_only_on_targets_and_seed():
    targets = np.repeat([0, 1], [50, 30])
    one, same, other = (stratified_folds(targets, seed=seed) for seed in (3, 3, 4))
    for a, b in zip(one, same, strict=True):
        assert (a.train.tolist(), a.valid.tolist(), a.test.tolist()) == (
            b.train.tolist(), b.valid.tolist(), b.test.tolist(),
        )  # fmt: skip
    assert any(a.test.tolist() != b.test.tolist() for a, b in zip(one, other, strict=True))


def test_the_start_of_the_validation_part_is_random():
    """With a fixed start, the first members of a class and small classes would never be validated."""
    targets = np.repeat([0, 1], [30, 5])
    rare = [len(fold.valid[targets[fold.valid] == 1]) for s in range(40) for fold in stratified_folds(targets, seed=s)]
    assert 0.3 < np.mean(rare) < 0.6  # 0.1 of 4.5


def test_a_class_with_one_member_is_tested_once_and_never_validates():
    made = stratified_folds([0] * 20 + [1] * 20 + [2], folds=4)
    assert sum(40 in fold.test for fold in made) == 1
    assert sum(40 in fold.train for fold in made) == 3


@pytest.mark.parametrize(
    ("targets", "arguments", "message"),
    [
        ([0] * 20, {}, "would have a single class"),
        ([0] * 20 + [1], {}, "two classes need at least two members each"),
        ([0, 1, 0, 1], {"folds": 5}, "folds must be at most the number of items, 4, got 5"),
        ([0], {"folds": 2}, "folds must be at most the number of items, 1, got 2"),
        ([0.5] * 20, {}, "one-dimensional array of integers, got float64"),
        ([[0, 1]] * 20, {}, "one-dimensional array of integers"),
        ([0, 1] * 20, {"folds": 1}, "folds: 1 was given"),
        ([0, 1] * 20, {"valid_share": 0}, "valid_share: 0 was given"),
        ([0, 1] * 20, {"valid_share": 0.7}, "at most 0.5"),
        ([0, 1] * 20, {"seed": -1}, "seed: -1 was given"),
    ],
)
def test_mistakes_are_clear_errors(targets, arguments, message):
    with pytest.raises(ValueError, match=message):
        stratified_folds(targets, **arguments)


def test_the_folds_never_change():
    """Results of benchmarks must remain comparable with older results."""
    made = stratified_folds(np.repeat([0, 1], [12, 8]), folds=4, valid_share=0.2)
    assert made[1].test.tolist() == [5, 6, 10, 13, 17]
    assert [fold.valid.tolist() for fold in made] == [[1, 10, 14], [3, 9, 18], [10, 15, 19], [10, 14, 19]]
    assert len(stratified_folds([0, 1] * 20)) == 10
