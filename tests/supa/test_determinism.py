"""Shower k of a seed does not depend on chunks, threads, ranges or processes."""

import multiprocessing
import subprocess
import sys
import threading
import warnings
from pathlib import Path

import numpy as np
import pytest
from workers import hits_of_shower_7

import supa
from supa import primaries, span_walker
from supa.engines import cpu, reference
from supa.primaries import Primaries

KEYS = {
    "hits": {"seed": 11},
    "complete": {"seed": 11, "keep": "complete"},
    "particles": {"seed": 11, "record": "particles", "config": "two-primaries"},
    "critical": {"seed": 2**63 + 5, "config": "critical"},
}


@pytest.mark.parametrize("options", KEYS.values(), ids=KEYS.keys())
def test_showers_do_not_depend_on_chunks_and_threads(options):
    whole = supa.simulate(250, **options, threads=1)
    for threads, size in ((1, 1), (1, 64), (2, 13), (3, 100), (5, 7), (2, 10_000)):
        parts = list(supa.stream(250, **options, threads=threads, chunk_size=size))
        assert supa.Showers.concatenate(parts) == whole
        assert sum(part.run.attempts for part in parts) == whole.run.attempts


@pytest.mark.parametrize("options", KEYS.values(), ids=KEYS.keys())
def test_any_range_can_be_simulated_alone(options):
    whole = supa.simulate(300, **options)
    for k in (0, 1, 150, 299):
        part = supa.simulate(300 - k, **options, first=int(whole.index[k]))
        assert part == whole[k:]


def test_showers_do_not_depend_on_blocks(monkeypatch):
    whole = supa.simulate(400, record="particles")
    for particles in (1, 100, 10**7):
        monkeypatch.setattr("supa.simulation_plan._BLOCK_PARTICLES", particles)
        assert supa.simulate(400, record="particles") == whole


def test_the_first_call_of_compiled_code_is_made_before_there_are_threads(monkeypatch):
    # Numba's lookup of types is not safe against another thread that compiles for the first time.
    threads = []

    def draw_primaries(*arguments):
        threads.append(threading.current_thread())
        return primaries.draw_primaries(*arguments)

    monkeypatch.setattr(span_walker, "draw_primaries", draw_primaries)
    supa.simulate(200, threads=2)
    assert threads[0] is threading.main_thread()
    assert threading.main_thread() not in threads[1:]


def test_chunks_remain_valid_after_the_next_ones():
    chunks = list(supa.stream(500, chunk_size=50, threads=2))
    assert supa.Showers.concatenate(chunks) == supa.simulate(500)


def test_streams_can_be_closed_early():
    for _ in range(3):
        stream = supa.stream(10**9, threads=2)
        next(stream)
        stream.close()


# A spawned process takes seconds to import what it needs, and two of them show no more than one.
@pytest.mark.parametrize(("method", "workers"), [("fork", 2), ("spawn", 1)])
def test_worker_processes_simulate_the_same_showers(method, workers):
    expected = hits_of_shower_7(0)  # uses threads in this process before any fork
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python warns about forks of a process with threads
        with multiprocessing.get_context(method).Pool(workers) as pool:
            assert pool.map_async(hits_of_shower_7, range(4)).get(timeout=120) == [expected] * 4


def test_a_fork_in_the_middle_of_a_stream_works():
    stream = supa.stream(10**6, threads=2)
    next(stream)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        with multiprocessing.get_context("fork").Pool(2) as pool:
            assert pool.map_async(hits_of_shower_7, range(2)).get(timeout=120) == [hits_of_shower_7(0)] * 2
    next(stream)
    stream.close()


def test_seeds_and_showers_differ():
    showers = supa.simulate(200, seed=1)
    assert len({shower.x.tobytes() for shower in showers}) == 200
    assert not showers.hits.equals(supa.simulate(200, seed=2).hits)


def test_index_of_a_complete_shower_is_its_attempt():
    complete = supa.simulate(100, seed=4, keep="complete")
    everything = supa.simulate(complete.run.attempts, seed=4)
    assert complete.run.attempts == complete.index[-1] + 1
    kept = [k for k in range(len(everything)) if len(set(everything[k].layer)) == 3]
    assert complete.index.tolist() == kept
    assert complete.hits.equals(everything[kept].hits)


MISUSES = [
    ({"num_showers": -1}, "num_showers: -1 was given"),
    ({"num_showers": 1.5}, "num_showers: 1.5 was given"),
    ({"config": "v1"}, "no preset 'v1'"),
    ({"config": 3}, "the name of a preset or a ShowerConfig"),
    ({"energy": -1}, "incident energy: -1 was given"),
    ({"energy": "x"}, "incident energy: 'x' was given"),
    ({"seed": -1}, "seed: -1 was given"),
    ({"seed": 2**64}, "from 0 to 18446744073709551615"),
    ({"first": -1}, "first: -1 was given"),
    ({"first": 2**56}, "first: .* - num_showers"),
    ({"keep": "none"}, "keep: 'none' was given, but it must be 'all' or 'complete'"),
    ({"record": "tree"}, "record: 'tree' was given"),
    ({"engine": "gpu"}, "engine: 'gpu' was given"),
    ({"threads": 0}, "threads: 0 was given"),
    ({"threads": 10**6}, "threads: 1000000 was given"),
    ({"threads": True}, "threads: True was given"),
]


@pytest.mark.parametrize(("options", "message"), MISUSES)
def test_invalid_arguments_raise_a_clear_error(options, message):
    for call in (supa.simulate, supa.stream):
        with pytest.raises(ValueError, match=message):
            call(**{"num_showers": 1, **options})


def _peak_attempts(monkeypatch, **options) -> int:
    """Return the largest number of showers that are simulated at once."""
    sizes = []
    for module, name in ((cpu, "Workspace"), (reference, "ReferenceStream")):
        walk = getattr(module, name).walk_showers

        def watched(self, *arguments, _walk=walk, **keywords):
            primaries = next(a for a in arguments if isinstance(a, Primaries))
            sizes.append(len(primaries.incident_energy))
            return _walk(self, *arguments, **keywords)

        monkeypatch.setattr(getattr(module, name), "walk_showers", watched)
    expected = supa.simulate(150, **options)
    sizes.clear()
    assert supa.Showers.concatenate(list(supa.stream(150, chunk_size=10**6, **options))) == expected
    return max(sizes)


HUNGRY = {
    "complete": {"keep": "complete", "record": "particles", "threads": 1},
    "complete, in threads": {"keep": "complete", "threads": 3},
    "complete, in sequence": {"keep": "complete", "engine": "reference"},
    "complete, with a cut-off": {"keep": "complete", "config": "critical", "energy": 3000},
    "all": {},
}


@pytest.mark.parametrize("options", HUNGRY.values(), ids=HUNGRY.keys())
def test_chunks_are_limited_by_the_required_number_of_showers(monkeypatch, options):
    assert _peak_attempts(monkeypatch, **options) <= 1000


@pytest.mark.parametrize("options", [{}, {"record": "particles"}, {"engine": "reference", "first": 150}])
def test_chunks_are_limited_by_the_free_memory(monkeypatch, options):
    monkeypatch.setattr("supa.simulation_plan.available_bytes", lambda: 100_000_000)
    monkeypatch.setattr("supa.simulation_plan._CHUNKS_SHARE", 0.01)
    assert _peak_attempts(monkeypatch, threads=1, **options) < 150


LIMITED = """
import resource
import supa

supa.simulate(1, record="particles")
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 2**30, resource.RLIM_INFINITY))
print(sum(len(chunk) for chunk in supa.stream(300, keep="complete", record="particles", chunk_size=10**6, threads=2)))
"""


def test_chunks_respect_the_memory_limit_of_the_process():
    if not Path("/proc/self/statm").exists():
        pytest.skip("the system does not report the memory of a process in /proc")
    done = subprocess.run([sys.executable, "-c", LIMITED], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("300\n", "")


def test_chunk_size_must_be_positive():
    with pytest.raises(ValueError, match="chunk_size: 0 was given"):
        supa.stream(1, chunk_size=0)


def test_configs_that_hardly_ever_produce_complete_showers_raise_an_error(monkeypatch):
    monkeypatch.setattr("supa.simulation.MAX_FRUITLESS_ATTEMPTS", 1000)
    with pytest.raises(ValueError, match=r"None of [\d,]+ consecutive showers has a hit in every readout layer"):
        supa.simulate(1, supa.preset("critical").replace(critical_energy=1000), keep="complete")


def test_configs_without_complete_showers_raise_an_error_immediately():
    with pytest.raises(ValueError, match="No shower of this config has a hit in every readout layer"):
        supa.stream(1, supa.ShowerConfig(stop_amplitude=0.0, split_late=0.0), keep="complete")


def test_running_out_of_indices_raises_an_error():
    with pytest.raises(
        ValueError, match=r"72057594037927935, was reached, but \d+ of the 90 requested complete showers are missing"
    ):
        supa.simulate(90, first=2**56 - 1 - 100, keep="complete")
    assert supa.simulate(3, first=2**56 - 4).index[-1] == 2**56 - 2


def test_numpy_integers_are_accepted():
    assert supa.simulate(np.uint8(3), seed=np.int64(5), first=np.uint8(200)) == supa.simulate(3, seed=5, first=200)
