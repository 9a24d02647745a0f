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


def test_a_split_depends_on_the_index_alone():
    index = np.random.default_rng(0).integers(0, 2**62, 1000)
    whole = in_split(index, "train")
    for k in range(0, 1000, 97):
        assert in_split(index[k : k + 1], "train")[0] == whole[k]
    # Scrambled well: neighbours are independent.
    near = in_split(np.arange(100_001), "train")
    assert np.corrcoef(near[1:], near[:-1])[0, 1] == pytest.approx(0, abs=0.02)


def test_the_splits_stay_what_they_are():
    """Models are trained on them: a change would mix training and test showers."""
    assert np.flatnonzero(in_split(np.arange(40), "test")).tolist() == [23, 32, 36, 38]
    # SplitMix64's first number for the seed 0 is 0xE220A8397B1DCDAF: 0.883 of the way, so shower 0 is at these edges.
    place = (0xE220A8397B1DCDAF >> 11) * 2.0**-53
    zero = np.zeros(1, dtype=np.int64)
    assert in_split(zero, "a", {"a": place + 1e-9, "b": 1 - place - 1e-9})[0]
    assert not in_split(zero, "a", {"a": place - 1e-9, "b": 1 - place + 1e-9})[0]


@pytest.mark.parametrize(
    ("split", "shares", "message"),
    [
        ("dev", SPLITS, "one of train, validation, test or all"),
        ("a", {"a": 0.5, "b": 0.4}, "add up to 1"),
        ("a", {"a": 1.5, "b": -0.5}, "at least 0"),
    ],
)
def test_a_mistake_is_one_clear_error(split, shares, message):
    with pytest.raises(ValueError, match=message):
        in_split(np.arange(3), split, shares)


def test_a_split_may_be_empty():
    index = np.arange(50)
    shares = {"train": 1.0, "test": 0.0}
    assert in_split(index, "train", shares).all()
    assert not in_split(index, "test", shares).any()
