"""The engine reference agrees with data of the public reference code."""

import numpy as np
import pytest

import supa


def _agrees(showers: supa.Showers, sample: dict[str, np.ndarray]) -> None:
    assert showers.index.tolist() == sample["attempt_index"].tolist()
    assert showers.hits.group_of_row().tolist() == sample["shower"].tolist()
    assert showers.layer.tolist() == sample["layer"].tolist()
    assert showers.energy.tobytes() == sample["energy"].tobytes()
    np.testing.assert_allclose(showers.x, sample["x"], rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(showers.y, sample["y"], rtol=1e-12, atol=1e-12)


def _simulate(num_showers: int, **options) -> supa.Showers:
    return supa.simulate(num_showers, "reference", engine="reference", keep="complete", seed=1234, **options)


def test_first_showers_equal_those_of_the_public_code(data):
    with np.load(data / "reference_65GeV_seed1234_60showers.npz") as sample:
        _agrees(_simulate(60), sample)


def test_a_thousand_showers_equal_those_of_the_public_code(shared_reference):
    with np.load(shared_reference) as sample:
        showers = _simulate(1000)
        _agrees(showers, sample)
        assert showers.run.attempts == sample["n_attempts"]


def test_showers_do_not_depend_on_chunks():
    whole = _simulate(40)
    for size in (1, 7, 64, 1000):
        parts = supa.stream(40, "reference", engine="reference", keep="complete", seed=1234, chunk_size=size)
        assert supa.Showers.concatenate(list(parts)) == whole
    later = _simulate(10, first=int(whole.index[29]) + 1)
    assert later.index.tolist() == whole.index[30:].tolist()
    assert later.hits.equals(whole[30:].hits)


def test_energies_of_hits_are_proportional_to_the_incident_energy():
    low, high = _simulate(20, energy=10), _simulate(20, energy=40)
    assert low.x.tobytes() == high.x.tobytes()
    np.testing.assert_allclose(4 * low.energy, high.energy, rtol=1e-14)


def test_seed_and_threads_are_limited():
    with pytest.raises(ValueError, match="from 0 to 4294967295 with engine='reference'"):
        supa.simulate(1, engine="reference", seed=2**32)
    with pytest.raises(ValueError, match="one stream; use 1"):
        supa.simulate(1, engine="reference", threads=2)
