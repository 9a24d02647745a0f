"""Damaged and malicious files: one clear error, no code runs, and no files are left behind."""

import contextlib
import io
import os
import pickle
import zipfile

import awkward
import h5py
import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import showerdata
import torch_files
import uproot

import supa
import supa_datasets
from supa_datasets import convert, read_binning

HUGE = 10**12
PIECES = {"npz": "b.npz", "parquet": "b.parquet", "root": "b.root", "rntuple": "b.root", "showerdata": "b.h5",
          "calogan": "b.h5", "calochallenge": "b.h5", "supa": "b.h5"}  # fmt: skip


@pytest.fixture(scope="module")
def whole(tmp_path_factory, data_folder):
    """One valid file of each format."""
    folder = tmp_path_factory.mktemp("whole")
    supa_datasets.save(supa.simulate(40, seed=3), folder / "a.h5")
    files = {"supa": folder / "a.h5"}
    binning = read_binning(data_folder / "binning_supa.xml", "photon")
    for name in PIECES:
        if name != "supa":
            files[name] = folder / f"{name}.any"
            convert(folder / "a.h5", files[name], to_format=name, binning=binning)
    return files


@pytest.fixture(scope="module")
def data_folder(request):
    return request.config.rootpath / "tests" / "data"


def _refused(path, message: str, name: str, **options) -> None:
    """Check that a conversion raises one error that names the file and leaves no files behind."""
    before = sorted(path.parent.iterdir())
    with pytest.raises(ValueError, match=message) as error:
        convert(path, path.parent / "out.any", from_format=name, to_format="npz", **options)
    text = str(error.value)
    assert text.startswith(str(path.parent)), text
    assert "\n" not in text
    assert len(text) < 500 + len(str(path))
    assert sorted(path.parent.iterdir()) == before


# ---------------------------------------------------------------------- every format


def _empty(path):
    path.write_bytes(b"")


def _text(path):
    path.write_text("hello, this is no file of showers\n" * 20)


def _half(path):
    os.truncate(path, path.stat().st_size // 2)


def _tail(path):
    os.truncate(path, path.stat().st_size - 500)  # the last 100 bytes of a ROOT file only list its free space


def _head(path):
    path.write_bytes(b"x" * 64 + path.read_bytes()[64:])


@pytest.mark.parametrize("name", PIECES)
@pytest.mark.parametrize("damage", [_empty, _text, _half, _tail, _head])
def test_broken_files_of_every_format_are_an_error(tmp_path, whole, data_folder, name, damage):
    path = tmp_path / PIECES[name]
    path.write_bytes(whole[name].read_bytes())
    damage(path)
    _refused(path, ".", name, binning=read_binning(data_folder / "binning_supa.xml", "photon"))


@pytest.mark.parametrize("name", PIECES)
def test_random_changes_raise_clear_errors_or_are_harmless(tmp_path, whole, data_folder, name):
    """The result is either one clear error or showers. No other exception is raised, and no file is left behind."""
    binning = read_binning(data_folder / "binning_supa.xml", "photon")
    generator = np.random.default_rng(5)
    content = np.frombuffer(whole[name].read_bytes(), np.uint8)
    path, out = tmp_path / PIECES[name], tmp_path / "out.npz"
    for _ in range(12):
        changed = content.copy()
        place = generator.integers(0, min(len(content), 4000), 8)
        changed[place] = generator.integers(0, 256, 8)
        path.write_bytes(changed.tobytes())
        with contextlib.suppress(ValueError):
            convert(path, out, from_format=name, to_format="npz", binning=binning, overwrite=True)
            out.unlink()
        assert sorted(tmp_path.iterdir()) == [path]


# ---------------------------------------------------------------------- HDF5


def _edit(change):
    def apply(path):
        with h5py.File(path, "r+") as file:
            change(file)

    return apply


def _replace(name, values, **options):
    def change(file):
        del file[name]
        file.create_dataset(name, data=values, **options)

    return _edit(change)


def _put(name, place, value):
    return _edit(lambda file: file[name].__setitem__(place, value))


def _claim(name, shape, kind="f4", **options):
    def change(file):
        del file[name]
        file.create_dataset(name, shape, kind, **options)

    return _edit(change)


def _external_link(name):
    def change(file):
        del file[name]
        file[name] = h5py.ExternalLink("/etc/passwd", name)

    return _edit(change)


def _external_storage(name, shape):
    def change(file):
        del file[name]
        file.create_dataset(name, shape, "f8", external=[("/etc/passwd", 0, h5py.h5f.UNLIMITED)])

    return _edit(change)


def _points(place, values):
    def change(file):
        file["showers"][place] = np.array(values, dtype=np.float32)

    return _edit(change)


def _config(text):
    return _edit(lambda file: file.attrs.create("supa_config", text))


HDF5 = {
    "no points": ("showerdata", _edit(lambda f: f.pop("showers")), "the dataset 'showers' is missing"),
    "no shape": ("showerdata", _edit(lambda f: f.pop("shape")), "the dataset 'shape' is missing"),
    "features": ("showerdata", _replace("shape", [40, 9, 3]), r"its shape is \[40, 9, 3\]"),
    "negative shape": ("showerdata", _replace("shape", [-1, 9, 4]), r"its shape is \[-1, 9, 4\]"),
    "other length": ("showerdata", _replace("shape", [41, 9, 4]), "must be numbers of shape 41"),
    "list of integers": (
        "showerdata",
        _claim("showers", (40,), h5py.vlen_dtype(np.int32)),
        "claims 40 rows|lists of int32",
    ),
    "texts": ("showerdata", _claim("showers", (40,), h5py.string_dtype()), "claims 40 rows|must be numbers"),
    "half a point": ("showerdata", _points(3, [1, 2, 7]), "has 3 numbers, which is not a multiple of 4"),
    "negative energy": ("showerdata", _points(3, [1, 2, 7, -1]), "energy: -1.0 was given"),
    "not a number": ("showerdata", _points(3, [np.nan, 2, 7, 1]), "x: nan was given"),
    "infinite energy": ("showerdata", _points(3, [1, 2, 7, np.inf]), "energy: inf was given"),
    "broken depth": ("showerdata", _points(3, [1, 2, 7.5, 1]), "depth is not the number of a slice"),
    "depth not a number": ("showerdata", _points(3, [1, 2, np.nan, 1]), "depth is not the number of a slice"),
    "negative depth": ("showerdata", _points(3, [1, 2, -1, 1]), "depth is not the number of a slice"),
    "too deep": ("showerdata", _points(3, [1, 2, 28, 1]), "from 0 to 27"),
    "in no layer": ("showerdata", _points(3, [1, 2, 0, 1]), "belongs to no layer"),
    "no energy": ("showerdata", _put("energies", 5, 0), "incident_energy: 0.0 was given"),
    "backwards": ("showerdata", _put("directions", 5, [0, 0, -1]), "does not point into the calorimeter"),
    "direction": ("showerdata", _put("directions", 5, [0, np.nan, 1]), "a direction is not finite"),
    "identity": ("showerdata", _put("shower_ids", 5, -1), "index: -1 was given"),
    "depth word": ("showerdata", _edit(lambda f: f.attrs.modify("supa_depth", "z")), "neither 'slice' nor 'layer'"),
    "config": ("showerdata", _config('{"num_slices": -1}'), "num_slices: -1 was given"),
    "config kind": ("showerdata", _config(5), "the attribute 'supa_config' must be a string"),
    "points claimed": ("showerdata", _put("num_points", slice(None), 2**31 - 1), "would need .* GB of memory"),
    "rows claimed": (
        "showerdata",
        lambda path: [
            _replace("shape", [HUGE, 9, 4])(path),
            _claim("showers", (HUGE,), h5py.vlen_dtype(np.float32))(path),
        ],
        r"claims 1,000,000,000,000 rows, but the file does not contain them",
    ),
    "cells shape": ("calogan", _replace("layer_1", np.zeros((40, 12, 11))), "must be numbers of shape 40x12x12"),
    "cells length": ("calogan", _replace("layer_2", np.zeros((39, 12, 6))), "must be numbers of shape 40x12x6"),
    "cells kind": ("calogan", _replace("layer_2", np.zeros((40, 12, 6), "S3")), "must be numbers of shape"),
    "cell not a number": ("calogan", _put("layer_0", (3, 1, 1), np.nan), "a cell's energy is negative or not finite"),
    "negative cell": ("calogan", _put("layer_0", (3, 1, 1), -1e-9), "a cell's energy is negative or not finite"),
    "incident shape": ("calogan", _replace("energy", np.ones(40)), "must be numbers of shape Nx1"),
    "incident energy": ("calogan", _put("energy", 3, -65), "incident_energy: -65.0 was given"),
    "external link": ("calogan", _external_link("layer_0"), "the dataset 'layer_0' is missing"),
    "external data": ("calogan", _external_storage("energy", (40, 1)), "is stored in another file"),
    "cells claimed": ("calogan", _claim("energy", (HUGE, 1)), "claims 1,000,000,000,000 rows"),
    "one huge chunk": (
        "calogan",
        _claim("energy", (HUGE, 1), chunks=(2**29, 1)),
        "claims|would need",
    ),
    "another config": (
        "calogan",
        _config(supa.preset("single-layer").to_json()),
        "have 3 layers, but the showers have 1",
    ),
    "voxels": ("calochallenge", _replace("showers", np.zeros((40, 7))), r"must be numbers of shape 40x\d+"),
    "voxel": ("calochallenge", _put("showers", (2, 2), -1), "a cell's energy is negative or not finite"),
    "voxels missing": ("calochallenge", _edit(lambda f: f.pop("incident_energies")), "'incident_energies' is missing"),
    "voxels claimed": (
        "calochallenge",
        lambda path: [
            _claim("incident_energies", (HUGE, 1), chunks=(100, 1))(path),
            _claim("showers", (HUGE, 9), chunks=(100, 9))(path),
        ],
        "claims 1,000,000,000,000 rows",
    ),
    "native": ("supa", _put("showers/offset", 3, 10**9), "must be whole numbers that ascend from 0"),
}


@pytest.mark.parametrize(("name", "damage", "message"), HDF5.values(), ids=HDF5)
def test_damaged_hdf5_is_one_clear_error(tmp_path, whole, data_folder, name, damage, message):
    path = tmp_path / "b.h5"
    path.write_bytes(whole[name].read_bytes())
    damage(path)
    _refused(path, message, name, binning=read_binning(data_folder / "binning_supa.xml", "photon"))


def test_an_hdf5_file_of_an_unknown_format_is_an_error(tmp_path):
    with h5py.File(tmp_path / "b.h5", "w") as file:
        file["something"] = [1, 2]
    with pytest.raises(ValueError, match="in none of the formats supa, showerdata, calogan, calochallenge"):
        convert(tmp_path / "b.h5", tmp_path / "c.npz")


def test_an_empty_file_prepared_by_showerdata_is_an_error(tmp_path):
    showerdata.create_empty_file(tmp_path / "b.h5", (10, 5, 4))
    _refused(tmp_path / "b.h5", "claims 10 rows, but the file does not contain them", "showerdata")


# ---------------------------------------------------------------------- npz


def _arrays(path):
    with np.load(path) as arrays:
        return dict(arrays)


def _npz(**changes):
    def apply(path):
        arrays = {name: value for name, value in {**_arrays(path), **changes}.items() if value is not None}
        np.savez(path, **arrays)

    return apply


def _header(name, shape):
    """Change the length in the header of an array."""

    def apply(path):
        arrays = _arrays(path)
        with zipfile.ZipFile(path, "w") as archive:
            for key, value in arrays.items():
                content = io.BytesIO()
                np.lib.format.write_array(content, value)
                if key == name:
                    data, content = value.tobytes(), io.BytesIO()
                    header = {"descr": value.dtype.str, "fortran_order": False, "shape": shape}
                    np.lib.format.write_array_header_1_0(content, header)
                    content.write(data)
                archive.writestr(f"{key}.npy", content.getvalue())

    return apply


class Bomb:
    """Creates a folder when it is unpickled."""

    def __reduce__(self):
        return os.mkdir, ("it ran",)


NO_OFFSET = "the array 'hits_offset': .* must be whole numbers that ascend from 0"
NPZ = {
    "pickled objects": (_npz(hits_x=np.array([Bomb(), None])), "must be one-dimensional numbers"),
    "pickled run": (_npz(supa_run=np.array(Bomb())), "allow_pickle|Object arrays"),
    "run": (_npz(supa_run=np.array("{}")), "its supa_run is invalid: '{}'"),
    "run number": (_npz(supa_run=np.array(5)), "its supa_run is not a string"),
    "decreasing offsets": (_npz(hits_offset=np.r_[0, 50, 40, np.full(38, 60)]), NO_OFFSET),
    "offsets from 1": (_npz(hits_offset=np.arange(1, 42)), NO_OFFSET),
    "offsets of nothing": (_npz(hits_offset=np.zeros(0, int)), NO_OFFSET),
    "real offsets": (_npz(hits_offset=np.zeros(41)), NO_OFFSET),
    "offsets beyond": (_npz(hits_offset=np.r_[np.zeros(40, int), HUGE]), f"rows, but it needs {HUGE}"),
    "missing": (_npz(hits_x=None), "the column 'hits/x' is missing"),
    "missing offsets": (_npz(hits_offset=None), "the array 'hits_offset' is missing"),
    "lengths": (_npz(hits_x=np.zeros(3, np.float32)), "'hits_x' has 3 rows, but it needs"),
    "shape": (_npz(hits_x=np.zeros((3, 3), np.float32)), "must be one-dimensional numbers"),
    "kind": (_npz(index=np.zeros(40, np.int32)), "the column 'index' must be int64, got int32"),
    "texts": (_npz(hits_x=np.array(["a", "b"])), "must be one-dimensional numbers"),
    "primary": (_npz(primaries_energy=np.full(40, -1.0)), "a primary's energy is not possible"),
    "incident": (_npz(incident_energy=np.full(40, np.nan)), "an incident energy is not possible"),
    "rows claimed": (_header("hits_x", (HUGE,)), "claims 1,000,000,000,000 rows, but the file does not contain them"),
    "negative rows": (_header("hits_x", (-1,)), "."),
}


@pytest.mark.parametrize(("damage", "message"), NPZ.values(), ids=NPZ)
def test_damaged_npz_is_one_clear_error(tmp_path, whole, monkeypatch, damage, message):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "b.npz"
    path.write_bytes(whole["npz"].read_bytes())
    damage(path)
    _refused(path, message, "npz")


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"hits_energy": [1, -2.0]}, "energy: -2.0 was given"),
        ({"hits_x": [1, np.inf]}, "x: inf was given"),
        ({"hits_layer": [0, 3]}, "from 0 to 2"),
        ({"hits_layer": [0.5, 1]}, "whole numbers"),
        ({"incident_energy": [0.0]}, "incident_energy: 0.0 was given"),
        ({"primaries_offset": [0, 2], "hits_primary": [0, 2]}, "does not have"),
        ({"primaries_slope_x": [np.nan]}, "primaries/slope_x: a value is not finite"),
        ({"index": [-4]}, "index: -4 was given"),
    ],
)
def test_impossible_showers_in_npz(tmp_path, columns, message):
    good = {"hits_offset": [0, 2], "incident_energy": [9.0], "hits_layer": [0, 1]}
    good |= {f"hits_{name}": [1.0, 2.0] for name in ("x", "y", "energy")}
    if any("primar" in name for name in columns):
        rows = columns.get("primaries_offset", [0, 1])[-1]
        good |= {f"primaries_{name}": np.ones(rows) for name in ("energy", "x", "y", "slope_x", "slope_y")}
        good["primaries_offset"] = [0, 1]
    np.savez(tmp_path / "b.npz", **{**good, **columns})
    _refused(tmp_path / "b.npz", message, "npz")


# ---------------------------------------------------------------------- Parquet and ROOT


def _hits(**changes):
    return {"x": 1.0, "y": 2.0, "energy": 3.0, "slice": 7, **changes}


RECORDS = {
    "no hits": ([{"incident_energy": 1.0}], "'hits/x' is missing"),
    "no incident energy": ([{"hits": [_hits()]}], "'incident_energy' is missing"),
    "negative": ([{"incident_energy": 1.0, "hits": [_hits(energy=-1.0)]}], "energy: -1.0 was given"),
    "not a number": ([{"incident_energy": 1.0, "hits": [_hits(y=float("nan"))]}], "y: nan was given"),
    "too deep": ([{"incident_energy": 1.0, "hits": [_hits(slice=200)]}], "from 0 to 27"),
    "texts": ([{"incident_energy": 1.0, "hits": [_hits(x="a")]}], "."),
    "nested": ([{"incident_energy": 1.0, "hits": [_hits(x=[1.0])]}], "."),
    "null": (
        [{"incident_energy": 1.0, "hits": [_hits(x=None), _hits()]}],
        r"'hits/x' has a missing value \(null\) in shower 0",
    ),
}


@pytest.mark.parametrize(("records", "message"), RECORDS.values(), ids=RECORDS)
def test_impossible_showers_in_parquet(tmp_path, records, message):
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(records), tmp_path / "b.parquet")
    _refused(tmp_path / "b.parquet", message, "parquet")


def test_a_parquet_file_that_decompresses_beyond_the_memory_is_an_error(tmp_path, monkeypatch):
    rows = pyarrow.array(np.zeros(300_000))
    table = pyarrow.table({"incident_energy": rows, "hits": [[_hits()]] * 300_000})
    pyarrow.parquet.write_table(table, tmp_path / "b.parquet", compression="zstd")
    monkeypatch.setattr("supa_datasets.conversion.untrusted_input.available_bytes", lambda: 10**6)
    _refused(tmp_path / "b.parquet", "a row group would need 0.0 GB of memory, more than is available", "parquet")


def test_an_invalid_run_in_parquet_is_an_error(tmp_path, whole):
    table = pyarrow.parquet.read_table(whole["parquet"])
    for text, message in (
        ("[]", "its supa_run is"),
        (b"\xff\xfe", "its supa_run is"),
        ("[" * 10**5, "its supa_run"),
        ('{"seed": 1, "seed": 2}', "the key 'seed' is given twice"),
    ):
        pyarrow.parquet.write_table(table.replace_schema_metadata({"supa_run": text}), tmp_path / "b.parquet")
        _refused(tmp_path / "b.parquet", message, "parquet")


@pytest.mark.parametrize("make", ["mktree", "mkrntuple"])
def test_damaged_root_is_one_clear_error(tmp_path, make):
    path = tmp_path / "b.root"
    hits = {"x": "f8", "y": "f8", "energy": "f8", "slice": "i8"}

    def write(name="showers", energy=3.0, **more):
        with uproot.recreate(path) as file:
            fields = ", ".join(f"{key}: {np.dtype(kind)}" for key, kind in hits.items())
            row = {key: value for key, value in _hits(energy=energy).items() if key in hits}
            tree = getattr(file, make)(name, {"incident_energy": "f8", "hits": f"var * {{{fields}}}"})
            tree.extend({"incident_energy": np.ones(1), "hits": awkward.Array([[row]])})
            for key, value in more.items():
                file[key] = value

    write()
    convert(path, tmp_path / "c.npz")
    (tmp_path / "c.npz").unlink()
    write(name="others")
    _refused(path, "it has no TTree or RNTuple named 'showers'", "root")
    write(energy=-3.0)
    _refused(path, "energy: -3.0 was given", "root")
    write(supa_run="{}")
    _refused(path, "its supa_run is invalid: '{}'", "root")
    del hits["energy"]
    write()
    _refused(path, "'hits/energy' is missing", "root")


def test_an_alias_in_a_root_file_is_not_evaluated(tmp_path, monkeypatch):
    """A TTree of uproot evaluates the aliases of a file as Python expressions if columns are read by expression."""
    monkeypatch.chdir(tmp_path)
    with uproot.recreate(tmp_path / "b.root") as file:
        file.mktree("showers", {"other": "f8"}).extend({"other": np.ones(3)})
    monkeypatch.setattr(
        uproot.behaviors.TTree.TTree, "aliases", property(lambda _: {"incident_energy": "other * 2", "hits_x": "other"})
    )
    _refused(tmp_path / "b.root", "'incident_energy' is missing", "root")


# ---------------------------------------------------------------------- binnings


def _xml(layers, before="", particle='pid="22" name="photon"'):
    return f"{before}<Bins><Bin {particle}>{layers}</Bin></Bins>"


LAUGHS = "".join(f'<!ENTITY a{k + 1} "{f"&a{k};" * 10}">' for k in range(12))
XML = {
    "billion laughs": (
        _xml('<Layer id="0" r_edges="0,&a12;" n_bin_alpha="1"/>', f'<!DOCTYPE Bins [<!ENTITY a0 "1">{LAUGHS}]>'),
        "declares a document type",
    ),
    "external entity": (
        _xml("&secret;", '<!DOCTYPE Bins [<!ENTITY secret SYSTEM "file:///etc/passwd">]>'),
        "declares a document type",
    ),
    "parameter entity": (
        _xml("", '<!DOCTYPE Bins [<!ENTITY % more SYSTEM "http://127.0.0.1:9/a.dtd"> %more;]>'),
        "declares a document type",
    ),
    "external document type": (_xml("", '<!DOCTYPE Bins SYSTEM "http://127.0.0.1:9/a.dtd">'), "declares a document"),
    "unknown entity": (_xml('<Layer id="0" r_edges="&b;" n_bin_alpha="1"/>'), "not valid XML"),
    "truncated": (_xml('<Layer id="0" r_edges="0,1" n_bin_alpha="1"/>')[:-9], "not valid XML"),
    "empty": ("", "not valid XML"),
    "json": ('{"Bins": []}', "not valid XML"),
    "encoding": ('<?xml version="1.0" encoding="klingon"?>' + _xml(""), "not valid XML"),
    "too large": (_xml(" " * (1 << 20)), "larger than 1 MiB"),
    "deep": ("<a>" * 50_000, "not valid XML"),
    "no bins": ("<Bins></Bins>", "no element Bins with a Bin"),
    "no layers": (_xml(""), "its Bin has no Layer"),
    "ids": (_xml('<Layer id="1" r_edges="0,1" n_bin_alpha="1"/>'), r"have the ids \[1\]"),
    "id": (_xml('<Layer id="one" r_edges="0,1" n_bin_alpha="1"/>'), "id of a Layer must be an integer, got 'one'"),
    "digits": (
        _xml('<Layer id="0" r_edges="0,1" n_bin_alpha="' + "9" * 5000 + '"/>'),
        "n_bin_alpha of a Layer must be an integer",
    ),
    "no edges": (_xml('<Layer id="0" n_bin_alpha="1"/>'), "r_edges must be numbers, got None"),
    "words": (_xml('<Layer id="0" r_edges="0,a" n_bin_alpha="1"/>'), "r_edges must be numbers, got '0,a'"),
    "descending": (_xml('<Layer id="0" r_edges="0,2,1" n_bin_alpha="1"/>'), "2 or more ascending numbers"),
    "infinite": (_xml('<Layer id="0" r_edges="0,inf" n_bin_alpha="1"/>'), "2 or more ascending numbers"),
    "negative": (_xml('<Layer id="0" r_edges="-1,1" n_bin_alpha="1"/>'), "a radius must be at least 0"),
    "no angle": (_xml('<Layer id="0" r_edges="0,1" n_bin_alpha="0"/>'), "num_alpha: 0 was given"),
    "too many cells": (_xml('<Layer id="0" r_edges="0,1" n_bin_alpha="999999999"/>'), "it has 999,999,999 cells"),
    "no cells": (_xml('<Layer id="0" r_edges="0" n_bin_alpha="1"/>'), "it has 0 cells"),
}


@pytest.mark.parametrize(("text", "message"), XML.values(), ids=XML)
def test_a_malicious_binning_is_one_error(tmp_path, text, message):
    (tmp_path / "b.xml").write_text(text)
    with pytest.raises(ValueError, match=message) as error:
        read_binning(tmp_path / "b.xml")
    assert str(error.value).startswith(str(tmp_path / "b.xml"))
    assert len(str(error.value)) < 400 + len(str(tmp_path))


def test_a_missing_binning_and_a_missing_particle_are_errors(tmp_path, data_folder):
    with pytest.raises(FileNotFoundError, match="there is no such file"):
        read_binning(tmp_path / "b.xml")
    with pytest.raises(ValueError, match=r"no particle is named 'muon'; .*photon \(22\), pion \(211\)"):
        read_binning(data_folder / "binning_supa.xml", "muon")


# ---------------------------------------------------------------------- pickles

GOOD = [[[[0.0, 1.0, 2.0]], [[0.0, 1.0, 2.0]], []]]


def _nested(depth, width=10):
    value: list = [1.0]
    for _ in range(depth):
        value = [value] * width
    return value


def _protocol_2(body: bytes) -> bytes:
    return b"\x80\x02" + body + b"."


_CALL = b"cos\nsystem\nX\x0c\x00\x00\x00touch it-ran\x85R"
PICKLES = {
    "runs a command": (_protocol_2(_CALL), "calls os.system, .* the function was not called"),
    "reduces": (pickle.dumps([Bomb()], protocol=2), "calls posix.mkdir, .* the function was not called"),
    "builtins": (_protocol_2(b"c__builtin__\neval\nX\x08\x00\x00\x001/0 or 1\x85R"), "calls __builtin__.eval"),
    "instance": (b"(ios\nsystem\n.", "has the operation b'i'"),
    "object": (b"(cos\nsystem\no.", "has the operation b'o'"),
    "new object": (pickle.dumps(Exception("a"), protocol=2), "calls .*Exception"),
    "new object of a class": (_protocol_2(b"cos\nPathLike\n)\x81"), "has the operation"),
    "extension": (_protocol_2(b"\x82\x01"), "has the operation"),
    "stack global": (pickle.dumps(os.system, protocol=4), "has a protocol that torch.save does not use"),
    "persistent": (_protocol_2(b"Pabc\n"), "has the operation b'P'"),
    "storage": (_protocol_2(b"(X\x01\x00\x00\x00atQ"), "has the operation b'Q'"),
    "tensor": (_protocol_2(b"ctorch._utils\n_rebuild_tensor_v2\n)R"), "calls torch._utils._rebuild_tensor_v2"),
    "state of a name": (_protocol_2(b"cnumpy\nndarray\n}b"), "sets the state of an object that has no state"),
    "array of objects": (
        pickle.dumps(np.array([None, Bomb()], dtype=object), protocol=2),
        "an array that does not consist of numbers",
    ),
    "array of texts": (pickle.dumps(np.array(["a"]), protocol=2), "an array that does not consist of numbers"),
    "shape": (
        pickle.dumps([np.zeros((7, 3))], protocol=2).replace(b"K\x07K\x03", b"K\x77K\x03"),
        "whose shape does not match its numbers",
    ),
    "truncated": (pickle.dumps(GOOD, protocol=2)[:-3], "truncated|damaged"),
    "length claimed": (_protocol_2(b"X\xff\xff\xff\xff"), "truncated"),
    "memo": (_protocol_2(b"j\xff\xff\xff\x7f"), "damaged"),
    "memo bomb": (_protocol_2(b"]r\xff\xff\xff\x7f"), "has 0 showers"),
    "endless name": (_protocol_2(b"c" + b"a" * 10_000), "name that is too long"),
    "empty stack": (_protocol_2(b"R"), "damaged"),
    "hash bomb": (_protocol_2(b"}" + b")" + b"q\x00h\x00\x86" * 40 + b"Ns"), "damaged"),
    "number": (_protocol_2(b"K\x05"), "must contain a list of showers"),
    "texts": (pickle.dumps([["ab"]], protocol=2), "must contain a list of showers"),
    "two layers": (pickle.dumps([[[], []]], protocol=2), "has 2 layers, but the config has 3"),
    "two numbers": (pickle.dumps([[[[1.0, 2.0]], [], []]], protocol=2), "a point is not"),
    "text coordinate": (pickle.dumps([[[["a", 1.0, 2.0]], [], []]], protocol=2), "not one number"),
    "deep points": (pickle.dumps([[[[[[1.0]], 1.0, 2.0]], [], []]], protocol=2), "."),
    "negative energy": (pickle.dumps([[[[0.0, 1.0, -2.0]], [], []]], protocol=2), "energy: -2.0 was given"),
    "not a number": (pickle.dumps([[[[float("nan"), 1.0, 2.0]], [], []]], protocol=2), "x: nan was given"),
    "lists in lists": (pickle.dumps([_nested(9)], protocol=2), "."),
    "shared points": (
        pickle.dumps([[[[0.0, 1.0, 2.0]] * 1000] * 3] * 1, protocol=2).replace(b"q\x00", b"q\x00"),
        "more than the file can contain",
    ),
}


@pytest.mark.parametrize("write", [torch_files.write_zip, torch_files.write_legacy])
@pytest.mark.parametrize(("content", "message"), PICKLES.values(), ids=PICKLES)
def test_a_malicious_pickle_runs_no_code(tmp_path, monkeypatch, write, content, message):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "shower_batch1.bin", content)
    torch_files.write_zip(tmp_path / "tot_energy_batch1.bin", torch_files.pickled([np.array([65.0])]))
    _refused(tmp_path / "shower_batch1.bin", message, "reference")
    write(tmp_path / "tot_energy_batch1.bin", content)
    torch_files.write_zip(tmp_path / "shower_batch1.bin", torch_files.pickled(GOOD))
    _refused(tmp_path / "shower_batch1.bin", ".", "reference")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["shower_batch1.bin", "tot_energy_batch1.bin"]


def test_invalid_files_of_torch_are_errors(tmp_path):
    path = tmp_path / "shower_batch1.bin"
    energies = tmp_path / "tot_energy_batch1.bin"
    torch_files.write_zip(path, torch_files.pickled(GOOD))
    _refused(path, "there is no tot_energy_batch1.bin in the same folder", "reference")
    torch_files.write_zip(energies, torch_files.pickled([np.array([65.0])] * 2))
    _refused(path, "it has 1 shower, but tot_energy_batch1.bin has 2 energies", "reference")
    torch_files.write_zip(energies, torch_files.pickled([np.array([65.0, 66.0])]))
    _refused(path, "not one number", "reference")
    torch_files.write_zip(energies, torch_files.pickled([np.array([-65.0])]))
    _refused(path, "incident_energy: -65.0 was given", "reference")
    torch_files.write_zip(energies, torch_files.pickled([np.array([65.0])]))
    torch_files.write_zip(path, torch_files.pickled([GOOD[0] * 1]) + b" " * 10**6, compressed=True)
    _refused(path, "data.pkl is compressed", "reference")
    torch_files.write_zip(path, torch_files.pickled(GOOD), member="archive/other.pkl")
    _refused(path, "with one data.pkl", "reference")
    path.write_bytes(pickle.dumps(GOOD, protocol=2))
    _refused(path, "not a file of torch.save", "reference")
    path.rename(tmp_path / "a.bin")
    _refused(tmp_path / "a.bin", "must be named shower_batchK.bin", "reference")
