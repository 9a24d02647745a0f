"""Shower files: round trips, reproducible bytes, resume, and clear errors for damaged files."""

import hashlib
import itertools
import multiprocessing
import os
import pathlib
import pickle
import signal
import subprocess
import sys
import time
import warnings

import h5py
import numpy as np
import pytest
from forked import run_forked
from workers import exit_with_shower_7, read_shower

import supa
import supa_datasets
from supa import Showers
from supa_datasets import ShowerFile, ShowerWriter


@pytest.fixture(scope="module")
def showers() -> Showers:
    return supa.simulate(300, "two-primaries", seed=8, energy="log:1:100", record="particles")


@pytest.fixture
def path(tmp_path, showers):
    supa_datasets.save(showers, tmp_path / "showers.h5")
    return tmp_path / "showers.h5"


def _digest(path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _stored(showers: Showers) -> dict[str, list]:
    """Return the columns in the types of the file."""
    tables = {"hits": showers.hits, "primaries": showers.primaries, "particles": showers.particles}
    columns = {"index": showers.index, "incident": showers.incident_energy, "leaked": showers.leaked_energy}
    for table, rows in tables.items():
        if rows is not None:
            columns[f"{table} offset"] = rows.offset
            for name, column in rows.columns.items():
                real = column.dtype.kind == "f" and table != "primaries"
                columns[f"{table} {name}"] = column.astype(np.float32) if real else column
    return {name: column.tolist() for name, column in columns.items()}


def test_saved_showers_are_loaded(showers, path):
    loaded = supa_datasets.load(path)
    assert _stored(loaded) == _stored(showers)
    assert loaded.run == showers.run
    assert loaded.x.dtype == loaded.energy.dtype == np.float32
    assert loaded == supa_datasets.load(path)


@pytest.mark.parametrize("compression", supa_datasets.COMPRESSIONS)
def test_every_compression_gives_the_same_showers(tmp_path, showers, compression):
    if compression in ("lz4", "zstd"):
        pytest.importorskip("hdf5plugin")
    supa_datasets.save(showers, tmp_path / "c.h5", compression=compression)
    assert _stored(supa_datasets.load(tmp_path / "c.h5")) == _stored(showers)
    with ShowerFile(tmp_path / "c.h5") as file:
        assert (file.compression == "none") == (compression == "none")


def test_a_file_can_have_no_showers(tmp_path):
    supa_datasets.save(supa.simulate(0), tmp_path / "none.h5")
    assert len(supa_datasets.load(tmp_path / "none.h5")) == 0


@pytest.mark.parametrize(
    "key",
    [
        slice(10, 20),
        slice(None),
        slice(0, 300, 7),
        slice(5, 5),
        3,
        -1,
        [5, 3, 3, 299, -1],
        [],
        np.arange(300) % 50 == 0,
    ],
)
def test_reading_a_selection_equals_selecting_from_all(path, key):
    with ShowerFile(path) as file:
        assert len(file) == 300
        assert file[key] == supa_datasets.load(path)[key]


def test_columns_and_iteration_read_everything(showers, path):
    with ShowerFile(path) as file:
        assert file.column("hits", "energy").tolist() == showers.energy.astype(np.float32).tolist()
        assert file.column("showers", "offset").tolist() == showers.offset.tolist()
        assert file.num_hits.tolist() == showers.num_hits.tolist()
        assert Showers.concatenate(list(file)) == file[:]
        assert Showers.concatenate(list(file.chunks(70))) == file[:]
        assert file.has_particles
        assert file.run == showers.run
        with pytest.raises(ValueError, match="no column hits/z; the columns of 'hits' are"):
            file.column("hits", "z")
        with pytest.raises(ValueError, match="there is no column steps/x; the tables are hits"):
            file.column("steps", "x")
        with pytest.raises(IndexError, match="Shower 300 does not exist"):
            file[300]


def test_the_attributes_describe_the_run(path):
    with h5py.File(path) as file:
        attributes = dict(file.attrs)
        assert attributes["format"] == "supa-showers"
        assert attributes["version"] == 1
        assert attributes["energy_unit"] == "GeV"
        assert (attributes["seed"], attributes["first"], attributes["attempts"]) == (8, 0, 300)
        assert supa.ShowerConfig.from_json(attributes["config"]).spectrum == supa.EnergySpectrum.parse("log:1:100")
        assert attributes["version of supa-showers"] == supa.__version__
        assert set(file) == {"hits", "showers", "primaries", "particles", "progress"}
        assert file["hits/x"].dtype == np.float32
        assert file["hits/slice"].dtype == np.uint8


def test_a_closed_file_raises_an_error(path):
    file = ShowerFile(path)
    file.close()
    assert "closed" in repr(file)
    with pytest.raises(ValueError, match="was closed; open it again"):
        file[0]


# A spawned process takes seconds to import what it needs, and two of them show no more than one.
@pytest.mark.parametrize(("method", "workers"), [("fork", 2), ("spawn", 1)])
def test_workers_read_an_open_file(path, method, workers):
    with ShowerFile(path) as file, warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        expected = [file[k].x.tobytes() for k in range(20)]
        with multiprocessing.get_context(method).Pool(workers) as pool:
            results = pool.starmap_async(read_shower, [(file, k) for k in range(20)]).get(timeout=120)
        assert results == expected


def test_a_forked_child_reopens_the_file(path):
    with ShowerFile(path) as file, warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        child = multiprocessing.get_context("fork").Process(target=exit_with_shower_7, args=(file, file[7].x.tobytes()))
        child.start()
        child.join(60)
        assert child.exitcode == 0
        assert file[7].num_hits[0] > 0


def test_a_pickled_file_is_opened_again(path):
    with ShowerFile(path) as file:
        assert pickle.loads(pickle.dumps(file))[3] == file[3]


# ---------------------------------------------------------------------- bytes


def _pieces(showers: Showers, *cuts: int) -> list[Showers]:
    edges = [0, *cuts, len(showers)]
    pieces = []
    for a, b in itertools.pairwise(edges):
        piece = showers[a:b]
        pieces.append(
            supa.simulate(len(piece), "two-primaries", seed=8, energy="log:1:100", record="particles", first=a)
        )
    return pieces


@pytest.mark.usefixtures("small_chunks")
def test_bytes_do_not_depend_on_the_division_into_pieces(tmp_path, showers):
    digests = set()
    for k, cuts in enumerate([(), (1,), (39, 40, 41), tuple(range(7, 300, 7))]):
        with ShowerWriter(tmp_path / f"{k}.h5", showers.run, has_particles=True) as writer:
            for piece in _pieces(showers, *cuts):
                writer.append(piece)
        digests.add(_digest(tmp_path / f"{k}.h5"))
        time.sleep(0.3)  # would reveal a time stamp in the file
    assert len(digests) == 1


@pytest.mark.usefixtures("small_chunks")
def test_a_batch_is_written_if_there_are_particles_but_no_hits(tmp_path):
    """Otherwise the trees of thousands of showers would accumulate in memory."""
    config = supa.preset("standard").replace(stop_amplitude=0.0, split_early=0.3, split_late=0.1)
    showers, buffered = supa.simulate(200, config, seed=1, record="particles"), []
    with ShowerWriter(tmp_path / "a.h5", showers.run, has_particles=True) as writer:
        for piece in supa.stream(200, config, seed=1, record="particles", chunk_size=7):
            writer.append(piece)
            buffered.append(writer._buffer._rows["particles"].length - writer._buffer._rows["particles"]._first)
    assert showers.hits.num_rows == 0
    assert max(buffered) < 5000 < showers.particles.num_rows
    assert supa_datasets.load(tmp_path / "a.h5").index.tolist() == showers.index.tolist()
    with ShowerWriter(tmp_path / "whole.h5", showers.run, has_particles=True) as writer:
        writer.append(showers)
    assert _digest(tmp_path / "a.h5") == _digest(tmp_path / "whole.h5")


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("stops", [(0,), (1,), (57,), (120, 121), (10, 200, 250)])
def test_an_interrupted_file_resumes_to_the_same_bytes(tmp_path, showers, stops):
    with ShowerWriter(tmp_path / "whole.h5", showers.run, has_particles=True) as writer:
        writer.append(showers)
    path = tmp_path / "parts.h5"
    for stop in (*stops, 300):
        writer = ShowerWriter(path, showers.run, has_particles=True, resume=True)
        assert writer.next_attempt == writer.num_showers
        count = stop - writer.num_showers
        writer.append(
            supa.simulate(
                count, "two-primaries", seed=8, energy="log:1:100", record="particles", first=writer.next_attempt
            )
        )
        if stop < 300:
            writer.suspend()
            assert not path.exists()
    writer.finish()
    assert _digest(path) == _digest(tmp_path / "whole.h5")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["parts.h5", "whole.h5"]


def test_a_finished_file_can_be_extended(tmp_path):
    whole = supa.simulate(100, seed=1)
    supa_datasets.save(whole, tmp_path / "whole.h5")
    supa_datasets.save(supa.simulate(60, seed=1), tmp_path / "grown.h5")
    with ShowerWriter(tmp_path / "grown.h5", whole.run, resume=True) as writer:
        writer.append(supa.simulate(40, seed=1, first=writer.next_attempt))
    assert _digest(tmp_path / "grown.h5") == _digest(tmp_path / "whole.h5")


def test_an_exception_keeps_the_partial_file(tmp_path, showers):
    def fail() -> None:
        with ShowerWriter(tmp_path / "a.h5", showers.run) as writer:
            writer.append(showers[:50])
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        fail()
    assert [p.name for p in tmp_path.iterdir()] == ["a.h5.partial"]
    assert ShowerWriter(tmp_path / "a.h5", showers.run, resume=True).num_showers == 50


def test_a_file_is_not_overwritten_by_accident(tmp_path, showers):
    path = tmp_path / "a.h5"
    supa_datasets.save(showers, path)
    before = _digest(path)
    with pytest.raises(FileExistsError, match="exists; choose another name"):
        supa_datasets.save(showers[:3], path)
    ShowerWriter(path, showers.run, overwrite=True).suspend()
    assert _digest(path) == before
    with pytest.raises(FileExistsError, match=r"a\.h5\.partial contains an unfinished run; resume it"):
        ShowerWriter(path, showers.run)
    supa_datasets.save(showers[:3], path, overwrite=True)
    assert len(supa_datasets.load(path)) == 3


def test_only_the_same_run_is_resumed(tmp_path):
    run = supa.simulate(1, seed=1).run
    ShowerWriter(tmp_path / "a.h5", run).suspend()
    for other, difference in (
        (supa.simulate(1, seed=2).run, "seed is 1 there, 2 here"),
        (supa.simulate(1, seed=1, first=3).run, "first is 0 there, 3 here"),
        (supa.simulate(1, seed=1, keep="complete").run, "keep is 'all' there, 'complete' here"),
        (supa.simulate(1, "no-pass", seed=1).run, r"split_early is 0\.6 there, 1\.0 here"),
    ):
        with pytest.raises(ValueError, match=f"another run .{difference}"):
            ShowerWriter(tmp_path / "a.h5", other, resume=True)
    with pytest.raises(ValueError, match="another choice of record"):
        ShowerWriter(tmp_path / "a.h5", run, has_particles=True, resume=True)
    with pytest.raises(ValueError, match="mutually exclusive"):
        ShowerWriter(tmp_path / "a.h5", run, resume=True, overwrite=True)
    assert [p.name for p in tmp_path.iterdir()] == ["a.h5.partial"]


def test_two_writers_of_one_file_are_an_error(tmp_path):
    run = supa.simulate(1).run
    first = ShowerWriter(tmp_path / "a.h5", run)
    with pytest.raises(ValueError, match="another process is writing"):
        ShowerWriter(tmp_path / "a.h5", run, resume=True)
    with pytest.raises(ValueError, match="another process is writing"):
        ShowerWriter(tmp_path / "a.h5", run, overwrite=True)
    first.suspend()


def test_a_second_writer_does_not_harm_the_first(tmp_path):
    """This includes a writer that extends a finished file and has no partial file yet."""
    whole = supa.simulate(100, seed=1)
    supa_datasets.save(supa.simulate(60, seed=1), tmp_path / "a.h5")
    first = ShowerWriter(tmp_path / "a.h5", whole.run, resume=True)
    assert not (tmp_path / "a.h5.partial").exists()
    for options in ({"resume": True}, {"overwrite": True}, {}):
        with pytest.raises(ValueError, match="another process is writing"):
            ShowerWriter(tmp_path / "a.h5", whole.run, **options)
    first.append(supa.simulate(40, seed=1, first=60))
    first.finish()
    supa_datasets.save(whole, tmp_path / "whole.h5")
    assert _digest(tmp_path / "a.h5") == _digest(tmp_path / "whole.h5")


def test_showers_of_another_run_are_not_appended(tmp_path, showers):
    with ShowerWriter(tmp_path / "a.h5", showers.run, has_particles=True) as writer:
        for other, message in (
            (supa.simulate(1), "another run .seed is 0 there, 8 here"),
            (supa.simulate(1, seed=8), "another run .incident_energy is '65.0' there"),
            (supa.simulate(1, "two-primaries", energy="log:1:100", seed=8), "lack the recorded particles"),
            (
                supa.simulate(1, "two-primaries", energy="log:1:100", seed=8, first=5, record="particles"),
                "but the next one is 0",
            ),
        ):
            with pytest.raises(ValueError, match=message):
                writer.append(other)
        writer.append(showers[:3])


def test_a_selection_is_saved_but_not_resumed(tmp_path):
    showers = supa.simulate(10)
    supa_datasets.save(showers[[7, 2]], tmp_path / "a.h5")
    assert supa_datasets.load(tmp_path / "a.h5").index.tolist() == [7, 2]
    assert supa_datasets.load(tmp_path / "a.h5").run.attempts is None
    with pytest.raises(ValueError, match="it contains a selection of showers"):
        ShowerWriter(tmp_path / "a.h5", showers.run, resume=True)


def test_resumable_returns_the_reusable_showers(tmp_path):
    showers = supa.simulate(10)
    assert supa_datasets.resumable(tmp_path / "a.h5", showers.run) == (0, False)
    writer = ShowerWriter(tmp_path / "a.h5", showers.run)
    writer.append(showers)
    writer.suspend()
    assert supa_datasets.resumable(tmp_path / "a.h5", showers.run) == (10, False)
    ShowerWriter(tmp_path / "a.h5", showers.run, resume=True).finish()
    assert supa_datasets.resumable(tmp_path / "a.h5", showers.run) == (10, True)


STEPS = ["attrs.modify", "close", "synchronise", "replace"]


def _die_while_finishing(step, path):
    def die(*_, **__):
        os.kill(os.getpid(), signal.SIGKILL)

    writer = ShowerWriter(path, supa.simulate(0, seed=1).run)
    writer.append(supa.simulate(50, seed=1))
    writer._write_rest()
    owner, name = {
        "attrs.modify": (h5py.AttributeManager, "modify"),
        "close": (h5py.File, "close"),
        "synchronise": (supa.atomic_file, "sync_to_disk"),
        "replace": (pathlib.Path, "replace"),
    }[step]
    setattr(owner, name, die)
    writer.finish()


@pytest.mark.parametrize("step", STEPS)
def test_a_kill_at_any_step_of_finishing_can_be_resumed(tmp_path, step):
    path = tmp_path / "a.h5"
    assert run_forked(_die_while_finishing, step, path) == -signal.SIGKILL
    assert not path.exists()
    if step in ("attrs.modify", "close"):
        with pytest.raises(ValueError, match=r"a\.h5\.partial: it is unfinished; finish it first"):
            ShowerFile(f"{path}.partial")
    ShowerWriter(path, supa.simulate(0, seed=1).run, resume=True).finish()
    supa_datasets.save(supa.simulate(50, seed=1), tmp_path / "whole.h5")
    assert _digest(path) == _digest(tmp_path / "whole.h5")


def test_a_link_is_followed_and_a_device_is_left_alone(tmp_path, showers):
    (tmp_path / "link.h5").symlink_to(tmp_path / "real.h5")
    supa_datasets.save(showers, tmp_path / "link.h5")
    assert (tmp_path / "link.h5").is_symlink()
    assert len(supa_datasets.load(tmp_path / "real.h5")) == 300
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(ValueError, match="it is not a regular file"):
        supa_datasets.save(showers, tmp_path / "fifo", overwrite=True)


@pytest.mark.parametrize("ending", ["fresh", "partial"])
@pytest.mark.parametrize("kind", ["symbolic", "dangling", "hard"])
def test_a_planted_link_is_not_followed(tmp_path, showers, ending, kind):
    mine, planted, path = tmp_path / "mine.txt", tmp_path / f"a.h5.{ending}", tmp_path / "a.h5"
    mine.write_text("mine")
    if kind == "hard":
        planted.hardlink_to(mine)
    else:
        planted.symlink_to(mine if kind == "symbolic" else tmp_path / "absent")
    try:
        supa_datasets.save(showers[:3], path, overwrite=True)
    except ValueError as error:
        assert f"a.h5.{ending}, which would be written, is a link" in str(error)  # noqa: PT017  (or it works)
        assert not path.exists()
        assert planted.exists() or planted.is_symlink()
    else:
        assert len(supa_datasets.load(path)) == 3
    assert mine.read_text() == "mine"
    assert not (tmp_path / "absent").exists()
    planted.unlink(missing_ok=True)
    supa_datasets.save(showers[:3], path, overwrite=True)


def test_a_missing_folder_and_an_unknown_compression_are_errors(tmp_path, showers, monkeypatch):
    with pytest.raises(FileNotFoundError, match="absent does not exist; make it first"):
        supa_datasets.save(showers, tmp_path / "absent" / "a.h5")
    with pytest.raises(ValueError, match="compression: 'rar' was given"):
        supa_datasets.save(showers, tmp_path / "a.h5", compression="rar")
    monkeypatch.setitem(sys.modules, "hdf5plugin", None)
    with pytest.raises(ValueError, match=r"needs the package hdf5plugin: pip install 'supa-showers\[compression\]'"):
        supa_datasets.save(showers, tmp_path / "a.h5", compression="zstd")
    assert list(tmp_path.iterdir()) == []


# ---------------------------------------------------------------------- damage


def _edit(change):
    def apply(path):
        with h5py.File(path, "r+") as file:
            change(file)

    return apply


def _replace(file, name, values):
    del file[name]
    file[name] = values


def _lengthen(file, showers):
    file["progress"][0] = showers
    for name in ("index", "incident_energy", "leaked_energy"):
        file[f"showers/{name}"].resize(showers, axis=0)


def _huge_chunks(file):
    rows = len(file["hits/x"])
    del file["hits/x"]
    file.create_dataset("hits/x", (rows,), "f4", maxshape=(None,), chunks=(2**30 - 1,), compression="gzip")


DAMAGES = {
    "empty": (lambda path: path.write_bytes(b""), "not an HDF5 file, or it is damaged"),
    "text": (lambda path: path.write_text("hello"), "not an HDF5 file"),
    "half": (lambda path: os.truncate(path, path.stat().st_size // 2), "damaged or truncated"),
    "last byte gone": (lambda path: os.truncate(path, path.stat().st_size - 1), "damaged or truncated"),
    "first bytes": (lambda path: path.write_bytes(b"x" * 64 + path.read_bytes()[64:]), "not an HDF5 file"),
    "foreign": (_edit(lambda f: f.attrs.modify("format", "showerdata")), "not of the format 'supa-showers'"),
    "no format": (_edit(lambda f: f.attrs.pop("format")), "not of the format"),
    "newer": (_edit(lambda f: f.attrs.modify("version", 2)), "its version is 2, but .* up to 1; update it"),
    "odd version": (_edit(lambda f: f.attrs.create("version", "x")), "its version must be a positive integer, got 'x'"),
    "no config": (_edit(lambda f: f.attrs.pop("config")), "the attribute 'config' is missing"),
    "bad config": (_edit(lambda f: f.attrs.modify("config", "{")), "not valid JSON"),
    "odd config": (_edit(lambda f: f.attrs.modify("config", '{"num_slices": -1}')), "num_slices: -1 was given"),
    "bad keep": (
        _edit(lambda f: f.attrs.modify("keep", "some")),
        "attributes keep and engine have invalid values: .'some'",
    ),
    "no column": (_edit(lambda f: f.pop("hits/energy")), "the column 'hits/energy' is missing"),
    "no group": (_edit(lambda f: f.pop("primaries")), "the column 'primaries/offset' is missing"),
    "short column": (_edit(lambda f: f["hits/x"].resize(5, axis=0)), "'hits/x' has 5 rows, but the offsets end at"),
    "short offsets": (_edit(lambda f: f["showers/offset"].resize(5, axis=0)), "'showers/offset' has 5 rows for 300"),
    "no progress, no attempts": (_edit(lambda f: f.attrs.pop("attempts")), "the attribute 'attempts' is missing"),
    "negative seed": (_edit(lambda f: f.attrs.create("seed", -5)), "the attribute 'seed' has the invalid value -5"),
    "infinite seed": (
        _edit(lambda f: f.attrs.create("seed", np.inf)),
        "the attribute 'seed' has the invalid value inf",
    ),
    "array for engine": (
        _edit(lambda f: f.attrs.create("engine", np.arange(3))),
        "the attribute 'engine' has the invalid value array",
    ),
    "unknown engine": (
        _edit(lambda f: f.attrs.modify("engine", "magic")),
        "keep and engine have invalid values: .'all', 'magic'",
    ),
    "odd attempts": (
        _edit(lambda f: f.attrs.modify("attempts", -5)),
        "the attribute 'attempts' has the invalid value -5",
    ),
    "deep config": (_edit(lambda f: f.attrs.modify("config", "[" * 100_000)), "not valid JSON"),
    "huge number": (
        _edit(lambda f: f.attrs.modify("config", '{"slice_spacing": 1' + "0" * 400 + "}")),
        "a whole number of 401 digits was given",
    ),
    "external link": (
        _edit(lambda f: (f.pop("hits/x"), f.__setitem__("hits/x", h5py.ExternalLink("other.h5", "/x")))),
        "'hits/x' is missing",
    ),
    "external storage": (
        _edit(
            lambda f: (
                f.pop("hits/x"),
                f.create_dataset("hits/x", (9,), "f4", external=[("/etc/hostname", 0, 36)]),
            )
        ),
        "'hits/x' is stored in another file",
    ),
    "wrapping offsets": (
        _edit(lambda f: f["showers/offset"].__setitem__(slice(1, 5), [2**62, -(2**63), -(2**62), 0])),
        "must be whole numbers that ascend",
    ),
    "endless offsets": (
        _edit(lambda f: (_lengthen(f, 2**40), f["showers/offset"].resize(2**40 + 1, axis=0))),
        "the offsets of its 1,099,511,627,776 showers do not fit into the memory",
    ),
    "short index": (_edit(lambda f: f["showers/index"].resize(5, axis=0)), "has 5 rows for 300 showers"),
    "long index": (_edit(lambda f: f["showers/index"].resize(301, axis=0)), "has 301 rows for 300 showers"),
    "huge chunks": (
        _edit(lambda f: _huge_chunks(f)),
        "the column 'hits/x' has chunks of 1,073,741,823 rows, which exceed",
    ),
    "no progress": (_edit(lambda f: f.pop("progress")), "the column 'progress' is missing"),
    "empty progress": (
        _edit(lambda f: _replace(f, "progress", np.zeros(0, "i8"))),
        "'progress' must have 1 row, got 0",
    ),
    "scalar progress": (
        _edit(lambda f: _replace(f, "progress", np.int64(300))),
        r"'progress' must be one-dimensional i8, got int64 \(\)",
    ),
    "null progress": (
        _edit(lambda f: _replace(f, "progress", h5py.Empty("i8"))),
        "'progress' must be one-dimensional i8, got int64 None",
    ),
    "negative progress": (_edit(lambda f: f["progress"].__setitem__(0, -1)), "'progress' must not be negative, got -1"),
    "other progress": (_edit(lambda f: f["progress"].__setitem__(0, 299)), "has 300 rows for 299 showers"),
    "MeV": (_edit(lambda f: f.attrs.modify("energy_unit", "MeV")), "'energy_unit' must be 'GeV', got 'MeV'"),
    "degrees": (_edit(lambda f: f.attrs.modify("angle_unit", "deg")), "'angle_unit' must be 'rad;.*', got 'deg'"),
    "array for format": (_edit(lambda f: f.attrs.create("format", np.arange(3))), "not of the format"),
    "reference": (
        _edit(lambda f: f.attrs.create("first", f["hits"].ref)),
        "the attribute 'first' has the invalid value <HDF5 object",
    ),
    "key given twice": (
        _edit(lambda f: f.attrs.modify("config", '{"deviation": 0.1, "deviation": 0.2}')),
        "the key 'deviation' is given twice",
    ),
    "descending": (_edit(lambda f: f["showers/offset"].__setitem__(3, 10**6)), "must be whole numbers that ascend"),
    "not from 0": (_edit(lambda f: f["showers/offset"].__setitem__(0, 1)), "must be whole numbers that ascend"),
    "wrong type": (
        _edit(lambda f: _replace(f, "hits/slice", np.zeros(9, "f8"))),
        "must be one-dimensional u1, got float64 .9,.",
    ),
    "wrong shape": (_edit(lambda f: _replace(f, "hits/x", np.zeros((3, 3), "f4"))), "must be one-dimensional"),
    "group for column": (_edit(lambda f: (f.pop("hits/x"), f.create_group("hits/x"))), "'hits/x' is missing"),
}


@pytest.mark.parametrize(("damage", "message"), DAMAGES.values(), ids=DAMAGES.keys())
def test_a_damaged_file_is_one_clear_error(path, damage, message):
    damage(path)
    with pytest.raises(ValueError, match=message) as caught:
        ShowerFile(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


IMPOSSIBLE = {
    "NaN energy": (lambda f: f["hits/energy"].__setitem__(3, np.nan), "a hit's energy is not possible"),
    "negative energy": (lambda f: f["hits/energy"].__setitem__(3, -1), "a hit's energy is not possible"),
    "infinite position": (lambda f: f["hits/x"].__setitem__(3, np.inf), "a hit's position"),
    "slice": (lambda f: f["hits/slice"].__setitem__(3, 200), "a hit's slice"),
    "layer": (lambda f: f["hits/layer"].__setitem__(3, 2), "a hit's layer"),
    "primary": (lambda f: f["hits/primary"].__setitem__(3, 2), "a hit's primary"),
    "incident energy": (lambda f: f["showers/incident_energy"].__setitem__(3, 0), "an incident energy"),
    "leak": (lambda f: f["showers/leaked_energy"].__setitem__(3, np.nan), "a leaked energy"),
    "slope": (lambda f: f["primaries/slope_x"].__setitem__(3, np.nan), "a primary's position or direction"),
    "parent": (lambda f: f["particles/parent"].__setitem__(3, 4000), "a particle's parent"),
    "fate": (lambda f: f["particles/fate"].__setitem__(3, 9), "a particle's fate"),
    "no tree": (lambda f: f["particles/parent"].__setitem__(slice(None), 0), "a particle's parent"),
    "too many stops": (lambda f: f["particles/fate"].__setitem__(slice(None), 0), "the number of hits"),
    "depth": (lambda f: f["particles/slice"].__setitem__(3, 99), "a particle's slice"),
}


@pytest.mark.parametrize(("damage", "message"), IMPOSSIBLE.values(), ids=IMPOSSIBLE.keys())
def test_impossible_values_are_one_clear_error(path, damage, message):
    _edit(damage)(path)
    with pytest.raises(ValueError, match=f"it is damaged: {message}") as caught:
        supa_datasets.load(path)
    assert str(caught.value).startswith(str(path))


def test_every_flipped_byte_is_an_error_or_harmless(path):
    """After a flipped byte, the file is either read or reported as damaged in one error.

    A flipped bit of a mantissa cannot be detected.
    """
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    errors = 0
    for at in [*range(0, 600, 7), *rng.integers(0, len(whole), 60)]:
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0xFF]) + whole[at + 1 :])
        try:
            with ShowerFile(path) as file:
                file[:]
        except ValueError as error:
            message = str(error)
            errors += 1
        else:
            continue
        assert message.startswith(str(path))
    assert errors > 20


PLACES = [
    "hits", "hits/x", "hits/layer", "showers", "showers/index", "showers/offset", "primaries", "primaries/energy",
    "primaries/offset", "particles", "particles/fate", "particles/offset", "progress",
]  # fmt: skip


def _beyond(how, file, place, other):
    """Move a part of a file into another file."""
    dataset = file[place] if isinstance(file[place], h5py.Dataset) else None
    shape, kind = (dataset.shape, dataset.dtype) if dataset is not None else (None, None)
    del file[place]
    if how == "external link":
        file[place] = h5py.ExternalLink(other, place)
    elif how == "soft link":
        file["elsewhere"] = h5py.ExternalLink(other, "/")
        file[place] = h5py.SoftLink(f"/elsewhere/{place}")
    elif how == "dangling link":
        file[place] = h5py.SoftLink("/nowhere")
    elif how == "external storage":
        file.create_dataset(place, shape, kind, external=[(other, 0, h5py.h5f.UNLIMITED)])
    else:
        layout = h5py.VirtualLayout(shape, kind)
        layout[...] = h5py.VirtualSource(other, place, shape)
        file.create_virtual_dataset(place, layout)


@pytest.mark.parametrize("place", PLACES)
def test_nothing_outside_of_the_file_is_read(tmp_path, path, place):
    """Parts that are stored in another file are rejected, even if their values are the same."""
    other, whole, run = tmp_path / "other.h5", path.read_bytes(), supa_datasets.load(path).run
    other.write_bytes(whole)
    hows = ["external link", "soft link", "dangling link"]
    for how in hows if "/" not in place and place != "progress" else [*hows, "external storage", "virtual dataset"]:
        path.write_bytes(whole)
        with h5py.File(path, "r+") as file:
            _beyond(how, file, place, str(other))
        (tmp_path / "a.h5.partial").write_bytes(path.read_bytes())
        wanted = f"{place}.*(is missing: .* is a link|is stored in another file)"
        with pytest.raises(ValueError, match=wanted):
            ShowerFile(path)
        with pytest.raises(ValueError, match=wanted):
            ShowerWriter(tmp_path / "a.h5", run, has_particles=True, resume=True)


def test_only_columns_of_the_format_are_readable(path):
    with h5py.File(path, "r+") as file:
        file["hits/extra"] = h5py.ExternalLink("/etc/hostname", "/")
        file["extra"] = h5py.SoftLink("/hits")
    with ShowerFile(path) as file:
        for table, name in (("hits", "extra"), ("extra", "x"), ("hits", "../hits/x"), ("/hits", "x"), (".", "hits/x")):
            with pytest.raises(ValueError, match="there is no column"):
                file.column(table, name)


def test_a_missing_file_and_a_folder_are_errors(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no such file"):
        ShowerFile(tmp_path / "absent.h5")
    with pytest.raises(ValueError, match="it is a folder"):
        ShowerFile(tmp_path)
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(ValueError, match="it is not a regular file"):
        ShowerFile(tmp_path / "fifo")


def test_a_damaged_partial_file_is_an_error_without_an_endless_wait(tmp_path, showers):
    """In SWMR read mode, HDF5 would retry forever."""
    with ShowerWriter(tmp_path / "a.h5", showers.run, has_particles=True) as writer:
        writer.append(showers)
        writer.suspend()
    partial = tmp_path / "a.h5.partial"
    content = bytearray(partial.read_bytes())
    heads = [k for k in range(len(content)) if content[k : k + 4] == b"OHDR"]
    for place, message in (
        (heads[0], "it is"),
        (heads[3], "it is damaged"),
        (20, "its superblock has a wrong checksum"),
    ):
        damaged = content.copy()
        damaged[place + 10] ^= 0xFF
        partial.write_bytes(damaged)
        with pytest.raises(ValueError, match=rf"a\.h5\.partial: .*{message}"):
            ShowerWriter(tmp_path / "a.h5", showers.run, has_particles=True, resume=True)


def test_a_damaged_partial_file_is_not_resumed(tmp_path):
    run = supa.simulate(1).run
    (tmp_path / "a.h5.partial").write_bytes(b"rubbish")
    with pytest.raises(ValueError, match=r"a\.h5\.partial: it is not an HDF5 file, or it is damaged"):
        ShowerWriter(tmp_path / "a.h5", run, resume=True)
    assert [p.name for p in tmp_path.iterdir()] == ["a.h5.partial"]
    ShowerWriter(tmp_path / "a.h5", run, overwrite=True).suspend()


FULL = """
import resource, sys
import supa, supa_datasets

showers = supa.simulate(60_000, seed=1)
for limit in sys.argv[2:]:
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit), resource.RLIM_INFINITY))
    try:
        supa_datasets.save(showers, sys.argv[1])
    except OSError as error:
        print(error)
"""


def test_a_full_disk_is_one_clear_error(tmp_path):
    """Limits on the file size simulate full disks. HDF5 must not print more errors or crash."""
    path = tmp_path / "a.h5"
    limits = ("0", "3000", "100000", "40000000")
    result = subprocess.run([sys.executable, "-c", FULL, path, *limits], capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr) == (0, "")
    errors = result.stdout.splitlines()
    assert len(errors) == len(limits)
    assert all("the file cannot be written (File too large)" in error for error in errors)
    assert not path.exists()
    assert "showers are saved in a.h5.partial" in errors[-1]
    whole = supa.simulate(60_000, seed=1)
    with ShowerWriter(path, whole.run, resume=True) as writer:
        assert writer.num_showers > 10_000
        writer.append(supa.simulate(60_000 - writer.num_showers, seed=1, first=writer.next_attempt))
    assert supa_datasets.load(path).index.tolist() == whole.index.tolist()
