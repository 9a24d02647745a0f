"""Arrays are used again only when nothing refers to them."""

import gc
import threading

import numpy as np

import supa
from supa.recycling import Recycler
from supa.simulation_plan import chunks_in_use


def test_a_set_is_unused_when_the_last_view_is_dropped():
    recycler: Recycler[tuple[np.ndarray, np.ndarray]] = Recycler(2)
    assert recycler.take() is None
    arrays = np.arange(10.0), np.arange(10)
    views = recycler.lend(arrays, {"x": arrays[0][:4], "n": arrays[1][2:5]})
    assert views["x"].tolist() == [0, 1, 2, 3]
    assert views["n"].tolist() == [2, 3, 4]
    part = views["x"][1:3].reshape(1, 2)[0]  # a view of a view of a view
    del views
    assert recycler.take() is None
    del part
    assert recycler.take() is arrays


def test_views_share_the_memory_of_the_set():
    recycler: Recycler[np.ndarray] = Recycler(1)
    array = np.zeros(5)
    view = recycler.lend(array, {"x": array})["x"]
    view[2] = 7
    assert array[2] == 7
    assert view.dtype == np.float64
    assert view.flags.writeable


def test_no_more_sets_are_kept_than_needed():
    recycler: Recycler[np.ndarray] = Recycler(2)
    views = [recycler.lend(array, {"x": array}) for array in np.zeros((5, 3))]
    del views
    gc.collect()
    assert [recycler.take() is None for _ in range(3)] == [False, False, True]


def test_a_chunk_keeps_its_values_while_any_part_of_it_is_in_use():
    expected = supa.simulate(3000, seed=3)
    kept = []
    for chunk in supa.stream(3000, seed=3, chunk_size=100, threads=2):
        kept.append((chunk.index.copy(), chunk.x[5:], chunk.hits.span(10, 20)["energy"]))  # the chunk itself is dropped
    for index, x, energy in kept:
        whole = expected[index]
        assert np.array_equal(x, whole.x[5:])
        assert np.array_equal(energy, whole[10:20].energy)


def test_a_stream_that_is_dropped_at_once_uses_a_fixed_number_of_buffers():
    addresses = {chunk.x.ctypes.data for chunk in supa.stream(20_000, chunk_size=200, threads=2)}
    assert len(addresses) <= chunks_in_use(2)


def test_other_threads_may_drop_the_chunks():
    chunks = list(supa.stream(2000, chunk_size=100, threads=2))
    expected = supa.simulate(2000)
    assert supa.Showers.concatenate(chunks) == expected

    def drop(part):
        part.clear()

    halves = chunks[:10], chunks[10:]
    del chunks
    threads = [threading.Thread(target=drop, args=(half,)) for half in halves]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert supa.simulate(2000) == expected
