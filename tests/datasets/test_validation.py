"""Impossible values: cheap checks on reading, all checks in ShowerFile.faults, and valid files pass both."""

from functools import cache

import h5py
import numpy as np
import pytest

import supa
import supa_datasets
from supa_datasets import Fault, ShowerFile

STOP, SPLIT, PASS, LEAK = range(4)


@cache
def _trees():
    config = supa.preset("two-primaries").replace(num_slices=20, readout_layers=((5, 8), (9, 17), (18, 19)))
    return supa.simulate(120, config, seed=8, energy="log:1:100", record="particles")


def _first(fate: int) -> int:
    """Return the row of the first particle with this fate after the first shower."""
    particles = _trees().particles
    return int(np.flatnonzero((particles["fate"] == fate) & (np.arange(particles.num_rows) >= particles.offset[1]))[0])


@pytest.fixture
def path(tmp_path):
    supa_datasets.save(_trees(), tmp_path / "a.h5")
    return tmp_path / "a.h5"


def _faults(path) -> list[Fault]:
    with ShowerFile(path) as file:
        return file.faults()


def _swap(file, name, one, other):
    column = file[name]
    column[one], column[other] = column[other], column[one]


def _fate(old, new):
    return lambda f: f["particles/fate"].__setitem__(_first(old), new)


def _swap_fates(one, other):
    return lambda f: _swap(f, "particles/fate", _first(one), _first(other))


def _third_child(file):
    """Move a child of another particle in the same slice to a split particle."""
    particles, row = _trees().particles, _first(SPLIT)
    k = particles.group_of_row()[row]
    span = slice(particles.offset[k], particles.offset[k + 1])
    parent, number = particles["parent"][span], row - particles.offset[k]
    slice_of_parent = particles["slice"][span][np.maximum(parent, 0)]
    others = (parent >= 0) & (parent != number) & (slice_of_parent == particles["slice"][row])
    file["particles/parent"][particles.offset[k] + int(np.flatnonzero(others)[0])] = number


def _energetic_child(file):
    particles, row = _trees().particles, _first(SPLIT)
    start = particles.offset[particles.group_of_row()[row]]
    child = int(start + np.flatnonzero(particles["parent"][start:] == row - start)[0])
    file["particles/energy"][child] = 1.01 * particles["energy"][row]


# Damage, and the error on reading.
ON_READING = {
    "children of a stopped particle": (_swap_fates(STOP, SPLIT), "a particle's number of children"),
    "leak in mid-matter": (_fate(PASS, LEAK), "a leak before the last slice"),
    "no leak after the last slice": (_fate(LEAK, PASS), "a leak before the last slice"),
    "third child": (_third_child, "a particle's number of children"),
    "child too many": (_fate(SPLIT, PASS), "a particle's number of children"),
    "child too few": (_fate(PASS, SPLIT), "a particle's number of children"),
    "energetic child": (_energetic_child, "a particle's energy above its parent's"),
    "primary of a particle": (lambda f: f["particles/primary"].__setitem__(_first(PASS), 2), "a particle's primary"),
    "energetic hit": (lambda f: f["hits/energy"].__setitem__(5, 101.0), "a hit's energy above its shower's"),
}


@pytest.mark.parametrize(("damage", "message"), ON_READING.values(), ids=ON_READING.keys())
def test_an_impossible_tree_or_energy_is_found_on_reading(path, damage, message):
    with h5py.File(path, "r+") as file:
        damage(file)
    with pytest.raises(ValueError, match=f"it is damaged: {message}"):
        supa_datasets.load(path)
    with ShowerFile(path) as file, pytest.raises(ValueError, match=f"it is damaged: {message}"):
        file[[119, *range(119)]]
    assert any(fault.kind.startswith(message) for fault in _faults(path))


def _add(name, table, shower, value):
    """Add a value to the first row of a shower."""

    def damage(file):
        row = shower if table is None else int(getattr(_trees(), table).offset[shower])
        file[name][row] = file[name][row] + value

    return damage


def _swap_hits(file):
    first, last = _trees().offset[7:9]
    for name in _trees().hits.columns:
        _swap(file, f"hits/{name}", int(first), int(last) - 1)


SUM, STOPPED = "the sum of the hit energies and the leaked energy", "a hit that is not a stopped particle"
ROOT, PRIMARIES = "a first particle that is not the primary", "the sum of the primaries' energies"
CHILDREN, LEAKED = "the sum of the children's energies", "a leaked energy that is not that of the tree"

# Damage, and the faults that the full check finds; the showers can be read.
BY_FULL_CHECK = {
    "energy of a hit": (_add("hits/energy", "hits", 7, 1e-4), {SUM, STOPPED}),
    "leak": (_add("showers/leaked_energy", None, 7, 1e-3), {SUM, LEAKED}),
    "incident energy": (
        _add("showers/incident_energy", None, 7, 1000.0),
        {"an incident energy outside the spectrum of the config", PRIMARIES, SUM},
    ),
    "position of a hit": (_add("hits/x", "hits", 7, 0.5), {STOPPED}),
    "position of a primary": (_add("primaries/y", "primaries", 7, 0.5), {ROOT}),
    "energy of a primary": (_add("primaries/energy", "primaries", 7, 1e-3), {PRIMARIES, ROOT}),
    "energy of a first particle": (_add("particles/energy", "particles", 7, 1e-3), {CHILDREN, ROOT}),
    "order of the hits": (_swap_hits, {"the order of the hits", STOPPED}),
}


@pytest.mark.parametrize(("damage", "expected"), BY_FULL_CHECK.values(), ids=BY_FULL_CHECK.keys())
def test_the_full_check_finds_faults_in_readable_showers(path, damage, expected):
    with h5py.File(path, "r+") as file:
        damage(file)
    assert len(supa_datasets.load(path)) == 120
    faults = _faults(path)
    assert {fault.kind for fault in faults} == expected
    assert {fault.shower for fault in faults} == {7}
    assert {fault.count for fault in faults} <= {1, 2}


def test_faults_are_counted_over_all_pieces(path, monkeypatch):
    monkeypatch.setattr("supa_datasets.reader._PIECE_ROWS", 1000)
    monkeypatch.setattr("supa_datasets.reader._PIECE_SHOWERS", 11)
    with h5py.File(path, "r+") as file:
        for shower in (30, 31, 100):
            file["hits/energy"][_trees().offset[shower]] = np.nan
    seen = []
    with ShowerFile(path) as file:
        faults = file.faults(seen.append)
    assert Fault("a hit's energy", 3, 30) in faults
    assert seen == sorted(seen)
    assert seen[-1] == 120
    assert len(seen) > 10


def test_an_unreadable_chunk_is_a_fault(tmp_path):
    supa_datasets.save(supa.simulate(2000, seed=1), tmp_path / "a.h5", compression="gzip")
    assert _faults(tmp_path / "a.h5") == []
    with h5py.File(tmp_path / "a.h5", "r+") as file:
        file["hits/x"].id.write_direct_chunk((0,), b"rubbish")
    assert _faults(tmp_path / "a.h5") == [Fault("an unreadable shower", 2000, 0)]


def test_hits_in_passive_slices_and_incomplete_showers_are_found(tmp_path):
    showers = supa.simulate(50, seed=1, keep="complete")
    supa_datasets.save(showers, tmp_path / "a.h5")
    layers = showers.layer[: showers.offset[1]]
    with h5py.File(tmp_path / "a.h5", "r+") as file:
        rows = int((layers == 0).sum())
        file["hits/slice"][:rows] = 9  # the first slice of layer 1
        file["hits/layer"][:rows] = 1
        row = int(showers.offset[3])
        file["hits/slice"][row], file["hits/layer"][row] = 5, 0
    assert {fault.kind: (fault.count, fault.shower) for fault in _faults(tmp_path / "a.h5")} == {
        "a readout layer without a hit": (1, 0),
        "a hit in a slice in which no particle stops": (1, 3),
    }


GOOD = {
    "recorded by the reference engine": lambda: supa.simulate(40, "reference", engine="reference", record="particles"),
    "complete": lambda: supa.simulate(40, "dense", keep="complete", record="particles"),
    "cut-off": lambda: supa.simulate(40, "critical", energy="10,20.1,50", record="particles"),
    "many primaries": lambda: supa.simulate(
        40, supa.preset("standard").replace(num_primaries="poisson:9", impact_spread=2.0), record="particles"
    ),
    "tiny energies": lambda: supa.simulate(40, "symmetric", energy=1e-20, record="particles"),
    "huge energies": lambda: supa.simulate(40, "no-pass", energy="log:1e-20:1e30", record="particles"),
    "a selection in another order": lambda: _trees()[[7, 2, 2]],
    "several seeds": lambda: supa.Showers.concatenate([supa.simulate(9, seed=1), supa.simulate(9, seed=2)]),
    "imported": lambda: supa.from_hits(
        "standard", offset=[0, 2, 2], incident_energy=[1, 2], x=[0, 1], y=[0, 1], energy=[3, 4], layer=[2, 0]
    ),
    "no showers": lambda: supa.simulate(0, record="particles"),
}


@pytest.mark.parametrize("make", GOOD.values(), ids=GOOD.keys())
def test_valid_files_have_no_faults(tmp_path, make):
    supa_datasets.save(make(), tmp_path / "a.h5")
    assert _faults(tmp_path / "a.h5") == []


@pytest.mark.parametrize("ending", ["npz", "parquet"])
def test_converted_files_have_no_faults(tmp_path, path, ending):
    supa_datasets.convert(path, tmp_path / f"b.{ending}")
    supa_datasets.convert(tmp_path / f"b.{ending}", tmp_path / "c.h5")
    assert _faults(tmp_path / "c.h5") == []
