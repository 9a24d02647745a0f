"""Spans of the engine cpu, also those that leave showers out."""

import numpy as np
import pytest

import supa
from supa.recycling import Recycler
from supa.simulation_plan import make_plan
from supa.span_walker import SpanWalker


def _walker(config, record):
    plan = make_plan(1000, config, None, 3, 0, "all", record, "cpu", 1, None)
    return SpanWalker(plan, Recycler(2))


@pytest.mark.parametrize("record", ["hits", "particles"])
@pytest.mark.parametrize("config", ["standard", supa.preset("two-primaries").replace(num_primaries="poisson:2")])
def test_wanted_showers_are_those_of_simulate(config, record):
    every = supa.simulate(400, config, seed=3, first=50, record=record)
    walker = _walker(config, record)
    random = np.random.default_rng(0)
    assert walker.walk(50, 450) == every
    for share in (0.0, 0.01, 0.3, 0.99, 1.0):
        wanted = random.random(400) < share
        assert walker.walk(50, 450, wanted) == every[wanted]


def test_a_chunk_in_use_is_not_overwritten():
    walker = _walker("standard", "hits")
    first = walker.walk(0, 100)
    copy = first.copy()
    walker.walk(100, 200, np.arange(100) % 2 == 0)
    assert first == copy
