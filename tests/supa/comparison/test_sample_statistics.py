"""Statistics of one sample do not depend on its chunks, and count every hit."""

import numpy as np
import pytest

import supa
from supa.comparison import hits
from supa.comparison.hits import hit_results
from supa.comparison.resolution import merge_unresolved, resolutions
from supa.comparison.sample_statistics import GROUPS, HIT_BINS, SampleStatistics


@pytest.fixture(scope="module")
def showers():
    return supa.simulate(230, "critical", seed=5)


def test_groups_do_not_depend_on_chunks(showers):
    at_once = SampleStatistics()
    at_once.add(showers)
    pieces = SampleStatistics(at_once.edges)
    for start, stop in ((0, 70), (70, 71), (71, 230)):
        pieces.add(showers[start:stop])
    assert pieces.index_range == at_once.index_range == (0, 229)
    assert (pieces.showers, pieces.hits) == (230, showers.hits.num_rows)
    for name, counts in at_once.hit_counts.items():
        np.testing.assert_array_equal(pieces.hit_counts[name], counts)
        by_group = np.bincount(np.arange(230) % GROUPS, weights=showers.num_hits)
        np.testing.assert_array_equal(counts.sum(axis=1), by_group)


def test_edges_include_a_margin(showers):
    statistics = SampleStatistics()
    statistics.add(showers)
    low, high = np.quantile(showers.x.astype(np.float32), [1e-4, 1 - 1e-4])
    edges = statistics.edges["x"]
    assert len(edges) == HIT_BINS + 1
    assert (edges[0], edges[-1]) == pytest.approx((low - 0.1 * (high - low), high + 0.1 * (high - low)))
    assert statistics.edges["r"][0] == 0


def test_undefined_values_count_as_underflow():
    offset, zeros = np.arange(4), np.zeros(3)
    showers = supa.from_hits(
        "standard", offset=offset, incident_energy=[1, 1, 1], x=zeros, y=zeros, energy=[0.0, 0.5, 1.0], layer=[0, 0, 0]
    )
    statistics = SampleStatistics()
    statistics.add(showers)
    counts = statistics.hit_counts["log energy fraction"].sum(axis=0)
    assert counts[0] == 1
    assert counts.sum() == 3


def test_values_within_the_resolution_become_the_middle_value(showers):
    statistics = SampleStatistics()
    statistics.add(showers[:5])
    statistics.replace({"response": np.array([0.9, 0.0, 0.4, np.nan, 1.0])})
    merge_unresolved([statistics], {"response": 1.0})
    np.testing.assert_array_equal(statistics.columns["response"], [0.4, 0.4, 0.4, np.nan, 1.0])


def test_resolution_of_lengths_is_relative_to_the_largest_coordinate(showers):
    statistics = SampleStatistics()
    statistics.add(showers)
    found = resolutions(statistics, ["num_hits", "width x, layer 0", "response"])
    reach = max(np.hypot(showers.x, showers.y).max(), showers.z.max())
    assert found["num_hits"] == 1
    assert found["width x, layer 0"] == pytest.approx(2.0**-18 * reach, rel=1e-6)
    assert found["response"] == pytest.approx(2.0**-18 * max(1, statistics.columns["response"].max()))


def _hits_on_the_axis(n):
    showers = SampleStatistics({name: np.linspace(-1, 1, 5) for name in ("x", "r")})
    ones, zeros, layer = np.ones(n), np.zeros(n), np.zeros(n, int)
    columns = {"x": zeros, "y": zeros, "energy": ones, "layer": layer}
    showers.add(supa.from_hits("standard", offset=np.arange(n + 1), incident_energy=ones, **columns))
    return showers


def test_equal_histograms_of_hits_have_p_value_1():
    sample = _hits_on_the_axis(60)
    found = hit_results(sample, sample, (sample, sample), 0, 19)
    assert {result.name for result in found} == {"hit x", "hit r"}
    assert all(result.p_value == 1 and result.distance.value == 0 for result in found)


@pytest.mark.parametrize(("n", "m", "groups"), [(600, 60, 12), (60, 600, 12), (600, 600, 100), (9, 9, 2)])
def test_each_group_has_at_least_five_showers_of_each_sample(monkeypatch, n, m, groups):
    asked = set()
    fewer = hits._fewer
    monkeypatch.setattr(hits, "_fewer", lambda counts, number: asked.add(number) or fewer(counts, number))
    first, second = _hits_on_the_axis(n), _hits_on_the_axis(m)
    hit_results(first, second, (first, first), 0, 19)
    assert asked == {groups}
