"""Bins of about equal size, with equal values in the same bin."""

import itertools

import numpy as np
import pytest

from supa.bins import distinct_bins

CONTINUOUS = np.random.default_rng(4).lognormal(size=203)


def _ends(values, parts):
    return [(values[part].min(), values[part].max()) for part in parts]


def test_distinct_values_are_split_into_equal_bins():
    parts = distinct_bins(CONTINUOUS, 5, least=10, separate=20)
    assert [len(part) for part in parts] == [41, 41, 41, 40, 40]
    assert np.concatenate(parts).tolist() == np.argsort(CONTINUOUS).tolist()
    assert [len(part) for part in distinct_bins(CONTINUOUS[:25], 5, least=10)] == [13, 12]
    assert [len(part) for part in distinct_bins(CONTINUOUS[:4], 5, least=10, separate=20)] == [4]


@pytest.mark.parametrize("values", [[65.0], [10.0, 20.0, 50.0], np.arange(1, 21)])
def test_few_distinct_values_get_one_bin_each(values):
    sample = np.random.default_rng(0).permutation(np.repeat(values, np.arange(len(values)) + 3))
    parts = distinct_bins(sample, 5, least=10, separate=20)
    assert _ends(sample, parts) == [(value, value) for value in values]
    assert [len(part) for part in parts] == [k + 3 for k in range(len(values))]


@pytest.mark.parametrize(
    "sample",
    [
        np.repeat(np.arange(30), 7),
        np.concatenate([np.full(150, 65.0), CONTINUOUS[:50]]),
        np.concatenate([CONTINUOUS[:50] - 100, np.full(150, 65.0)]),
        np.repeat([1, 2, 3, 4], [91, 3, 3, 3]),
        np.full(100, 5),
    ],
    ids=["many", "first", "last", "unequal", "one"],
)
def test_equal_values_are_in_one_bin(sample):
    parts = distinct_bins(sample, 5, least=10)
    assert sorted(np.concatenate(parts)) == list(range(len(sample)))
    assert 1 <= len(parts) <= 5
    assert all(len(part) >= 10 for part in parts)
    ends = _ends(sample, parts)
    assert all(one[1] < other[0] for one, other in itertools.pairwise(ends))


@pytest.mark.parametrize(
    ("values", "limits", "bins"),
    [
        ([3, 1, 2], {"most": 3}, [[1], [2], [0]]),
        ([3, 1, 2], {"most": 1}, [[1, 2, 0]]),
        ([1, 2, 3, 4], {"most": 4, "least": 2}, [[0, 1], [2, 3]]),
        ([1, 2, 3, 4], {"most": 4, "least": 3}, [[0, 1, 2, 3]]),
        ([1, 1, 2, 2], {"most": 1, "separate": 2}, [[0, 1], [2, 3]]),
        ([1, 1, 2, 2], {"most": 1, "separate": 1}, [[0, 1, 2, 3]]),
        ([1, 1, 2, 3], {"most": 1, "separate": 3}, [[0, 1, 2, 3]]),
    ],
)
def test_limits_are_respected(values, limits, bins):
    assert [part.tolist() for part in distinct_bins(np.array(values), **limits)] == bins
