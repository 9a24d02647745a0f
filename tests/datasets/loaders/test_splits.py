"""Splits: complete, disjoint, of the right size, and stable."""

import numpy as np
import pytest

from supa_datasets import SPLITS, in_split


def test_each_shower_is_in_one_split():
    index = np.arange(100_000)
    parts = [in_split(index, name) for name in SPLITS]
    assert (np.sum(parts, axis=0) == 1).all()
    assert in_split(index, "all").all()
    for part, share in zip(parts, SPLITS.values(), strict=True):
        assert part.mean() == pytest.approx(share, abs=5 * np.sqrt(share * (1 - share) / len(index)))


def test_a_split_depends_only_on_the_index():
    index = np.random.default_rng(0).integers(0, 2**62, 1000)
    whole = in_split(index, "train")
    for k in range(0, 1000, 97):
        assert in_split(index[k : k + 1], "train")[0] == whole[k]
    # The hash is good: neighbours are uncorrelated.
    near = in_split(np.arange(100_001), "train")
    assert np.corrcoef(near[1:], near[:-1])[0, 1] == pytest.approx(0, abs=0.02)


def test_the_splits_never_change():
    """A change would mix training and test showers of existing models."""
    assert np.flatnonzero(in_split(np.arange(40), "test")).tolist() == [23, 32, 36, 38]
    # The first number of SplitMix64 with seed 0 is 0xE220A8397B1DCDAF, which is 0.883 of 2**64. Shower 0 is there.
    place = (0xE220A8397B1DCDAF >> 11) * 2.0**-53
    zero = np.zeros(1, dtype=np.int64)
    assert in_split(zero, "a", {"a": place + 1e-9, "b": 1 - place - 1e-9})[0]
    assert not in_split(zero, "a", {"a": place - 1e-9, "b": 1 - place + 1e-9})[0]


def test_every_hash_belongs_to_one_split(monkeypatch):
    """This includes the edges, and numbers close to 1 if the fractions add up to slightly less than 1."""
    places = np.array([0.0, 0.5, 0.75, 1 - 2.0**-53])
    monkeypatch.setattr("supa_datasets.loaders.splits.to_unit", lambda _hashes: places)
    thirds = {"a": 0.5, "b": 0.25, "c": 0.25}
    assert [in_split(np.arange(4), name, thirds).tolist() for name in thirds] == [
        [True, False, False, False], [False, True, False, False], [False, False, True, True]
    ]  # fmt: skip
    tenths = {str(k): 0.1 for k in range(10)}
    assert np.cumsum(list(tenths.values()))[-1] < 1
    assert sum(in_split(np.arange(4), name, tenths).astype(int) for name in tenths).tolist() == [1, 1, 1, 1]


@pytest.mark.parametrize(
    ("split", "fractions", "message"),
    [
        ("dev", SPLITS, "one of train, validation, test or all"),
        ("a", {"a": 0.5, "b": 0.4}, "add up to 1"),
        ("a", {"a": 1.5, "b": -0.5}, "non-negative"),
    ],
)
def test_a_mistake_is_one_clear_error(split, fractions, message):
    with pytest.raises(ValueError, match=message):
        in_split(np.arange(3), split, fractions)


def test_a_split_may_be_empty():
    index = np.arange(50)
    fractions = {"train": 1.0, "test": 0.0}
    assert in_split(index, "train", fractions).all()
    assert not in_split(index, "test", fractions).any()
