"""Observables: plain Python reference, symmetries, exact expectations and edge cases."""

import dataclasses
import doctest
import inspect
import re

import naive_observables as naive
import numpy as np
import pytest
from tracing import without_trace

import supa
from supa import CALOGAN, Cartesian, Grid, Polar, Ragged, Showers
from supa import observables as obs

RADII, FRACTIONS, DISTANCES = (0, 1, 2, 5), (1e-4, 1e-2, 1), (0, 1, 3, 10)
SPECIAL = {
    "radial_profile": lambda showers: obs.radial_profile(showers, RADII),
    "hit_spectrum": lambda showers: obs.hit_spectrum(showers, FRACTIONS),
    "pair_distances": lambda showers: obs.pair_distances(showers, DISTANCES),
    "pair_distances lateral": lambda showers: obs.pair_distances(showers, DISTANCES, lateral=True),
    "mean_pair_distance lateral": lambda showers: obs.mean_pair_distance(showers, lateral=True),
}
NOT_OBSERVABLES = {"calogan", "calochallenge", "table", "hit_table", "label", "hit_fraction"}
OF_GRIDS = {"occupancy", "sparsity", "cell_ratio"}
OF_TREES = {name for name in obs.__all__ if "generation" in name or "path" in name} | {
    "num_splits",
    "branching_fraction",
}
OF_SLICES = {"slice_hits", "slice_energy", "slice_fraction", "pair_distances"}
OF_HITS = {"hit_generation", "hit_path_length"}


def _computed(showers: Showers, grid: Grid | None = None) -> dict[str, np.ndarray]:
    names = set(obs.__all__) - NOT_OBSERVABLES | set(SPECIAL)
    names -= OF_TREES if showers.particles is None else set()
    names -= OF_GRIDS if grid is None else set()
    names -= set() if showers.slices_known else OF_SLICES
    result = {}
    for name in sorted(names):
        if name in SPECIAL:
            result[name] = SPECIAL[name](showers)
        else:
            result[name] = getattr(obs, name)(showers, *([grid] if name in OF_GRIDS else []))
    return result


def _from_hits(showers: Showers, **changes) -> Showers:
    columns = {name: showers.hits[name] for name in ("x", "y", "energy", "slice", "primary")} | changes
    return supa.from_hits(
        showers.config, offset=showers.offset, incident_energy=showers.incident_energy, primaries=showers.primaries,
        **columns,
    )  # fmt: skip


def _with_hits(showers: Showers, **columns) -> Showers:
    return dataclasses.replace(
        showers, hits=Ragged({**showers.hits.columns, **columns}, showers.offset), particles=None
    )


def _layers_only(showers: Showers) -> Showers:
    return _from_hits(showers, slice=None, layer=showers.layer)


def _without_some(showers: Showers) -> Showers:
    """Return showers with few or no hits, hits on the axis and hits without energy."""
    counts = np.minimum(showers.num_hits, np.arange(len(showers)) % 7)
    kept = np.concatenate([np.arange(k, k + c) for k, c in zip(showers.offset[:-1], counts, strict=True)])
    columns = {name: column[kept].copy() for name, column in showers.hits.columns.items()}
    columns["energy"][::5] = 0
    columns["x"][::3], columns["y"][::3] = 0, 0
    hits = Ragged(columns, np.concatenate([[0], np.cumsum(counts)]))
    return dataclasses.replace(showers, hits=hits, particles=None)


POLAR = Grid((Polar([0, 1, 2, 4], 5), None, Polar([0.5, 3], 1)))
SAMPLES = {
    "standard": lambda: (supa.simulate(40, seed=1), CALOGAN),
    "complete": lambda: (supa.simulate(40, seed=1, keep="complete", energy="log:1:100"), POLAR),
    "trees": lambda: (supa.simulate(50, seed=2, record="particles"), None),
    "two primaries": lambda: (supa.simulate(20, "two-primaries", seed=3, record="particles"), CALOGAN),
    "critical": lambda: (supa.simulate(100, "critical", seed=4, record="particles"), CALOGAN),
    "dense": lambda: (supa.simulate(2, "dense", seed=4, record="particles"), CALOGAN),
    "single layer": lambda: (supa.simulate(40, "single-layer", seed=5), Grid((Cartesian([-3, 0, 3], [-2, 0, 1]),))),
    "leaking": lambda: (
        supa.simulate(
            80, supa.ShowerConfig(num_slices=9, readout_layers=[[5, 8]], slice_spacing=0.5), record="particles"
        ),
        None,
    ),
    "no primary": lambda: (
        supa.simulate(100, supa.ShowerConfig(num_primaries="poisson:0.5"), record="particles"),
        CALOGAN,
    ),
    "layers only": lambda: (_layers_only(supa.simulate(40, seed=6)), CALOGAN),
    "few hits": lambda: (_without_some(supa.simulate(200, seed=7)), CALOGAN),
    "float32": lambda: (
        _from_hits(s := supa.simulate(40, seed=8), **{n: s.hits[n].astype(np.float32) for n in ("x", "y", "energy")}),
        CALOGAN,
    ),
}


@pytest.mark.parametrize("sample", SAMPLES)
def test_observables_equal_the_plain_python_reference(sample):
    showers, grid = SAMPLES[sample]()
    computed = _computed(showers, grid)
    reference = without_trace(naive.observables)  # loops of plain Python
    references = [reference(shower, grid, RADII, FRACTIONS, DISTANCES) for shower in showers]
    assert computed.keys() == references[0].keys()
    for name, values in computed.items():
        expected = np.array(
            [value for r in references for value in r[name]] if name in OF_HITS else [r[name] for r in references]
        )
        assert values.shape == expected.shape, name
        assert values.dtype == (np.int64 if expected.dtype.kind == "i" and name != "max_generation" else np.float64), (
            name
        )
        np.testing.assert_allclose(values, expected, rtol=1e-9, atol=1e-12, err_msg=name)


def test_hit_fraction_is_hit_energy_over_incident_energy():
    showers = supa.simulate(20, energy="1:9", record="particles")
    incident = showers.incident_energy[showers.hits.group_of_row()]
    np.testing.assert_array_equal(obs.hit_fraction(showers), showers.energy / incident)


def _equal(left: dict[str, np.ndarray], right: dict[str, np.ndarray], rtol: float = 1e-12) -> None:
    assert left.keys() == right.keys()
    for name, values in left.items():
        np.testing.assert_allclose(values, right[name], rtol=rtol, atol=rtol, err_msg=name)


def test_rotation_by_90_degrees_swaps_x_and_y():
    showers = supa.simulate(100, seed=9)
    square = Grid((Cartesian(np.linspace(-4, 4, 9), np.linspace(-4, 4, 9)),) * 3)
    before, after = _computed(showers, square), _computed(_with_hits(showers, x=-showers.y, y=showers.x), square)
    after |= {
        "centre_x": after["centre_y"], "centre_y": -after["centre_x"], "width_x": after["width_y"],
        "width_y": after["width_x"], "anisotropy": -after["anisotropy"],
    }  # fmt: skip
    _equal(before, after)


def test_only_the_response_depends_on_the_scale_of_the_hit_energies():
    showers = supa.simulate(100, seed=9)
    scaled = _with_hits(showers, energy=3.7 * showers.energy)
    both = dataclasses.replace(scaled, incident_energy=3.7 * showers.incident_energy)
    _equal(obs.table(showers), obs.table(both), rtol=1e-11)
    np.testing.assert_allclose(obs.response(scaled), 3.7 * obs.response(showers))


def test_observables_do_not_depend_on_the_order_of_hits():
    showers = supa.simulate(100, seed=9)
    order = np.concatenate([np.random.default_rng(k).permutation(n) for k, n in enumerate(showers.num_hits)])
    order += np.repeat(showers.offset[:-1], showers.num_hits)
    shuffled = Ragged({name: column[order] for name, column in showers.hits.columns.items()}, showers.offset)
    _equal(_computed(showers, CALOGAN), _computed(dataclasses.replace(showers, hits=shuffled), CALOGAN), rtol=1e-10)


def test_values_do_not_depend_on_the_other_showers():
    """Selection, repetition and concatenation do not change a single bit."""
    showers = supa.simulate(60, "two-primaries", seed=10, record="particles")
    order = [7, 7, 3, *range(59, 0, -2)]
    whole, chosen = obs.table(showers), obs.table(showers[order])
    parts = [obs.table(showers[:11]), obs.table(showers[11:])]
    for name, values in whole.items():
        np.testing.assert_array_equal(chosen[name], values[order], err_msg=name)
        np.testing.assert_array_equal(np.concatenate([part[name] for part in parts]), values, err_msg=name)


@pytest.mark.parametrize("name", ["standard", "two-primaries", "single-layer"])
def test_means_agree_with_exact_expectations(name):
    """Use 20,000 showers and 4 standard errors: about 100 means give 0.006 false alarms for a new seed."""
    showers, exact = supa.simulate(20_000, name, seed=1), supa.expectation(name)
    for values, truth in (
        (obs.layer_hits(showers), exact.layer_hits),
        (obs.layer_fraction(showers), exact.layer_energy),
        (obs.num_hits(showers)[:, None], [exact.total_hits]),
        (obs.slice_hits(showers)[:, 7:20], exact.hits[7:20]),
        (obs.slice_fraction(showers)[:, 7:20], exact.energy[7:20]),
    ):
        error = values.std(axis=0) / np.sqrt(len(showers))
        assert (np.abs(values.mean(axis=0) - truth) <= 4 * error + 1e-12).all()


def test_anisotropy_detects_the_rotation_of_the_reference_preset():
    """From layer 1 on, y spreads more than x. The standard preset prefers no direction."""
    for name, biased in (("standard", False), ("reference", True)):
        values = obs.anisotropy(supa.simulate(20_000, name, seed=3))[:, 1]
        values = values[~np.isnan(values)]
        pull = values.mean() / (values.std() / np.sqrt(len(values)))
        assert (pull > 5) if biased else abs(pull) < 4


def test_edges_0_and_infinity_count_everything():
    showers = supa.simulate(100, seed=11)
    everything = [0, 1, 2, np.inf]
    np.testing.assert_allclose(obs.radial_profile(showers, everything).sum(axis=1), obs.response(showers), rtol=1e-12)
    np.testing.assert_array_equal(obs.hit_spectrum(showers, [0, 1e-3, np.inf]).sum(axis=1), showers.num_hits)
    pairs = showers.num_hits * (showers.num_hits - 1) // 2
    np.testing.assert_array_equal(obs.pair_distances(showers, everything).sum(axis=1), pairs)


def test_bins_include_their_lower_edge_and_the_last_bin_its_upper_edge():
    showers = supa.from_hits(
        "standard", offset=[0, 4], incident_energy=[8], x=[0, 1, 2, 4], y=[0] * 4, energy=[1, 2, 4, 8], slice=[7] * 4
    )
    np.testing.assert_array_equal(obs.radial_profile(showers, [0, 1, 2])[0] * 8, [1, 6])
    np.testing.assert_array_equal(obs.hit_spectrum(showers, [0.25, 0.5, 1])[0], [1, 2])
    np.testing.assert_array_equal(obs.pair_distances(showers, [1, 2, 4])[0], [2, 4])


def test_width_of_a_narrow_layer_far_from_the_axis_is_exact():
    showers = supa.from_hits(
        "standard", offset=[0, 2], incident_energy=[2], x=[1e8 - 1, 1e8 + 1], y=[0, 0], energy=[1, 1], slice=[7, 7]
    )
    assert obs.width_x(showers)[0, 0] == 1
    assert obs.width_r(showers)[0, 0] == 1


EMPTY = {"offset": [0, 0], "incident_energy": [5], "x": [], "y": [], "energy": []}


@pytest.mark.parametrize("n", [0, 1, 3])
@pytest.mark.parametrize("known", ["slice", "layer"])
def test_showers_without_hits_and_empty_samples(n, known):
    empty = {**EMPTY, "offset": [0] * (n + 1), "incident_energy": [5] * n}
    showers = supa.from_hits("standard", **empty, **{known: np.zeros(0, dtype=int)})
    computed = _computed(showers, CALOGAN)
    zeros = {"num_hits", "total_energy", "response", "occupancy", "radial_profile", "hit_spectrum"}
    for name, values in computed.items():
        assert len(values) == n
        if name in zeros or name.startswith(("layer_", "slice_", "pair_distances")):
            assert (values == 0).all(), name
        else:
            assert (values == 1).all() if name == "sparsity" else np.isnan(values).all(), name
    assert {len(values) for values in obs.table(showers).values()} == {n}
    assert {len(values) for values in obs.hit_table(showers).values()} == {0}


def test_empty_sample_with_trees():
    showers = supa.simulate(0, record="particles")
    assert all(values.shape[:1] == (0,) for values in _computed(showers, CALOGAN).values())
    assert all(values.shape == (0,) for values in obs.table(showers).values())


def test_depth_is_undefined_if_some_slices_are_unknown():
    config = supa.preset("standard").replace(readout_layers=[[5, 7], [8, 17], [18, 18], [19, 27]])
    showers = supa.from_hits(
        config, offset=[0, 2, 3], incident_energy=[1, 1], x=[0] * 3, y=[0] * 3, energy=[1] * 3, layer=[0, 2, 2]
    )
    assert not showers.slices_known
    np.testing.assert_array_equal(obs.depth_mean(showers), [np.nan, 36])
    np.testing.assert_array_equal(obs.depth_start(showers), [np.nan, 36])
    np.testing.assert_array_equal(obs.mean_pair_distance(showers), [np.nan, np.nan])


MISTAKES = {
    "slices": (lambda: obs.slice_hits(_layers_only(supa.simulate(3))), "slice_hits needs .* use layer_hits"),
    "slice energy": (lambda: obs.slice_energy(_layers_only(supa.simulate(3))), "use layer_energy"),
    "slice fraction": (lambda: obs.slice_fraction(_layers_only(supa.simulate(3))), "use layer_fraction"),
    "pairs": (lambda: obs.pair_distances(_layers_only(supa.simulate(3)), [0, 1]), "use lateral=True"),
    "trees": (lambda: obs.mean_generation(supa.simulate(3)), "record='particles'"),
    "splits": (lambda: obs.num_splits(supa.simulate(3)), "record='particles'"),
    "one edge": (lambda: obs.radial_profile(supa.simulate(3), [1]), "2 or more ascending"),
    "descending": (lambda: obs.hit_spectrum(supa.simulate(3), [1, 0]), "2 or more ascending"),
    "nan": (lambda: obs.pair_distances(supa.simulate(3), [0, np.nan]), "2 or more ascending"),
    "words": (lambda: obs.pair_distances(supa.simulate(3), "ab"), "2 or more ascending"),
    "grid": (lambda: obs.occupancy(supa.simulate(30), Grid((Polar([0, 1], 2),))), "numbered from 0"),
    "table's grid": (lambda: obs.table(supa.simulate(3, "single-layer"), grid=CALOGAN), r"1 for .*got 3 parts"),
    "table's depth": (lambda: obs.table(supa.simulate(3), grid=Grid([None] * 3, depth="slice")), "one per slice"),
}


@pytest.mark.parametrize(("make", "message"), MISTAKES.values(), ids=MISTAKES)
def test_wrong_arguments_raise_a_clear_error(make, message):
    with pytest.raises(ValueError, match=message):
        make()


# ---------------------------------------------------------------------- tables


def test_table_contains_the_observables(monkeypatch):
    """Compare each column with the function of the same name, for several block sizes."""
    showers = supa.simulate(150, "two-primaries", seed=12, energy="log:1:100", record="particles")
    table = obs.table(showers)
    monkeypatch.setattr("supa.observables.tables._BLOCK_HITS", 500)
    for name, values in obs.table(showers).items():
        np.testing.assert_array_equal(values, table[name], err_msg=name)
    functions = {"hits": "layer_hits", "energy fraction": "layer_fraction"}
    for column, values in table.items():
        name, _, layer = column.partition(", layer ")
        if name == "mean pair distance in x, y":
            expected = obs.mean_pair_distance(showers, lateral=True)
        else:
            function = getattr(obs, functions.get(name, name.replace(" ", "_")))
            expected = function(showers, *([CALOGAN] if name in ("occupancy", "cell ratio") else []))
        np.testing.assert_array_equal(values, expected[:, int(layer)] if layer else expected, err_msg=column)
        assert values.dtype == np.float64
        assert values.flags.c_contiguous
    assert len(table) == 14 + 3 * 11


def test_only_the_response_is_constant():
    """The standard preset conserves energy, so the response is 1 up to rounding."""
    for name, values in obs.table(supa.simulate(2000, record="particles")).items():
        assert (np.nanstd(values) > 1e-4) == (name != "response"), name


def test_table_omits_meaningless_columns():
    def families(showers: Showers, **options) -> set[str]:
        return {name.partition(", layer ")[0] for name in obs.table(showers, **options)}

    standard = families(supa.simulate(5))
    assert standard - families(_layers_only(supa.simulate(5))) == {
        "depth mean", "depth width", "depth start", "depth maximum", "mean pair distance",
    }  # fmt: skip
    single = {"hits", "energy fraction", "occupancy", "cell ratio"}
    assert standard - families(supa.simulate(5, "single-layer")) == single
    some_cells = obs.table(supa.simulate(5), grid=Grid((None, Polar([0, 1], 1), Polar([0, 1, 2], 1))))
    assert [name for name in some_cells if "cell" in name or "occ" in name] == [
        "occupancy, layer 2", "cell ratio, layer 2",
    ]  # fmt: skip
    many = obs.table(supa.simulate(5, supa.preset("standard").replace(readout_layers=[[k, k] for k in range(7, 28)])))
    assert {name.partition(", layer ")[2] for name in many} == {"", *map(str, range(8))}


def test_table_reveals_a_wrong_energy_scale():
    showers = supa.simulate(100)
    table = obs.table(_with_hits(showers, energy=1.01 * showers.energy))
    np.testing.assert_allclose(table["response"], 1.01, rtol=1e-12)


def test_hit_table_contains_positions_and_log_energies():
    showers = supa.simulate(50, seed=13)
    table = obs.hit_table(showers)
    assert list(table) == ["x", "y", "r", "z", "log energy fraction"]
    np.testing.assert_array_equal(table["z"], showers.z)
    np.testing.assert_allclose(table["r"] ** 2, showers.x**2 + showers.y**2)
    np.testing.assert_allclose(65 * 10 ** table["log energy fraction"], showers.energy)
    assert "layer" in obs.hit_table(_layers_only(showers))
    assert np.isnan(obs.hit_table(_with_hits(showers, energy=0 * showers.energy))["log energy fraction"]).all()


def test_labels_contain_units():
    showers = supa.simulate(2, record="particles")
    lengths = {name for name in [*obs.table(showers), *obs.hit_table(showers)] if "(length unit)" in obs.label(name)}
    with_length = r"^(depth|centre|width|mean radius|mean pair|mean path|[xyrz]$)"
    assert lengths == {name for name in [*obs.table(showers), *obs.hit_table(showers)] if re.match(with_length, name)}
    assert obs.label("width x, layer 1") == "width x, layer 1 (length unit)"
    assert obs.label("num_hits") == "num_hits"


# ---------------------------------------------------------------------- documents and imports


def test_every_observable_is_documented(root):
    page = (root / "docs" / "explanation" / "observables.md").read_text()
    names = set(obs.__all__) - {"calogan", "calochallenge"}
    for module in (obs.calogan, obs.calochallenge):
        short = module.__name__.rpartition(".")[2]
        names |= {
            f"{short}.{name}"
            for name, value in vars(module).items()
            if inspect.isfunction(value) and value.__module__ == module.__name__ and not name.startswith("_")
        }
    assert {name for name in names if f"`{name}" not in page} == set()
    columns = {*obs.table(supa.simulate(2, record="particles")), *obs.hit_table(supa.simulate(2))}
    assert {name for name in columns if f"`{name.partition(', layer ')[0]}`" not in page} == set()


@pytest.mark.parametrize("module", [obs.calogan, obs.calochallenge])
def test_module_example_runs(module):
    assert doctest.testmod(module).failed == 0


def test_importing_supa_does_not_import_observables():
    import subprocess
    import sys

    code = "import supa, sys; assert not any('observables' in name for name in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
