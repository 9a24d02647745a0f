"""Conversions: round trips, libraries of other formats, and figures of the reference code."""

import itertools
import json
import math
import os
import subprocess
import sys

import awkward
import h5py
import numpy as np
import pyarrow.parquet
import pytest
import showerdata
import torch_files
import uproot

import supa
import supa_datasets
from supa import Polar, Showers
from supa_datasets import FORMATS, convert, load, read_binning

WHOLE = {"npz": "b.npz", "parquet": "b.parquet", "root": "b.root", "rntuple": "b.root"}


@pytest.fixture(scope="module")
def showers() -> Showers:
    return supa.simulate(
        300, supa.preset("two-primaries").replace(polar_angle=(0, 0.5)), seed=8, energy="log:1:100", record="particles"
    )


@pytest.fixture
def path(tmp_path, showers):
    supa_datasets.save(showers, tmp_path / "a.h5")
    return tmp_path / "a.h5"


@pytest.fixture
def photons(data):
    return read_binning(data / "binning_supa.xml", "photon")


def _back(path, name: str, **options) -> Showers:
    """Convert a file to a shower file and load it."""
    target = path.parent / "back.h5"
    convert(path, target, from_format=name, to_format="supa", overwrite=True, **options)
    return load(target)


# ---------------------------------------------------------------------- lossless formats


@pytest.mark.parametrize(("name", "file"), WHOLE.items())
@pytest.mark.parametrize("kind", ["recorded", "several chunks", "selected", "none", "one empty"])
def test_lossless_formats_restore_the_same_bytes(tmp_path, showers, name, file, kind, monkeypatch):
    monkeypatch.setattr("supa_datasets.conversion.untrusted_input.MAX_CHUNK_SHOWERS", 70)
    monkeypatch.setattr("supa_datasets.conversion.root._STEP", 70)
    monkeypatch.setattr("supa_datasets.conversion.parquet._BATCH", 70)
    some = {
        "recorded": showers[:20],
        "several chunks": supa.simulate(200, first=3, seed=4, keep="complete"),
        "selected": showers[[7, 2]],
        "none": showers[:0],
        "one empty": supa.simulate(30, "critical", energy=0.1),
    }[kind]
    supa_datasets.save(some, tmp_path / "a.h5")
    assert convert(tmp_path / "a.h5", tmp_path / file, to_format=name) == len(some)
    assert convert(tmp_path / file, tmp_path / "c.h5") == len(some)
    assert load(tmp_path / "c.h5").run == load(tmp_path / "a.h5").run
    assert (tmp_path / "c.h5").read_bytes() == (tmp_path / "a.h5").read_bytes()
    assert not list(tmp_path.glob("*.partial*"))


def test_formats_convert_into_each_other(path):
    files = [path, *(path.parent / f"b{k}.{end}" for k, end in enumerate(["npz", "root", "parquet", "npz", "h5"]))]
    for source, target in itertools.pairwise(files):
        convert(source, target)
    assert files[-1].read_bytes() == path.read_bytes()


def test_npz_is_plain_numpy(path, showers):
    convert(path, path.with_suffix(".npz"))
    with np.load(path.with_suffix(".npz"), allow_pickle=False) as arrays:
        assert arrays["hits_x"].tolist() == showers.x.astype(np.float32).tolist()
        assert arrays["hits_offset"].tolist() == showers.offset.tolist()
        assert arrays["primaries_slope_x"].tolist() == showers.primaries["slope_x"].tolist()
        assert arrays["particles_offset"].tolist() == showers.particles.offset.tolist()
        assert json.loads(str(arrays["supa_run"]))["seed"] == 8


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_npz_of_other_programs_needs_few_arrays(tmp_path, save):
    columns = {"hits_x": [1.0, 2, 3], "hits_y": [0, 0, 1.5], "hits_energy": [4.0, 5, 6]}
    save(tmp_path / "a.npz", hits_offset=[0, 2, 2, 3], incident_energy=[9.0, 8, 7], hits_layer=[0, 1, 2], **columns)
    back = _back(tmp_path / "a.npz", "npz", config="dense")
    assert back.config == supa.preset("dense")
    assert back.run.engine == "imported"
    assert back.x.tolist() == columns["hits_x"]
    assert back.layer.tolist() == [0, 1, 2]
    assert back.num_hits.tolist() == [2, 0, 1]
    assert back.index.tolist() == [0, 1, 2]
    assert not back.slices_known


def test_parquet_is_exchanged_with_awkward(path, showers):
    parquet = path.with_suffix(".parquet")
    convert(path, parquet)
    array = awkward.from_parquet(parquet)
    assert array.fields == showers.to_awkward().fields
    assert awkward.flatten(array.hits.energy).to_list() == showers.energy.astype(np.float32).tolist()
    assert awkward.num(array.particles.fate).to_list() == showers.particles.counts.tolist()
    awkward.to_parquet(showers.to_awkward(), parquet)
    back = _back(parquet, "parquet", config=showers.config)
    assert back.run.engine == "imported"
    assert back.hits.equals(load(path).hits)
    assert back.primaries.equals(showers.primaries)
    assert back.index.tolist() == showers.index.tolist()


def test_awkward_arrays_become_showers(showers):
    back = supa_datasets.from_awkward(showers.to_awkward(), showers.config)
    assert back.hits.equals(showers.hits)
    assert back.primaries.equals(showers.primaries)
    assert back.leaked_energy.tolist() == showers.leaked_energy.tolist()
    few = awkward.Array([{"incident_energy": 5, "hits": [{"x": 1, "y": 2, "energy": 3, "layer": 2}]}])
    assert supa_datasets.from_awkward(few).layer.tolist() == [2]
    unknown = supa_datasets.from_awkward(supa_datasets.from_awkward(few).to_awkward())
    assert unknown.layer.tolist() == [2]
    for wrong, message in (
        ([1, 2], "got list"),
        (awkward.Array([{"incident_energy": 1.0}]), "'hits/x' is missing"),
        (
            awkward.Array([{"incident_energy": 1.0, "hits": [{"x": 1, "y": 2, "energy": None, "layer": 0}]}]),
            "hits/energy.*null",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            supa_datasets.from_awkward(wrong)


@pytest.mark.parametrize("name", ["root", "rntuple"])
def test_root_opens_in_uproot(path, showers, name):
    convert(path, path.with_suffix(".root"), to_format=name)
    with uproot.open(path.with_suffix(".root")) as file:
        tree = file["showers"]
        assert tree.num_entries == 300
        column = "hits_x" if name == "root" else "hits.x"
        read = tree[column].array()
        assert awkward.flatten(read).to_list() == showers.x.astype(np.float32).tolist()
        assert awkward.num(read).to_list() == showers.num_hits.tolist()


# ---------------------------------------------------------------------- showerdata


@pytest.mark.parametrize("depth", ["slice", "layer"])
def test_written_files_open_in_showerdata(path, showers, depth):
    convert(path, path.with_name("b.h5"), to_format="showerdata", depth=depth)
    theirs = showerdata.load(path.with_name("b.h5"))
    assert len(theirs) == 300
    assert theirs.points.shape == (300, showers.num_hits.max(), 4)
    assert theirs.shower_ids.tolist() == showers.index.tolist()
    assert set(theirs.pdg.tolist()) == {22}
    np.testing.assert_allclose(theirs.energies[:, 0], showers.incident_energy, rtol=1e-7)
    np.testing.assert_allclose(np.linalg.norm(theirs.directions, axis=1), 1, rtol=1e-6)
    for k in (0, 7, 299):
        one, points = showers[k], theirs.points[k]
        expected = np.stack([one.x, one.y, one.slice if depth == "slice" else one.layer, one.energy], axis=1)
        assert points[: len(one.x)].tolist() == expected.astype(np.float32).tolist()
        assert not points[len(one.x) :].any()
        slope = theirs.directions[k, 0] / theirs.directions[k, 2]
        assert slope == pytest.approx(one.primaries["slope_x"][0], rel=1e-5)
    with showerdata.ShowerDataFile(path.with_name("b.h5")) as file:
        assert file[3].points.shape[1] == showers.num_hits.max()
    back = _back(path.with_name("b.h5"), "showerdata")
    assert back.config == showers.config
    assert back.layer.tolist() == showers.layer.tolist()
    assert back.energy.tolist() == showers.energy.astype(np.float32).tolist()
    assert back.slices_known == (depth == "slice")


def test_files_of_showerdata_are_read(tmp_path):
    points = np.zeros((3, 4, 5), dtype=np.float32)
    points[0, :3] = [[1, 2, 7, 0.5, 0], [3, 4, 9, 0.25, 1], [5, 6, 27, 0.125, 2]]
    points[2, :1] = [[-1, -2, 8, 3, 0]]
    directions = np.array([[0, 0, 1], [0.6, 0, 0.8], [0, -0.6, 0.8]], dtype=np.float32)
    showerdata.Showers(points, [10, 20, 30], 11, directions, [5, 6, 9]).save(tmp_path / "a.h5")
    notes: list[str] = []
    back = _back(tmp_path / "a.h5", "showerdata", note=notes.append)
    assert back.x.tolist() == [1, 3, 5, -1]
    assert back.slice.tolist() == [7, 9, 27, 8]
    assert back.layer.tolist() == [0, 1, 2, 0]
    assert back.num_hits.tolist() == [3, 0, 1]
    assert back.incident_energy.tolist() == [10, 20, 30]
    assert back.index.tolist() == [5, 6, 9]
    np.testing.assert_allclose(back.primaries["slope_x"], [0, 0.75, 0], rtol=1e-6)
    np.testing.assert_allclose(back.primaries["slope_y"], [0, 0, -0.75], rtol=1e-6)
    assert any("'standard' is assumed" in sentence for sentence in notes)
    assert any("times" in sentence for sentence in notes)
    points[..., 2] = [[0, 1, 2, 0]] * 3
    showerdata.Showers(points, [10, 20, 30], 22).save(tmp_path / "layers.h5")
    layers = _back(tmp_path / "layers.h5", "showerdata", depth="layer")
    assert layers.layer.tolist() == [0, 1, 2, 0]


def test_equally_long_and_empty_showers_are_written(tmp_path):
    for counts in ([2, 2, 2], [2], [0, 0], [0, 1]):
        rows = sum(counts)
        made = supa.from_hits(
            "standard",
            offset=np.concatenate([[0], np.cumsum(counts)]),
            incident_energy=np.ones(len(counts)),
            x=np.arange(rows, dtype=float),
            y=np.zeros(rows),
            energy=np.ones(rows),
            slice=np.full(rows, 7),
        )
        supa_datasets.save(made, tmp_path / "a.h5", overwrite=True)
        convert(tmp_path / "a.h5", tmp_path / "b.h5", to_format="showerdata", overwrite=True)
        assert np.count_nonzero(showerdata.load(tmp_path / "b.h5").points[:, :, 3], axis=1).tolist() == counts
        assert _back(tmp_path / "b.h5", "showerdata").num_hits.tolist() == counts


def test_showers_without_slices_need_the_layer_as_depth(path):
    convert(path, path.with_name("b.h5"), to_format="showerdata", depth="layer")
    convert(path.with_name("b.h5"), path.with_name("c.h5"), to_format="supa")
    with pytest.raises(
        ValueError, match=r"d\.h5: these showers .* have only the layers of their hits; .*--depth layer"
    ):
        convert(path.with_name("c.h5"), path.with_name("d.h5"), to_format="showerdata")
    convert(path.with_name("c.h5"), path.with_name("d.h5"), to_format="showerdata", depth="layer")
    first, second = (showerdata.load(path.with_name(name)) for name in ("b.h5", "d.h5"))
    assert second.points.tolist() == first.points.tolist()
    np.testing.assert_allclose(second.directions, first.directions, rtol=1e-6, atol=1e-7)


# ---------------------------------------------------------------------- cells


def test_calogan_grids_of_the_reference_showers_match_the_stored_figures(shared_reference, tmp_path):
    truth = json.loads((shared_reference.parent / "calogan_grids_65GeV_seed1234.json").read_text())
    showers = supa.simulate(1000, "reference", engine="reference", seed=1234, keep="complete")
    supa_datasets.save(showers, tmp_path / "a.h5")
    convert(tmp_path / "a.h5", tmp_path / "b.hdf5", to_format="calogan")
    with h5py.File(tmp_path / "b.hdf5") as file:
        assert file["energy"][:].tolist() == [[65.0]] * 1000
        for layer in range(3):
            image, expected = file[f"layer_{layer}"][:], truth[f"layer_{layer}"]
            # Shower files store float32.
            assert image.sum() / 1000 == pytest.approx(expected["mean_inside_MeV"], rel=1e-6)
            assert file["overflow"][:, layer].mean() == pytest.approx(expected["mean_overflow_MeV"], rel=1e-4)
            assert (image > 0).mean() == pytest.approx(expected["occupancy"], rel=1e-5)
            assert image.max(axis=(1, 2)).mean() == pytest.approx(expected["hottest_cell_mean_MeV"], rel=1e-6)


def test_calogan_grids_equal_histograms(data, tmp_path):
    """The reference code fills its grids with numpy.histogram2d."""
    with np.load(data / "reference_65GeV_seed1234_60showers.npz") as sample:
        columns = {name: sample[name] for name in sample.files}
    offset = np.searchsorted(columns["shower"], np.arange(61))
    hits = {name: columns[name] for name in ("x", "y", "energy", "layer")}
    made = supa.from_hits("reference", offset=offset, incident_energy=np.full(60, 65.0), **hits)
    supa_datasets.save(made, tmp_path / "a.h5")
    stored = load(tmp_path / "a.h5")
    convert(tmp_path / "a.h5", tmp_path / "b.h5", to_format="calogan")
    with h5py.File(tmp_path / "b.h5") as file:
        for layer, (nx, ny, half) in enumerate([(3, 96, 5), (12, 12, 10), (12, 6, 15)]):
            for k in range(60):
                chosen = stored[k].layer == layer
                x, y, energy = (stored[k].hits[name][chosen] for name in ("x", "y", "energy"))
                edges = [np.linspace(-half, half, nx + 1), np.linspace(-half, half, ny + 1)]
                image = 1000 * np.histogram2d(x, y, edges, weights=energy)[0]
                np.testing.assert_allclose(file[f"layer_{layer}"][k], image, rtol=1e-12, atol=1e-12)
                lost = 1000 * energy.sum(dtype=np.float64) - image.sum()
                assert file["overflow"][k, layer] == pytest.approx(lost, abs=1e-9)


def test_calogan_cells_are_restored_after_a_round_trip(path):
    convert(path, path.with_name("b.h5"), to_format="calogan")
    back = _back(path.with_name("b.h5"), "calogan")
    assert not back.slices_known
    convert(path.with_name("back.h5"), path.with_name("c.h5"), to_format="calogan")
    with h5py.File(path.with_name("b.h5")) as first, h5py.File(path.with_name("c.h5")) as second:
        assert first["energy"][:].tolist() == second["energy"][:].tolist()
        for name in ("layer_0", "layer_1", "layer_2"):
            np.testing.assert_allclose(second[name][:], first[name][:], rtol=1e-6)
        assert not second["overflow"][:].any()


def test_a_binning_is_read(data):
    photon, pion = (read_binning(data / "binning_supa.xml", name) for name in ("photon", "211"))
    assert photon.parts[0] == Polar([0, 0.5, 1, 1.5, 2, 3, 4, 6], 8)
    assert [part.shape for part in photon.parts] == [(8, 7), (16, 8), (4, 5)]
    assert pion.parts == (Polar([0, 6], 1), None, Polar([0, 20], 1))
    with pytest.raises(ValueError, match=r"several particles.*photon \(22\), pion \(211\)"):
        read_binning(data / "binning_supa.xml")


@pytest.mark.parametrize("depth", ["layer", "slice"])
def test_calochallenge_voxels_equal_loops_over_the_cells(path, showers, photons, depth):
    grid = photons if depth == "layer" else supa.Grid([Polar([0, 1, 3, 9], 5)] * 28)
    convert(path, path.with_name("b.h5"), to_format="calochallenge", binning=grid)
    with h5py.File(path.with_name("b.h5")) as file:
        voxels, incident = file["showers"][:], file["incident_energies"][:]
    assert incident[:, 0].tolist() == (1000 * showers.incident_energy).tolist()
    stored = load(path)
    for k in (0, 41):
        one, expected = stored[k], []
        for number, part in enumerate(grid.parts):
            image = np.zeros((part.num_alpha, len(part.r_edges) - 1))
            for x, y, energy, place in zip(one.x, one.y, one.energy, getattr(one, depth), strict=True):
                r, turn = math.hypot(x, y), (math.atan2(y, x) + math.pi) / (2 * math.pi)
                ring = sum(r >= edge for edge in part.r_edges) - 1
                if place == number and 0 <= ring < image.shape[1]:
                    image[min(int(turn * part.num_alpha), part.num_alpha - 1), ring] += 1000 * float(energy)
            expected.append(image.ravel())
        np.testing.assert_allclose(voxels[k], np.concatenate(expected), rtol=1e-9, atol=1e-12)
    back = _back(path.with_name("b.h5"), "calochallenge", binning=grid)
    assert back.slices_known == (depth == "slice")
    np.testing.assert_allclose(back.incident_energy, showers.incident_energy, rtol=1e-15)
    convert(path.with_name("back.h5"), path.with_name("c.h5"), to_format="calochallenge", binning=grid)
    with h5py.File(path.with_name("c.h5")) as file:
        np.testing.assert_allclose(file["showers"][:], voxels, rtol=1e-6)


def test_a_binning_must_fit_the_calorimeter(path, photons, data):
    target = path.with_name("b.h5")
    with pytest.raises(ValueError, match=r"needs its binning \(--binning XML"):
        convert(path, target, to_format="calochallenge")
    with pytest.raises(ValueError, match=r"has 4 layers, but it must have 3 .* or 28"):
        convert(path, target, to_format="calochallenge", binning=supa.Grid([*photons.parts, None]))
    with pytest.raises(ValueError, match=r"has 3 layers, but it must have 28 \(the slices\)"):
        convert(path, target, to_format="calochallenge", binning=photons, depth="slice")
    pion = read_binning(data / "binning_supa.xml", "pion")
    notes: list[str] = []
    convert(path, target, to_format="calochallenge", binning=pion, note=notes.append)
    lost = pion.overflow(load(path)).sum() / load(path).energy.sum(dtype=np.float64)
    assert f"{lost:.2%} of the hit energy is outside" in " ".join(notes)
    assert list(path.parent.glob("*.partial*")) == []


def test_the_fraction_of_lost_energy_is_never_negative(tmp_path):
    """If all hits are in cells, the sums over hits and cells differ by a rounding error of either sign."""
    grid = supa.Grid([supa.Polar([0, 1, 2, 1e6], 8)] * 3)
    for seed in (0, 2, 4, 5):
        rng = np.random.default_rng(seed)
        made = supa.from_hits(
            "standard",
            offset=[0, 100, 200, 300],
            incident_energy=[65.0] * 3,
            x=rng.normal(size=300),
            y=rng.normal(size=300),
            energy=rng.lognormal(0, 8, 300).astype(np.float32),
            layer=rng.integers(0, 3, 300),
        )
        supa_datasets.save(made, tmp_path / "a.h5", overwrite=True)
        notes: list[str] = []
        convert(
            tmp_path / "a.h5",
            tmp_path / "b.h5",
            to_format="calochallenge",
            binning=grid,
            overwrite=True,
            note=notes.append,
        )
        assert notes[-1].startswith("0.00% of the hit energy is outside")


# ---------------------------------------------------------------------- the reference code's pickles


def _lists(data):
    """Return the showers of the reference code as nested lists of layers and points."""
    with np.load(data / "reference_65GeV_seed1234_60showers.npz") as sample:
        table = np.stack([sample["x"], sample["y"], sample["energy"]], axis=1)
        place = 3 * sample["shower"].astype(int) + sample["layer"]
        return (
            table,
            place,
            [[[point.copy() for point in table[place == 3 * k + layer]] for layer in range(3)] for k in range(60)],
        )


def _as_arrays(lists):
    return [[np.array(layer) for layer in shower] for shower in lists]


def _as_numbers(lists):
    return [[[[float(p[0]), p[1], p[2]] for p in layer] for layer in shower] for shower in lists]


@pytest.mark.parametrize("form", [list, _as_arrays, _as_numbers])
@pytest.mark.parametrize("write", [torch_files.write_zip, torch_files.write_legacy])
def test_pickles_of_the_reference_code_are_read(data, tmp_path, form, write):
    table, place, lists = _lists(data)
    write(tmp_path / "shower_batch3.bin", torch_files.pickled(form(lists)))
    write(tmp_path / "tot_energy_batch3.bin", torch_files.pickled([np.array([65.0])] * 60))
    notes: list[str] = []
    back = _back(tmp_path / "shower_batch3.bin", "reference", note=notes.append)
    assert back.config == supa.preset("reference")
    assert "'reference' is assumed" in notes[0]
    assert back.x.tolist() == table[:, 0].astype(np.float32).tolist()
    assert back.energy.tolist() == table[:, 2].astype(np.float32).tolist()
    assert (3 * back.hits.group_of_row() + back.layer).tolist() == place.tolist()
    assert back.incident_energy.tolist() == [65.0] * 60
    assert not back.slices_known


@pytest.mark.parametrize("legacy", [False, True])
def test_files_written_by_torch_are_read(data, tmp_path, legacy):
    torch = pytest.importorskip("torch")
    table, _, lists = _lists(data)
    for name, value in (("shower_batch1.bin", lists), ("tot_energy_batch1.bin", [np.array([65.0])] * 60)):
        torch.save(value, tmp_path / name, _use_new_zipfile_serialization=not legacy)
    assert _back(tmp_path / "shower_batch1.bin", "reference").y.tolist() == table[:, 1].astype(np.float32).tolist()


def test_torch_is_not_imported(data, tmp_path):
    torch_files.write_zip(tmp_path / "shower_batch1.bin", torch_files.pickled(_lists(data)[2]))
    torch_files.write_zip(tmp_path / "tot_energy_batch1.bin", torch_files.pickled([np.array([65.0])] * 60))
    code = (
        "import sys, supa_datasets; supa_datasets.convert('shower_batch1.bin', 'a.h5'); "
        "sys.exit(any(name in sys.modules for name in ('torch', 'showerdata', 'pyarrow', 'uproot', 'awkward')))"
    )
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)


# ---------------------------------------------------------------------- the converter


def test_progress_and_result_count_the_showers(path, monkeypatch):
    monkeypatch.setattr("supa_datasets.conversion.untrusted_input.MAX_CHUNK_SHOWERS", 128)
    told = []
    assert convert(path, path.with_suffix(".npz"), progress=lambda *numbers: told.append(numbers)) == 300
    assert told == [(0, 300), (128, 300), (256, 300), (300, 300)]


@pytest.mark.parametrize("name", [name for name, form in FORMATS.items() if form.writer])
def test_an_interruption_leaves_no_files(path, photons, name):
    def interrupted(done, _total):
        if done:
            raise KeyboardInterrupt

    before = path.read_bytes()
    target = path.with_name("b.any")
    with pytest.raises(KeyboardInterrupt):
        convert(path, target, to_format=name, binning=photons, progress=interrupted)
    assert sorted(path.parent.iterdir()) == [path]
    target.write_text("old")
    with pytest.raises(KeyboardInterrupt):
        convert(path, target, to_format=name, binning=photons, progress=interrupted, overwrite=True)
    assert target.read_text() == "old"
    assert path.read_bytes() == before


FULL = """
import resource, signal, sys
import supa_datasets
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
binning = supa_datasets.read_binning(sys.argv[1], "photon")
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
for name in sys.argv[2:]:
    try:
        supa_datasets.convert("a.h5", "b.any", to_format=name, binning=binning)
    except OSError as error:
        print(name, error)
"""


def test_a_full_disk_is_one_error_and_leaves_no_files(tmp_path, data):
    """HDF5 must neither print an error of its own nor crash, not even at the end of the process."""
    supa_datasets.save(supa.simulate(6000), tmp_path / "a.h5")
    names = [name for name, form in FORMATS.items() if form.writer]
    done = subprocess.run(
        [sys.executable, "-c", FULL, data / "binning_supa.xml", *names],
        cwd=tmp_path, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    for name, line in zip(names, done.stdout.splitlines(), strict=True):
        assert line.startswith(f"{name} b.any: the file cannot be written")
    assert [file.name for file in tmp_path.iterdir()] == ["a.h5"]


def test_invalid_names_are_errors(path, tmp_path):
    npz = path.with_suffix(".npz")
    for arguments, options, kind, message in (
        ((path, path), {"to_format": "npz"}, ValueError, "the target is the source file"),
        ((path, tmp_path / "absent" / "a.npz"), {}, FileNotFoundError, "absent does not exist; make it first"),
        ((tmp_path / "absent.h5", npz), {}, FileNotFoundError, "there is no such file"),
        ((tmp_path, npz), {}, ValueError, "a folder without manifest.json"),
        (
            (path, tmp_path / "a.txt"),
            {},
            ValueError,
            r"no format has this file extension; choose one .*parquet \(.parquet .pq\)",
        ),
        (
            (path, tmp_path / "b.h5"),
            {},
            ValueError,
            r"both files have the format 'supa'; choose the format to write \(--to",
        ),
        ((path, tmp_path / "b.bin"), {}, ValueError, "'reference' can be read, but not written"),
        ((path, npz), {"to_format": "rar"}, ValueError, "no format 'rar'; choose from supa, showerdata"),
        ((path, npz), {"depth": "z"}, ValueError, "depth: 'z' was given"),
        ((path, npz), {"config": "dense"}, ValueError, "stores the config of its showers, but another config"),
    ):
        with pytest.raises(kind, match=message):
            convert(*arguments, **options)
    npz.write_text("old")
    with pytest.raises(FileExistsError, match=r"a\.npz exists; choose another name or overwrite it"):
        convert(path, npz)
    assert sorted(tmp_path.iterdir()) == [path, npz]
    convert(path, npz, overwrite=True)
    (tmp_path / "c.npz.partial").write_text("somebody's")
    with pytest.raises(FileExistsError, match=r"c\.npz\.partial exists"):
        convert(path, tmp_path / "c.npz")
    (tmp_path / "link.npz").symlink_to(tmp_path / "real.npz")
    convert(path, tmp_path / "link.npz")
    assert (tmp_path / "link.npz").is_symlink()
    assert (tmp_path / "real.npz").read_bytes() == npz.read_bytes()


@pytest.mark.parametrize(("missing", "file"), [("pyarrow", "b.parquet"), ("uproot", "b.root")])
def test_a_missing_package_is_named(path, missing, file, monkeypatch):
    for name in [name for name in sys.modules if name.split(".")[0] == missing]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(ValueError, match=r"pip install 'supa-showers\[hep\]'"):
        convert(path, path.with_name(file))
    assert list(path.parent.iterdir()) == [path]


def test_chunks_are_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr("supa_datasets.conversion.untrusted_input.MAX_CHUNK_ROWS", 1000)
    supa_datasets.save(supa.simulate(300), tmp_path / "a.h5")
    steps: list[int] = []
    convert(tmp_path / "a.h5", tmp_path / "a.parquet", progress=lambda done, _: steps.append(done))
    assert max(np.diff(steps)) == 1000 * 300 // supa.simulate(300).hits.num_rows
    assert pyarrow.parquet.ParquetFile(tmp_path / "a.parquet").num_row_groups == len(steps) - 1


def test_the_source_file_is_never_overwritten(tmp_path):
    """The temporary name NAME.partial may be the name of the source or a link to it."""
    supa_datasets.save(supa.simulate(5), tmp_path / "a.h5.partial")
    before = (tmp_path / "a.h5.partial").read_bytes()
    with pytest.raises(ValueError, match="is that of the source file"):
        supa_datasets.convert(
            tmp_path / "a.h5.partial", tmp_path / "a.h5", from_format="supa", to_format="npz", overwrite=True
        )
    assert (tmp_path / "a.h5.partial").read_bytes() == before
    supa_datasets.save(supa.simulate(5), tmp_path / "s.h5")
    (tmp_path / "q.npz.partial").symlink_to("s.h5")
    with pytest.raises(ValueError, match="not a regular file"):
        supa_datasets.convert(tmp_path / "s.h5", tmp_path / "q.npz", overwrite=True)
    os.mkfifo(tmp_path / "r.npz.partial")
    with pytest.raises(ValueError, match="not a regular file"):
        supa_datasets.convert(tmp_path / "s.h5", tmp_path / "r.npz", overwrite=True)
    assert len(supa_datasets.load(tmp_path / "s.h5")) == 5


def test_a_calogan_file_without_showers_is_read(tmp_path):
    supa_datasets.save(supa.simulate(0), tmp_path / "a.h5")
    supa_datasets.convert(tmp_path / "a.h5", tmp_path / "b.h5", to_format="calogan")
    assert supa_datasets.convert(tmp_path / "b.h5", tmp_path / "c.h5", to_format="supa") == 0
