"""Files of ``showerdata``, the exchange format of the FLC group at DESY: points (x, y, depth index, energy).

The layout is that of showerdata 0.7.0. The library itself is not needed.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from supa import Ragged, Run, ShowerConfig, Showers, from_hits
from supa.grids import Depth
from supa.ragged import counts_to_offsets
from supa_datasets.conversion.foreign_hdf5 import created, dataset, make_room, opened, stored_config
from supa_datasets.conversion.formats import Choices, Format, Source
from supa_datasets.conversion.run_json import imported
from supa_datasets.conversion.untrusted_input import check_memory, spans

_DEPTH = "supa_depth"
_PHOTON = 22
_VERSION = "0.7.0"
_LARGEST_ID = np.iinfo(np.int32).max


@contextmanager
def _read(path: Path, choices: Choices) -> Iterator[Source]:
    with opened(path) as file:
        config = choices.config_for(stored_config(file))
        depth = _depth(file, choices)
        shape = dataset(file, "shape", (3,), "iu")[:].tolist()
        total, features = shape[0], shape[2]
        if total < 0 or features not in (4, 5):
            raise ValueError(f"its shape is {shape}, but it must be (showers, points, 4 or 5)")
        points = dataset(file, "showers", (total,), "O")
        number = h5py.check_vlen_dtype(points.dtype)
        if number.kind not in "fiu" or not number.isnative:  # h5py does not convert the byte order of lists
            raise ValueError(f"the points must be lists of numbers in the byte order of this machine, got {number}")
        counts = dataset(file, "num_points", (total,), "iu")
        columns = {
            "energies": dataset(file, "energies", (total, 1)),
            "directions": dataset(file, "directions", (total, 3)),
            "shower_ids": dataset(file, "shower_ids", (total,), "iu"),
        }
        check_memory(counts.nbytes, "the numbers of points")
        claimed = np.maximum(counts[:], 0, dtype=np.int64)
        if features == 5:
            choices.note("The times of the points are left out.")

        def chunk(start: int, stop: int) -> Showers:
            check_memory(number.itemsize * features * int(claimed[start:stop].sum()), f"showers {start} to {stop - 1}")
            rows = {name: column[start:stop] for name, column in columns.items()}
            return _showers(config, depth, points[start:stop], features, rows)

        chunks = (chunk(a, b) for a, b in spans(total, int(claimed.sum())))
        yield Source(imported(config, total), total, False, chunks)


def _depth(file: h5py.File, choices: Choices) -> Depth:
    told = file.attrs.get(_DEPTH)
    if told is None:
        return choices.depth or "slice"
    if told not in ("slice", "layer"):
        raise ValueError(f"its attribute {_DEPTH!r} is neither 'slice' nor 'layer'")
    if choices.depth not in (None, told):
        raise ValueError(f"it states that the depth of its points is the {told}, but {choices.depth!r} was given")
    return "slice" if told == "slice" else "layer"


def _showers(config: ShowerConfig, depth: Depth, points: Any, features: int, rows: dict[str, Any]) -> Showers:
    sizes = np.array([len(flat) for flat in points], dtype=np.int64)
    if (sizes % features).any():
        raise ValueError(
            f"a shower has {sizes[sizes % features > 0][0]} numbers, which is not a multiple of {features} per point"
        )
    flat = np.concatenate(points) if len(points) else np.empty(0, np.float32)
    table = flat.reshape(-1, features)
    real = table[:, 3] != 0  # in showerdata, points without energy are padding
    owner = np.repeat(np.arange(len(points)), sizes // features)[real]
    x, y, z, energy = (np.ascontiguousarray(table[real, k]) for k in range(4))
    if not ((z >= 0) & (z < 255) & (z == np.floor(z))).all():
        raise ValueError(f"a point's depth is not the number of a {depth}")
    incident = rows["energies"][:, 0].astype(np.float64)
    number: dict[str, Any] = {depth: z.astype(np.int64)}
    return from_hits(
        config,
        offset=counts_to_offsets(np.bincount(owner, minlength=len(points))),
        incident_energy=incident,
        x=x,
        y=y,
        energy=energy,
        **number,
        primaries=_primaries(incident, rows["directions"].astype(np.float64)),
        index=rows["shower_ids"],
    )


def _primaries(incident: Any, directions: Any) -> Ragged:
    x, y, z = directions.T
    if not (np.isfinite(directions).all() and (z > 0).all()):
        raise ValueError("a direction is not finite or does not point into the calorimeter (z must be above 0)")
    none = np.zeros(len(incident))
    columns = {"energy": incident, "x": none, "y": none, "slope_x": x / z, "slope_y": y / z}
    return Ragged(columns, np.arange(len(incident) + 1, dtype=np.int64))


def _write(path: Path, source: Source, choices: Choices) -> None:
    depth, run = choices.depth or "slice", source.run
    choices.note(
        "showerdata files store the hits and the direction of the first primary, but not the primaries or the leaked "
        "energy."
    )
    with created(path, run.config) as file:
        file.attrs["showerdata_version"] = _VERSION
        file.attrs[_DEPTH] = depth
        n = source.total
        points = file.create_dataset("showers", (n,), h5py.vlen_dtype(np.float32))
        columns = {
            "energies": file.create_dataset("energies", (n, 1), "f4"),
            "directions": file.create_dataset("directions", (n, 3), "f4"),
            "pdg": file.create_dataset("pdg", (n,), "i4"),
            "shower_ids": file.create_dataset("shower_ids", (n,), "i4"),
            "num_points": file.create_dataset("num_points", (n,), "i4"),
        }
        start = most = 0
        for showers in source.chunks:
            stop = start + len(showers)
            make_room(file, 20 * showers.hits.num_rows + 200 * len(showers))
            _write_points(points, start, _points(showers, depth, run))
            columns["energies"][start:stop, 0] = showers.incident_energy
            columns["directions"][start:stop] = _directions(showers)
            columns["pdg"][start:stop] = _PHOTON
            columns["shower_ids"][start:stop] = _ids(showers)
            columns["num_points"][start:stop] = showers.num_hits
            most, start = max(most, int(showers.num_hits.max(initial=0))), stop
        file.create_dataset("shape", data=np.array([n, most, 4], dtype=np.int64))


def _points(showers: Showers, depth: Depth, run: Run) -> Any:
    """Return one flat float32 array per shower with x, y, depth and energy of each hit."""
    if depth == "slice" and not showers.slices_known:
        raise ValueError(
            f"these showers ({run.engine}) have only the layers of their hits; use the layer as depth (--depth layer)"
        )
    number = showers.slice if depth == "slice" else showers.layer
    table = np.stack([showers.x, showers.y, number, showers.energy], axis=1, dtype=np.float32, casting="same_kind")
    lists = np.empty(len(showers), dtype=object)
    for k, (first, last) in enumerate(zip(showers.offset[:-1], showers.offset[1:], strict=True)):
        lists[k] = table[first:last].ravel()
    return lists


def _write_points(points: h5py.Dataset, start: int, lists: Any) -> None:
    if not len(lists):
        return
    # The assignment of h5py fails for lists of equal length (h5py issue 2429).
    space = points.id.get_space()
    space.select_hyperslab((start,), (len(lists),))
    lists = lists.astype(points.dtype)
    points.id.write(h5py.h5s.create_simple((len(lists),)), space, lists, h5py.h5t.py_create(points.dtype))


def _directions(showers: Showers) -> Any:
    """Return (n, 3) unit vectors along the first primary of each shower, or along the axis without a primary."""
    directions = np.tile([0.0, 0.0, 1.0], (len(showers), 1))
    some = np.flatnonzero(showers.num_primaries)
    first = showers.primaries.offset[:-1][some]
    directions[some, 0] = showers.primaries["slope_x"][first]
    directions[some, 1] = showers.primaries["slope_y"][first]
    return directions / np.linalg.norm(directions, axis=1, keepdims=True)


def _ids(showers: Showers) -> Any:
    largest = int(showers.index.max(initial=0))
    if largest > _LARGEST_ID:
        raise ValueError(f"shower_ids have 32 bits, but the largest index of the showers is {largest}")
    return showers.index


SHOWERDATA = Format(
    "showerdata",
    "files of showerdata, the exchange format of the DESY group",
    _read,
    _write,
    datasets=("showers", "num_points", "shape"),
)
