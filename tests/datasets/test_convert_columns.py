"""Columns of files from other programs: names, shapes, types, missing values and integers."""

import awkward
import h5py
import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import torch_files
import uproot

import supa
import supa_datasets
from supa_datasets import convert, from_awkward, load

COUNTS = [2, 0, 1]
HITS = {"x": [0.5, 1.0, -2.0], "y": [0.0, 3.0, 1.0], "energy": [1.0, 2.0, 4.0], "layer": [0, 2, 1]}
INCIDENT = [65.0, 10.0, 30.0]


def _lists(values) -> awkward.Array:
    return awkward.unflatten(np.array(values), COUNTS)


def _columns(separator: str, **changes) -> dict:
    """Return the hits with one entry per column, such as hits_x. The value None removes a column."""
    columns = {"incident_energy": np.array(INCIDENT)}
    columns |= {f"hits{separator}{name}": _lists(values) for name, values in HITS.items()}
    columns |= {name: column for name, column in changes.items() if column is not None}
    return {name: column for name, column in columns.items() if changes.get(name, column) is not None}


def _records() -> dict:
    return {"incident_energy": np.array(INCIDENT), "hits": awkward.zip({k: _lists(v) for k, v in HITS.items()})}


def _struct_of_lists() -> dict:
    return {
        "incident_energy": np.array(INCIDENT),
        "hits": awkward.zip({k: _lists(v) for k, v in HITS.items()}, depth_limit=1),
    }


def _ttree(path, columns):
    kinds = {
        name: np.dtype((column.dtype, column.shape[1:])) if isinstance(column, np.ndarray) else column.type.content
        for name, column in columns.items()
    }
    with uproot.recreate(path) as file:
        file.mktree("showers", kinds).extend(columns)


def _rntuple(path, columns):
    with uproot.recreate(path) as file:
        file.mkrntuple("showers", columns)


def _parquet(path, columns):
    table = {name: awkward.to_arrow(awkward.Array(column), extensionarray=False) for name, column in columns.items()}
    pyarrow.parquet.write_table(pyarrow.table(table), path)


def _npz(path, columns):
    flat = {n: c if isinstance(c, np.ndarray) else awkward.to_numpy(awkward.flatten(c)) for n, c in columns.items()}
    np.savez(path, hits_offset=np.cumsum([0, *COUNTS]), **flat)


def _read(path) -> supa.Showers:
    target = path.with_name("read.h5")
    convert(path, target, config="standard", to_format="supa", overwrite=True)
    return load(target)


def _check(showers):
    assert showers.num_hits.tolist() == COUNTS
    assert showers.incident_energy.tolist() == INCIDENT
    assert {name: getattr(showers, name).tolist() for name in HITS} == {**HITS}


FILES = {"root": ("a.root", _ttree), "rntuple": ("a.root", _rntuple), "parquet": ("a.parquet", _parquet)}


# ---------------------------------------------------------------------- names


@pytest.mark.parametrize("separator", ["_", ".", "/"])
@pytest.mark.parametrize(("name", "write"), [*FILES.values(), ("a.npz", _npz)], ids=[*FILES, "npz"])
def test_a_column_of_hits_can_have_three_names(tmp_path, name, write, separator):
    write(tmp_path / name, _columns(separator))
    _check(_read(tmp_path / name))
    _check(from_awkward(awkward.zip(_columns(separator), depth_limit=1)))


@pytest.mark.parametrize("make", [_records, _struct_of_lists])
@pytest.mark.parametrize("kind", ["rntuple", "parquet"])
def test_records_of_hits_are_read(tmp_path, make, kind):
    name, write = FILES[kind]
    write(tmp_path / name, make())
    _check(_read(tmp_path / name))
    _check(from_awkward(awkward.zip(make(), depth_limit=1)))


def test_columns_assigned_to_a_root_file_are_read(tmp_path):
    with uproot.recreate(tmp_path / "a.root") as file:
        file["showers"] = _columns("_")  # a TTree before uproot 5.7, an RNTuple since
    _check(_read(tmp_path / "a.root"))


@pytest.mark.parametrize(("name", "write"), FILES.values(), ids=FILES)
def test_lists_may_have_a_fixed_length(tmp_path, name, write):
    columns = {f"hits_{column}": np.array(values + values).reshape(3, 2) for column, values in HITS.items()}
    write(tmp_path / name, {"incident_energy": np.array(INCIDENT), **columns})
    showers = _read(tmp_path / name)
    assert showers.num_hits.tolist() == [2, 2, 2]
    assert sorted(showers.energy.tolist()) == [1, 1, 2, 2, 4, 4]


def test_a_column_with_two_names_is_an_error(tmp_path):
    _parquet(tmp_path / "a.parquet", _columns("_") | {"hits.x": _lists(HITS["x"])})
    with pytest.raises(
        ValueError, match=r"the columns 'hits_x' and 'hits.x' have the same meaning; leave one of them out"
    ):
        _read(tmp_path / "a.parquet")


# ---------------------------------------------------------------------- shapes and types

NESTED = awkward.Array([[[1.0], [2.0]], [], [[4.0, 5.0]]])
WORDS = awkward.Array(["a", "b", "c"])
WRONG = {
    "number for a list": ({"hits_x": np.array(INCIDENT)}, "'hits_x' contains float64, .* a list of numbers per shower"),
    "list for a number": (
        {"incident_energy": _lists(HITS["x"])},
        "'incident_energy' contains lists of float64, .* one number per shower",
    ),
    "pairs": ({"incident_energy": np.ones((3, 2))}, "'incident_energy' contains lists of float64, .* one number per"),
    "lists in lists": ({"hits_energy": NESTED}, "'hits_energy' contains (lists of lists of float64|std::vector)"),
    "texts": ({"incident_energy": WORDS}, "'incident_energy' contains (string|char)"),
    "booleans": ({"hits_y": _lists([True, False, True])}, "'hits_y' contains lists of bool"),
    "missing": (
        {"hits_y": None},
        "'hits/y' is missing, and so are 'hits_y' and 'hits.y'; the columns are .*hits_layer",
    ),
    "numbers for records": (
        {"hits_x": None, "hits": _lists(HITS["x"])},
        "'hits/x' is missing: the column 'hits' contains (lists of float64|std::vector<double>|double..), .* records",
    ),
    "lengths": (
        {"hits_y": awkward.Array([[1.0, 2.0], [3.0], [4.0]])},
        "'hits_(energy|x)' and 'hits_y' have lists of different lengths in shower 1",
    ),
}


@pytest.mark.parametrize("kind", FILES)
@pytest.mark.parametrize(("changes", "message"), WRONG.values(), ids=WRONG)
def test_a_column_of_another_shape_is_named(tmp_path, kind, changes, message):
    name, write = FILES[kind]
    columns = _columns("_", **changes)
    if kind != "root" or changes.get("hits_energy") is not NESTED:  # uproot writes no lists of lists to a TTree
        write(tmp_path / name, columns)
        with pytest.raises(ValueError, match=message) as error:
            _read(tmp_path / name)
        assert str(error.value).startswith(str(tmp_path / name))
    with pytest.raises(ValueError, match=message):
        from_awkward(awkward.zip(columns, depth_limit=1))


@pytest.mark.parametrize("kind", [pyarrow.decimal128(4, 1), pyarrow.map_(pyarrow.string(), pyarrow.int64())])
def test_a_type_that_awkward_lacks_is_named(tmp_path, kind):
    table = {name: awkward.to_arrow(awkward.Array(c), extensionarray=False) for name, c in _columns("_").items()}
    unused = pyarrow.array([None] * 3, kind)
    pyarrow.parquet.write_table(pyarrow.table(table | {"weight": unused}), tmp_path / "a.parquet")
    _check(_read(tmp_path / "a.parquet"))
    pyarrow.parquet.write_table(pyarrow.table(table | {"incident_energy": unused}), tmp_path / "a.parquet")
    with pytest.raises(ValueError, match=r"'incident_energy' contains (decimal128\(4, 1\)|map)"):
        _read(tmp_path / "a.parquet")


@pytest.mark.parametrize(
    ("column", "message"),
    [
        (np.ones((3, 1)), r"'incident_energy' must be one-dimensional numbers, got float64 \(3, 1\)"),
        (np.array([True] * 3), "got bool"),
        (np.array([1j] * 3), "got complex128"),
    ],
)
def test_an_array_of_another_shape_is_named(tmp_path, column, message):
    _npz(tmp_path / "a.npz", _columns("_", incident_energy=column))
    with pytest.raises(ValueError, match=message):
        _read(tmp_path / "a.npz")
    np.savez(tmp_path / "a.npz", hits=np.zeros(3, "f4,f4"), incident_energy=INCIDENT)
    with pytest.raises(ValueError, match=r"'hits/x' is missing: the column 'hits' contains \[\('f0', '<f4'\)"):
        _read(tmp_path / "a.npz")


# ---------------------------------------------------------------------- missing values


def _hit(**changes):
    return {"x": 0.5, "y": 0.0, "energy": 2.0, "layer": 1, **changes}


def _both(tmp_path, rows):
    """Return functions that read the rows from Parquet and from an awkward array."""
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "a.parquet")
    return [lambda: _read(tmp_path / "a.parquet"), lambda: from_awkward(awkward.Array(rows))]


def test_a_missing_list_is_a_shower_without_hits(tmp_path):
    rows = [{"incident_energy": 1.0, "hits": hits} for hits in ([_hit()], None, [], [_hit(), _hit()])]
    flat = [
        {"incident_energy": 1.0} | {f"hits_{name}": hits and [hit[name] for hit in hits] for name in _hit()}
        for hits in (row["hits"] for row in rows)
    ]
    for read in (*_both(tmp_path, rows), *_both(tmp_path, flat)):
        showers = read()
        assert showers.num_hits.tolist() == [1, 0, 0, 2]
        assert showers.energy.tolist() == [2, 2, 2]


@pytest.mark.parametrize("nothing", [None, []])
@pytest.mark.parametrize("names", [["hits"], [f"hits_{name}" for name in HITS]])
def test_all_showers_can_be_without_hits(tmp_path, nothing, names):
    rows = [{"incident_energy": 1.0} | dict.fromkeys(names, nothing)] * 3
    for read in _both(tmp_path, rows):
        assert read().num_hits.tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"hits": [_hit(), _hit(energy=None)]}, "'hits/energy' has a missing value .null. in shower 4099"),
        ({"hits": [_hit(x=None)]}, "'hits/x' has a missing value .null. in shower 4099"),
        ({"hits": [_hit(layer=None)]}, "'hits/layer' has a missing value .null. in shower 4099"),
        ({"hits": [_hit(), None]}, "'hits/.*' has a missing value .null. in shower 4099"),
        ({"hits": [], "incident_energy": None}, "'incident_energy' has a missing value .null. in shower 4099"),
    ],
)
def test_a_missing_number_is_named_with_its_first_shower(tmp_path, row, message):
    """Shower 4099 is in the second batch of a Parquet file."""
    good = {"incident_energy": 1.0, "hits": [_hit()]}
    rows = [good] * 4099 + [good | row] * 3
    for read in _both(tmp_path, rows):
        with pytest.raises(ValueError, match=message):
            read()


def test_optional_types_without_missing_values_are_read(tmp_path):
    optional = awkward.mask(awkward.Array([1.0, 2.0, 4.0]), [True, True, True])
    columns = _columns("_", incident_energy=optional)
    columns["hits_x"] = awkward.mask(awkward.unflatten(optional, COUNTS), [True, True, True])
    assert "?" in str(columns["hits_x"].type)
    _rntuple(tmp_path / "a.root", columns)
    _parquet(tmp_path / "a.parquet", columns)
    for showers in (
        *(_read(tmp_path / n) for n in ("a.root", "a.parquet")),
        from_awkward(awkward.zip(columns, depth_limit=1)),
    ):
        assert showers.incident_energy.tolist() == [1, 2, 4]
        assert sorted(showers.x.tolist()) == [1, 2, 4]


def test_missing_values_in_an_rntuple(tmp_path):
    columns = _columns("_")
    some = {n: awkward.mask(column, [True, True, False]) for n, column in columns.items() if n.startswith("hits")}
    _rntuple(tmp_path / "a.root", columns | some)
    assert _read(tmp_path / "a.root").num_hits.tolist() == [2, 0, 0]
    _rntuple(tmp_path / "a.root", columns | {"incident_energy": awkward.Array([1.0, None, 2.0])})
    with pytest.raises(ValueError, match="'incident_energy' has a missing value"):
        _read(tmp_path / "a.root")


def test_a_data_frame_in_parquet_is_read(tmp_path):
    pandas = pytest.importorskip("pandas")
    rows = [[_hit(), _hit()], None, [_hit()]]
    frame = pandas.DataFrame({"incident_energy": pandas.array([1, 2, 3], dtype="Int64"), "hits": rows})
    frame.to_parquet(tmp_path / "a.parquet")
    assert _read(tmp_path / "a.parquet").num_hits.tolist() == [2, 0, 1]
    frame.loc[1, "incident_energy"] = pandas.NA
    frame.to_parquet(tmp_path / "a.parquet")
    with pytest.raises(ValueError, match="'incident_energy' has a missing value"):
        _read(tmp_path / "a.parquet")


# ---------------------------------------------------------------------- integers

WHOLE = ["i1", "u1", ">i2", "u2", "i4", ">u4", "i8", "u8"]
KINDS = [*WHOLE, "f2", ">f4", "f8"]
COLUMNS = {"incident_energy": [64, 10, 30], "x": [1, 3, -2], "y": [0, 3, 1], "energy": [1, 2, 4]}


def _column(name, kind):
    values = np.array(COLUMNS[name])
    return (values if "i" in kind or "f" in kind else np.abs(values)).astype(kind)


def _whole_columns(kind):
    columns = {"hits_layer": _lists(HITS["layer"]), "incident_energy": _column("incident_energy", kind)}
    return columns | {f"hits_{name}": _lists(_column(name, kind)) for name in ("x", "y", "energy")}


@pytest.mark.parametrize(
    "kind", [kind for kind in KINDS if kind[0] != ">"]
)  # awkward supports only the byte order of this machine
@pytest.mark.parametrize("file", FILES)
def test_numbers_of_every_width_are_read(tmp_path, file, kind):
    name, write = FILES[file]
    if "root" in name and kind == "f2":
        kind = "f4"  # uproot writes no float16
    write(tmp_path / name, _whole_columns(kind))
    for showers in (_read(tmp_path / name), from_awkward(awkward.zip(_whole_columns(kind), depth_limit=1))):
        assert {key: getattr(showers, key).tolist() for key in COLUMNS} == {
            k: _column(k, kind).tolist() for k in COLUMNS
        }


@pytest.mark.parametrize("kind", KINDS)
def test_arrays_of_every_width_are_read(tmp_path, kind):
    arrays = {f"hits_{name}": _column(name, kind) for name in ("x", "y", "energy")}
    _npz(
        tmp_path / "a.npz",
        {"incident_energy": _column("incident_energy", kind), "hits_layer": _lists(HITS["layer"]), **arrays},
    )
    showers = _read(tmp_path / "a.npz")
    assert {key: getattr(showers, key).tolist() for key in COLUMNS} == {k: _column(k, kind).tolist() for k in COLUMNS}


@pytest.mark.parametrize("kind", KINDS)
def test_cells_and_points_can_be_integers(tmp_path, kind):
    grid = supa.Grid([supa.Polar([0, 1, 2], 2)] * 3)
    cells = np.arange(24).reshape(2, 12).astype(kind)
    with h5py.File(tmp_path / "voxels.h5", "w") as file:
        file["incident_energies"], file["showers"] = np.array([[100], [50]]).astype(kind), cells
    target = tmp_path / "a.h5"
    convert(tmp_path / "voxels.h5", target, to_format="supa", binning=grid, config="standard")
    assert load(target).incident_energy.tolist() == [0.1, 0.05]
    np.testing.assert_allclose(1000 * grid.energies(load(target)), cells, rtol=1e-6)
    images = [np.full((2, *part.shape), 3).astype(kind) for part in supa.CALOGAN.parts]
    with h5py.File(tmp_path / "images.h5", "w") as file:
        file["energy"] = np.array([[100], [50]]).astype(kind)
        for layer, image in enumerate(images):
            file[f"layer_{layer}"] = image
    convert(tmp_path / "images.h5", target, to_format="supa", config="standard", overwrite=True)
    assert load(target).incident_energy.tolist() == [100, 50]
    np.testing.assert_allclose(load(target).energy, 0.003, rtol=1e-6)
    with h5py.File(tmp_path / "points.h5", "w") as file:
        number = np.dtype(kind).newbyteorder("=")
        points = file.create_dataset("showers", (2,), h5py.vlen_dtype(number))
        points[0], points[1] = np.array([1, 2, 7, 3, 4, 5, 8, 6]).astype(number), np.array([1, 0, 9, 2]).astype(number)
        file["shape"], file["num_points"], file["shower_ids"] = [2, 2, 4], [2, 1], [0, 1]
        file["energies"], file["directions"] = np.array([[9], [8]]).astype(kind), np.array([[0, 0, 1]] * 2).astype(kind)
    convert(tmp_path / "points.h5", target, to_format="supa", config="standard", overwrite=True)
    assert load(target).energy.tolist() == [3, 6, 2]
    assert load(target).y.tolist() == [2, 5, 0]


@pytest.mark.parametrize("kind", KINDS)
def test_pickled_arrays_can_be_integers(tmp_path, kind):
    layer = np.array([[0, 1, 2], [3, 4, 5]]).astype(kind)
    torch_files.write_zip(tmp_path / "shower_batch1.bin", torch_files.pickled([[layer, list(layer), []]]))
    torch_files.write_zip(tmp_path / "tot_energy_batch1.bin", torch_files.pickled([np.array([65]).astype(kind)[0]]))
    showers = _read(tmp_path / "shower_batch1.bin")
    assert showers.incident_energy.tolist() == [65]
    assert showers.energy.tolist() == [2, 5, 2, 5]


@pytest.mark.parametrize(
    "voxels", [np.ones((2, 12), bool), np.ones((2, 12), "c8"), np.full((2, 12), b"a")], ids=["bool", "complex", "text"]
)
def test_cells_that_are_not_numbers_are_an_error(tmp_path, voxels):
    with h5py.File(tmp_path / "voxels.h5", "w") as file:
        file["incident_energies"], file["showers"] = np.ones((2, 1)), voxels
    grid = supa.Grid([supa.Polar([0, 1, 2], 2)] * 3)
    with pytest.raises(ValueError, match=r"'showers' must be numbers of shape 2x12, got .* \(2, 12\)"):
        convert(tmp_path / "voxels.h5", tmp_path / "a.h5", to_format="supa", binning=grid)


@pytest.mark.parametrize("kind", ["bool", ">f4"])
def test_points_that_are_not_numbers_are_an_error(tmp_path, kind):
    made = supa.from_hits("standard", offset=[0] * 4, incident_energy=[1] * 3, x=[], y=[], energy=[], layer=[])
    supa_datasets.save(made, tmp_path / "a.h5")
    convert(tmp_path / "a.h5", tmp_path / "points.h5", to_format="showerdata")
    with h5py.File(tmp_path / "points.h5", "r+") as file:
        del file["showers"]
        file.create_dataset("showers", (3,), h5py.vlen_dtype(np.dtype(kind)))[:] = [np.ones(4, kind)] * 3
    with pytest.raises(ValueError, match=f"the points must be lists of numbers .*, got {kind}"):
        convert(tmp_path / "points.h5", tmp_path / "b.h5", from_format="showerdata", to_format="supa")
