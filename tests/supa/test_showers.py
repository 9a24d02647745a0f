"""The container of showers."""

import sys

import numpy as np
import pytest

import supa
from supa import Showers


@pytest.fixture(scope="module")
def showers() -> Showers:
    return supa.simulate(40, "two-primaries", seed=6, record="particles")


def _same(chosen: Showers, numbers: list[int], showers: Showers) -> None:
    assert chosen.index.tolist() == showers.index[numbers].tolist()
    assert chosen.num_hits.tolist() == showers.num_hits[numbers].tolist()
    assert chosen.offset[0] == 0
    assert chosen.offset[-1] == len(chosen.x) == len(chosen.energy) == len(chosen.slice)
    for place, k in enumerate(numbers):
        for name in showers.hits.columns:
            hits = showers.hits[name][showers.offset[k] : showers.offset[k + 1]]
            part = chosen.hits[name][chosen.offset[place] : chosen.offset[place + 1]]
            assert part.tolist() == hits.tolist()
        assert chosen.particles is not None
        assert chosen.particles.counts[place] == showers.particles.counts[k]


@pytest.mark.parametrize(
    ("key", "numbers"),
    [
        (slice(3, 7), [3, 4, 5, 6]),
        (slice(None, None, 9), [0, 9, 18, 27, 36]),
        (slice(5, 2), []),
        (slice(None, None, -13), [39, 26, 13, 0]),
        (0, [0]),
        (-1, [39]),
        (np.int32(4), [4]),
        ([3, 3, -1], [3, 3, 39]),
        ([], []),
        (np.array([2, 1], dtype=np.uint8), [2, 1]),
        (np.arange(40) % 20 == 1, [1, 21]),
    ],
)
def test_indexing_works_as_for_an_array(showers, key, numbers):
    _same(showers[key], numbers, showers)


@pytest.mark.parametrize(
    ("key", "message"),
    [
        (40, "Shower 40 does not exist; there are 40 showers"),
        (-41, "Shower -41 does not exist"),
        ([0, 99], "Shower 99 does not exist"),
        (np.ones(3, dtype=bool), "A mask of 3 entries was given for 40 showers"),
        ("x", "not 'x'"),
        (1.5, r"not 1\.5"),
        (True, "not True"),
        (np.ones((2, 2), dtype=int), "one-dimensional"),
        (None, "not None"),
    ],
)
def test_invalid_indices_raise_a_clear_error(showers, key, message):
    with pytest.raises(IndexError, match=message):
        showers[key]


def test_slices_share_memory_and_other_selections_are_copies(showers):
    assert np.shares_memory(showers[3:9].x, showers.x)
    assert not np.shares_memory(showers[[3, 4]].x, showers.x)
    assert not np.shares_memory(showers.copy().x, showers.x)


def test_concatenation_reverses_iteration_and_slicing(showers):
    assert Showers.concatenate(list(showers)) == showers
    assert len(list(showers)) == len(showers) == 40
    assert Showers.concatenate([showers[:7], showers[7:7], showers[7:]]) == showers


def test_incompatible_showers_cannot_be_concatenated(showers):
    with pytest.raises(ValueError, match="at least one Showers object"):
        Showers.concatenate([])
    with pytest.raises(ValueError, match="different configs"):
        Showers.concatenate([showers, supa.simulate(1)])
    with pytest.raises(ValueError, match="with and without recorded particles"):
        Showers.concatenate([showers, supa.simulate(1, "two-primaries", seed=6)])


def test_attempts_are_unknown_for_selections(showers):
    assert showers.run.attempts == 40
    assert showers[:].run.attempts == 40
    assert showers[1:].run.attempts is None
    assert showers[[0]].run.attempts is None
    both = Showers.concatenate([showers, supa.simulate(5, "two-primaries", seed=7, record="particles")])
    assert (both.run.attempts, both.run.seed) == (45, None)


def test_showers_that_differ_in_any_column_are_not_equal(showers):
    assert showers == showers.copy()
    assert showers != showers[:39]
    assert showers != supa.simulate(40, "two-primaries", seed=6)
    for table, column in (("hits", "x"), ("hits", "primary"), ("primaries", "energy"), ("particles", "parent")):
        other = showers.copy()
        getattr(other, table).columns[column][5] += 1
        assert showers != other
    assert showers != "showers"
    with pytest.raises(TypeError, match="unhashable"):
        hash(showers)


def test_repr_describes_the_showers(showers):
    text = repr(showers)
    for part in ("40 of two-primaries", "65.0 GeV", "seed 6", f"{showers.hits.num_rows:,} hits", "particles recorded"):
        assert part in text
    assert "a custom config" in repr(supa.simulate(1, supa.ShowerConfig(deviation=0.1)))
    assert "0 of standard" in repr(supa.simulate(0))
    assert "attempts" in repr(supa.simulate(3, keep="complete"))


def test_columns_have_their_types_and_meaning(showers):
    assert {name: str(column.dtype) for name, column in showers.hits.columns.items()} == {
        "x": "float64",
        "y": "float64",
        "energy": "float64",
        "slice": "uint8",
        "layer": "uint8",
        "primary": "uint8",
    }
    assert showers.offset.dtype == np.int64
    assert showers.z.tolist() == [2.0 * s for s in showers.slice]
    edges = [first for first, _ in showers.config.readout_layers]
    assert showers.layer.tolist() == (np.searchsorted(edges, showers.slice, side="right") - 1).tolist()
    order = np.lexsort((showers.slice, showers.hits.group_of_row()))
    assert order.tolist() == list(range(showers.hits.num_rows))
    assert showers.num_primaries.tolist() == [2] * 40


def test_columns_become_data_frames_without_copies(showers):
    pandas = pytest.importorskip("pandas")
    columns = showers.hit_columns()
    assert np.shares_memory(columns["x"], showers.x)
    frame = pandas.DataFrame(columns)
    per_shower = pandas.DataFrame(showers.shower_columns())
    sums = frame.groupby("shower")["energy"].sum()
    np.testing.assert_allclose(sums + per_shower["leaked_energy"], per_shower["incident_energy"])


def test_awkward_arrays_share_memory(showers):
    awkward = pytest.importorskip("awkward")
    array = showers.to_awkward()
    assert len(array) == 40
    assert awkward.num(array.hits).tolist() == showers.num_hits.tolist()
    assert awkward.flatten(array.hits.energy).tolist() == showers.energy.tolist()
    assert np.shares_memory(awkward.flatten(array.hits.x, axis=None).to_numpy(), showers.x)
    assert awkward.num(array.particles).tolist() == showers.particles.counts.tolist()


def test_error_names_the_missing_package_awkward(showers, monkeypatch):
    monkeypatch.setitem(sys.modules, "awkward", None)
    with pytest.raises(ValueError, match=r"pip install 'supa-showers\[hep\]'"):
        showers.to_awkward()


def test_trajectories_lead_from_the_primary_to_the_hit(showers):
    paths = showers.trajectories()
    particles = showers.particles
    assert len(paths) == showers.hits.num_rows
    last = paths.offset[1:] - 1
    for name in ("x", "y", "energy", "slice"):
        assert paths[name][last].tolist() == showers.hits[name].tolist()
    assert (paths["slice"][paths.offset[:-1]] == 0).all()
    steps = np.setdiff1d(np.arange(paths.num_rows), paths.offset[:-1])
    assert (np.diff(paths["slice"].astype(int))[steps - 1] == 1).all()
    base = particles.offset[:-1][particles.group_of_row()]
    child, parent = paths["particle"][steps], paths["particle"][steps - 1]
    assert (base[child] + particles["parent"][child] == parent).all()
    assert particles["primary"][paths["particle"][last]].tolist() == showers.primary.tolist()


def test_trajectories_need_recorded_particles():
    with pytest.raises(ValueError, match="record='particles'"):
        supa.simulate(1).trajectories()


def test_an_image_contains_the_energy_inside_its_edges(showers):
    edges = (np.linspace(-4, 4, 9), np.linspace(-6, 6, 5))
    for layer in (0, 1, None):
        image = showers.image(edges, layer=layer)
        for k, shower in enumerate(showers):
            chosen = slice(None) if layer is None else shower.layer == layer
            expected, *_ = np.histogram2d(shower.x[chosen], shower.y[chosen], bins=edges, weights=shower.energy[chosen])
            np.testing.assert_allclose(image[k], expected, atol=1e-12)


def test_images_of_reference_showers_equal_the_published_ones(shared_reference):
    """Compare mean energy, occupancy and hottest cell of each layer with the grids of the reference code."""
    import json

    published = json.loads((shared_reference.parent / "calogan_grids_65GeV_seed1234.json").read_text())
    showers = supa.simulate(1000, "reference", engine="reference", seed=1234, keep="complete")
    grids = [
        (np.linspace(-5, 5, 4), np.linspace(-5, 5, 97)),
        (np.linspace(-10, 10, 13), np.linspace(-10, 10, 13)),
        (np.linspace(-15, 15, 13), np.linspace(-15, 15, 7)),
    ]
    for layer, edges in enumerate(grids):
        image, expected = 1000 * showers.image(edges, layer=layer), published[f"layer_{layer}"]
        total = 1000 * showers.energy[showers.layer == layer].sum() / len(showers)
        inside = image.sum() / len(showers)
        assert inside == pytest.approx(expected["mean_inside_MeV"], rel=1e-12)
        assert total - inside == pytest.approx(expected["mean_overflow_MeV"], rel=1e-6)
        assert (image > 0).mean() == pytest.approx(expected["occupancy"], rel=1e-12)
        assert image.max(axis=(1, 2)).mean() == pytest.approx(expected["hottest_cell_mean_MeV"], rel=1e-12)


@pytest.mark.parametrize("edges", [([0, 1], [1, 0]), ([0], [0, 1]), ([[0, 1]], [0, 1]), ([0, 0], [0, 1])])
def test_edges_must_ascend(showers, edges):
    with pytest.raises(ValueError, match="2 or more ascending numbers"):
        showers.image(edges)


def test_an_image_needs_a_layer_that_exists(showers):
    with pytest.raises(ValueError, match="layer: 3 was given, but it must be a whole number from 0 to 2"):
        showers.image(([0, 1], [0, 1]), layer=3)


def test_the_smallest_negative_index_is_the_first_shower(showers):
    _same(showers[-40], [0], showers)
