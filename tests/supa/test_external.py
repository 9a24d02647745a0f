"""Showers built from hits of another program."""

import numpy as np
import pytest

import supa
import supa_datasets

HITS = {"offset": [0, 2, 2, 3], "incident_energy": [5, 6, 7.0], "x": [0, 1, 2.0], "y": [0, 0, 1.0], "energy": [1, 2, 3]}


def test_simulated_hits_are_unchanged():
    showers = supa.simulate(50, "two-primaries", seed=4)
    again = supa.from_hits(
        showers.config, offset=showers.offset, incident_energy=showers.incident_energy, x=showers.x, y=showers.y,
        energy=showers.energy, slice=showers.slice, primary=showers.primary, primaries=showers.primaries,
        leaked_energy=showers.leaked_energy,
    )  # fmt: skip
    assert again.hits.equals(showers.hits)
    assert again.primaries.equals(showers.primaries)
    assert again.run == supa.Run(showers.config, None, 0, "imported", "all", 50)
    assert np.isfinite(again.z).all()


def test_layers_suffice_if_slices_are_unknown(tmp_path):
    showers = supa.from_hits("standard", **HITS, layer=[0, 1, 2])
    assert not showers.slices_known
    assert np.isnan(showers.z).all()
    assert list(showers.layer) == [0, 1, 2]
    assert np.isnan(showers.leaked_energy).all()
    assert list(showers.num_primaries) == [1, 1, 1]
    supa_datasets.save(showers, tmp_path / "a.h5")
    loaded = supa_datasets.load(tmp_path / "a.h5")
    assert list(loaded.slice) == [255] * 3
    assert np.isnan(loaded.leaked_energy).all()
    with pytest.raises(ValueError, match="only the layers of these hits are known"):
        supa.Grid([supa.Polar([0, 1], 2)] * 28, depth="slice").cell(showers)


def test_a_layer_with_one_slice_determines_the_slice():
    config = supa.preset("single-layer")
    (first, last), *_ = config.readout_layers
    showers = supa.from_hits("single-layer", **HITS, layer=[0, 0, 0])
    assert showers.slices_known == (first == last)
    thin = config.replace(readout_layers=[[k, k] for k in range(7, config.num_slices)])
    assert list(supa.from_hits(thin, **HITS, layer=[0, 1, 2]).slice) == [7, 8, 9]


MISTAKES = {
    "offset": ({"offset": [0, 2, 1, 3]}, "ascend from 0"),
    "offset unsigned": ({"offset": np.array([0, 5, 3, 3], np.uint32)}, "ascend from 0"),
    "offset start": ({"offset": [1, 2, 2, 3]}, "ascend from 0"),
    "offset kind": ({"offset": [0.0, 2, 2, 3]}, "ascend from 0"),
    "length": ({"x": [0, 1]}, "must be 3 numbers"),
    "shape": ({"energy": [[0, 1, 2]]}, "must be 3 numbers"),
    "words": ({"y": ["a", "b", "c"]}, "must be 3 numbers"),
    "nan": ({"x": [0, np.nan, 1]}, "nan was given"),
    "negative": ({"energy": [1, -2, 3]}, "at least 0"),
    "huge": ({"x": [0, 1e31, 1]}, "at most 1e[+]30"),
    "incident": ({"incident_energy": [1, 0, 3]}, "GeV above 0"),
    "layer": ({"layer": [0, 1, 3]}, "from 0 to 2"),
    "layer sign": ({"layer": [0, 1, -1]}, "at least 0"),
    "both": ({"slice": [7, 8, 9]}, "not both"),
    "neither": ({"layer": None}, "not both"),
    "slice": ({"layer": None, "slice": [7, 8, 28]}, "from 0 to 27"),
    "slice without layer": ({"layer": None, "slice": [7, 8, 1]}, "belongs to no layer"),
    "primary": ({"primary": [0, 0, 1]}, "does not have"),
    "index": ({"index": [0, 1]}, "3 whole numbers"),
    "leaked": ({"leaked_energy": [0, -1, 1]}, "at least 0"),
    "primaries": ({"primaries": supa.Ragged({"x": np.zeros(3)}, np.arange(4))}, "must have 3 groups"),
}


@pytest.mark.parametrize(("change", "message"), MISTAKES.values(), ids=MISTAKES)
def test_invalid_hits_raise_a_clear_error(change, message):
    with pytest.raises(ValueError, match=message):
        supa.from_hits("standard", **{**HITS, "layer": [0, 1, 2], **change})


@pytest.mark.parametrize("kind", ["i1", "u2", ">i4", "u8", "f2", ">f8"])
def test_numbers_of_every_width_are_accepted(kind):
    numbers = {name: np.array(HITS[name]).astype(kind) for name in ("incident_energy", "x", "y", "energy")}
    showers = supa.from_hits("standard", **{**HITS, **numbers}, layer=np.array([0, 1, 2], ">u2"))
    assert showers.energy.tolist() == [1, 2, 3]
    assert showers.incident_energy.tolist() == [5, 6, 7]
    edges = np.array([0, 1, 2]).astype(kind)
    assert supa.Polar(edges, 2).r_edges.tolist() == supa.Cartesian(edges, edges).x_edges.tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    "values",
    [
        [True, False, True],
        ["1", "2", "3"],
        [1j, 2, 3],
        np.array([1.0, 2, 3], object),
        [1.0, None, 2.0],
        [[1], [1, 2], 3],
    ],
    ids=["booleans", "texts", "complex", "objects", "missing", "ragged"],
)
def test_values_that_are_not_real_numbers_are_rejected(values):
    with pytest.raises(ValueError, match=r"energy: .* was given, but it must be (3|an array of) numbers"):
        supa.from_hits("standard", **{**HITS, "energy": values}, layer=[0, 1, 2])
    with pytest.raises(ValueError, match=r"r_edges: .* was given, but"):
        supa.Polar(values, 2)


def test_masked_values_and_indices_beyond_64_bits_are_rejected():
    masked = np.ma.array([1.0, 2, 3], mask=[0, 1, 0])
    with pytest.raises(ValueError, match="energy: an array with masked values was given, but no value may be masked"):
        supa.from_hits("standard", **{**HITS, "energy": masked}, layer=[0, 1, 2])
    with pytest.raises(ValueError, match=f"index: {2**63} was given, but every value must be at most {2**63 - 1}"):
        supa.from_hits("standard", **HITS, layer=[0, 1, 2], index=np.array([0, 1, 2**63], np.uint64))
