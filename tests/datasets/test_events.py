import dataclasses
import math

import numpy as np
import pytest

import supa
from supa_datasets import overlay_events


@pytest.fixture(scope="module")
def showers():
    return supa.simulate(400, "standard", seed=3)


def test_each_hit_is_that_of_its_shower_moved_by_one_impact_point_and_time(showers):
    events = overlay_events(showers, 30, seed=5, half_width=7, duration=11)
    assert 10 <= len(events) <= 16
    used = np.unique(events["shower"])
    assert (used == np.flatnonzero(showers.num_hits[: used[-1] + 1])).all()
    for place in used:
        chosen, alone = np.flatnonzero(events["shower"] == place), showers[[place]]
        assert len(chosen) == len(alone.x)
        # Hits of one slice have the same time, so their order is that of the shower.
        for name, true, limits in (
            ("x", alone.x, (-7, 7)),
            ("y", alone.y, (-7, 7)),
            ("time", alone.z, (0, 11)),
            ("z", alone.z, (0, 0)),
            ("energy", alone.energy, (0, 0)),
        ):
            moved = events[name][chosen] - true
            np.testing.assert_allclose(moved, events[f"impact_{name}"][chosen] if any(limits) else 0, atol=1e-4)
            assert limits[0] - 1e-4 <= moved[0] <= limits[1] + 1e-4


def test_events_are_consecutive_showers_in_order_of_time(showers):
    events = overlay_events(showers, 30, seed=5)
    before = -1
    for begin, end in zip(events.offset[:-1], events.offset[1:], strict=True):
        assert (np.diff(events["time"][begin:end]) >= 0).all()
        assert events["shower"][begin:end].min() > before
        before = events["shower"][begin:end].max()


def test_the_number_of_showers_follows_a_poisson_distribution(showers):
    events = overlay_events(showers, 2, seed=4)
    sizes = [len(set(events["shower"][a:b])) for a, b in zip(events.offset[:-1], events.offset[1:], strict=True)]
    assert (showers.num_hits > 0).all()
    assert 170 < len(sizes) < 230
    chances = [np.exp(-2) * 2**size / math.factorial(size) for size in range(6)]
    np.testing.assert_allclose(np.bincount(sizes)[:6] / len(sizes), chances, atol=0.1)  # 3 standard deviations


def test_events_depend_on_the_seed_and_not_on_later_showers(showers):
    events = overlay_events(showers, 30, seed=5)
    fewer = overlay_events(showers[:200], 30, seed=5)
    rows = fewer.num_rows
    assert 3 < len(fewer) < len(events)
    assert all(np.array_equal(fewer[name], events[name][:rows]) for name in events.columns)
    assert not np.array_equal(overlay_events(showers, 30, seed=6)["x"][:50], events["x"][:50])


def test_small_events_may_be_empty(showers):
    events = overlay_events(showers, 1, seed=1)
    assert (events.counts == 0).any()
    assert len(np.unique(events["shower"])) == (showers.num_hits > 0).sum()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mean": 0.5}, "mean: 0.5 was given, but it must be a number of at least 1"),
        ({"mean": 5000}, "400 showers do not fill one event of 5000 on average"),
        ({"seed": -1}, "seed"),
        ({"half_width": -1.0}, "half_width: -1.0 was given, but it must be a number of at least 0"),
        ({"duration": float("nan")}, "duration: nan was given, but it must be a number of at least 0"),
        ({"showers": "showers.h5"}, "showers: a str was given, but it must be Showers; load a file first"),
    ],
)
def test_invalid_input_raises_a_clear_error(showers, change, message):
    with pytest.raises(ValueError, match=message):
        overlay_events(**({"showers": showers, "mean": 30, "seed": 1} | change))


def test_unknown_slices_raise_a_clear_error(showers):
    hits = showers.hits
    unknown = {**hits.columns, "slice": np.full_like(hits["slice"], 255)}
    with pytest.raises(ValueError, match="the slices of some hits are unknown"):
        overlay_events(dataclasses.replace(showers, hits=supa.Ragged(unknown, hits.offset)), 30, seed=1)
